"""When the feature vectors of a long video are: read from their recorded times and checked, never guessed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from core_encoder.errors import InputError

if TYPE_CHECKING:
    from adapters.features import Example, Times

EVEN = 0.01  # how much a step between two vectors may differ, as a share of the step


@dataclass(frozen=True)
class VectorGrid:
    """`count` vectors, each of a moment: the first at `first_s`, then one every `stride_s`, in seconds of the video.

    `start_s` and `end_s` bound what the video shows. A vector stands for the middle of its window. `stride_s` is None
    where there is one vector alone.
    """

    first_s: float
    stride_s: float | None
    count: int
    start_s: float
    end_s: float

    @classmethod
    def of_windows(cls, times: Times | None, count: int, name: str) -> VectorGrid:
        """The grid of `count` windows with their spans `(W, 2)`.

        Raises:
            InputError: no times, not as many as vectors, or windows that do not start at even steps.
        """
        spans = _spans(times, count, name)
        starts = spans[:, 0]
        length_s = float((spans[:, 1] - starts).max())  # the last windows may be cut at the end of the video
        return cls(
            float(starts[0]) + length_s / 2, _even_step(starts, name), count, float(starts[0]), float(spans[:, 1].max())
        )

    @classmethod
    def of_frames(cls, times: Times | None, windows: int, frames: int, count: int, name: str) -> VectorGrid:
        """The grid of `count` frames in windows that follow one another, each with so many frames.

        Raises:
            InputError: as `of_windows`, or the windows overlap.
        """
        spans = _spans(times, windows, name)
        starts = spans[:, 0]
        step_s = _even_step(starts, name) or float((spans[0, 1] - starts[0]) * frames / count)
        if windows > 1 and abs(step_s - float(spans[0, 1] - starts[0])) > EVEN * step_s:
            raise InputError(
                f"{name}: its windows overlap, so that frames come twice: encode with one window after another"
            )
        stride_s = step_s / frames
        return cls(float(starts[0]) + stride_s / 2, stride_s, count, float(starts[0]), float(spans[:, 1].max()))

    def check_stride(self, learned_s: float, name: str) -> float:
        """The stride, which must be the one that a head learned from.

        Raises:
            InputError: it is another one.
        """
        if self.stride_s is None:
            return learned_s
        if abs(self.stride_s - learned_s) > EVEN * learned_s:
            raise InputError(
                f"{name}: one vector every {self.stride_s:.4g} s, but the adapter learned from one every "
                f"{learned_s:.4g} s: encode with the same --fps and --window-stride"
            )
        return self.stride_s


def example_vectors(example: Example) -> tuple[Tensor, VectorGrid]:
    """The vectors `(N, D)` of one video, windows `(W, D)` or frames of windows `(W, T, D)`, and when they are.

    Raises:
        InputError: the features are of another shape, or their times do not fit them.
    """
    features, mask = example.features, example.mask
    if features.ndim == 2:
        return features.float(), VectorGrid.of_windows(example.times, len(features), example.id)
    if features.ndim != 3:
        given = f"{example.id}: features of shape {tuple(features.shape)}"
        raise InputError(f"{given} are no row of vectors (W, D): encode with --kind clip")
    windows, frames = features.shape[:2]
    real = torch.ones(windows, frames, dtype=torch.bool) if mask is None else mask
    vectors = features.float()[real]  # (N, D)
    return vectors, VectorGrid.of_frames(example.times, windows, frames, len(vectors), example.id)


def _spans(times: Times | None, count: int, name: str) -> Tensor:
    if times is None:
        raise InputError(f"{name}: the times of its features are not known: give the video, or examples with `times`")
    spans = times.span.double().reshape(-1, 2)
    if len(spans) != count:
        raise InputError(f"{name}: {count} vectors but times of {len(spans)}: features and times are not of one plan")
    return spans


def _even_step(starts: Tensor, name: str) -> float | None:
    """The step between starts `(W,)`; None of a single one."""
    if len(starts) < 2:
        return None
    steps = starts.diff()
    step_s = float(steps.median())
    odd = ((steps - step_s).abs() > EVEN * abs(step_s)).nonzero()
    if step_s <= 0 or len(odd):
        place = int(odd[0]) if len(odd) else 0
        raise InputError(
            f"{name}: its vectors are not one every {step_s:.4g} s: those at {float(starts[place]):.4g} s and "
            f"{float(starts[place + 1]):.4g} s differ; sample it by --fps"
        )
    return step_s
