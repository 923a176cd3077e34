"""Videos given as arrays or tensors instead of files: what counts as one, and its frames.

    (T, H, W, 3)      uint8             one video
    (B, T, H, W, 3)   uint8             B videos
    (B, T, 3, H, W)   float in [0, 1]   B videos; rounded to 8 bits, as the frames of a file are

An array knows no seconds: its frames are counted, as if each were shown for one second. No torch, unless a tensor is
given.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core_encoder.clip_plan import VideoFacts
from core_encoder.errors import InputError

_EXPECTED = "a video in memory is uint8 (T, H, W, 3), or float (B, T, 3, H, W) in [0, 1] for B of them"
_ROUNDING = 1e-3  # how far beyond [0, 1] a float may lie; far less than a grey level


@dataclass(frozen=True, eq=False)
class ArrayVideo:
    """One video in memory: its name, and frames uint8 `(T, H, W, 3)` at full size."""

    name: str
    frames: NDArray[np.uint8]

    @property
    def facts(self) -> VideoFacts:
        """What sampling needs to know: one frame a second."""
        num_frames, height, width, _ = self.frames.shape
        return VideoFacts.constant_rate(num_frames, 1.0, width, height)


def is_array(value: Any) -> bool:
    """Whether `value` is a tensor, or a NumPy array of numbers."""
    return _is_tensor(value) or (isinstance(value, np.ndarray) and value.dtype.kind in "biufc")


def is_float_array(value: Any) -> bool:
    """Whether `value` is a tensor or NumPy array of floats."""
    return is_array(value) and bool(value.is_floating_point() if _is_tensor(value) else value.dtype.kind == "f")


def array_videos(given: Iterable[Any]) -> list[ArrayVideo]:
    """The videos of arrays and tensors of the shapes above, named "0", "1" ... in order.

    Raises:
        InputError: another shape or dtype, no frames, or floats that are not in [0, 1].
    """
    frames = [video for number, one in enumerate(given) for video in _frames_of(one, number)]
    return [ArrayVideo(str(number), video) for number, video in enumerate(frames)]


def _frames_of(given: Any, number: int) -> Iterable[NDArray[np.uint8]]:
    """The frames of each video in one array."""
    shape = tuple(given.shape)
    dtype = str(given.dtype).removeprefix("torch.")
    is_float = is_float_array(given)
    fits = len(shape) == 5 and shape[2] == 3 if is_float else len(shape) in (4, 5) and shape[-1] == 3
    if not fits or not (is_float or dtype == "uint8"):
        raise InputError(f"array {number}: {_EXPECTED}, not {dtype} {shape}")
    if 0 in shape[-4:]:
        raise InputError(f"array {number}: a video without frames or pixels: {dtype} {shape}")
    if _is_tensor(given):
        given = given.detach().cpu()
        given = (given.float() if is_float else given).numpy()
    if not is_float:
        return [given] if len(shape) == 4 else list(given)
    return [_to_8_bits(video, number) for video in given]


def _to_8_bits(video: NDArray[Any], number: int) -> NDArray[np.uint8]:
    """Floats `(T, 3, H, W)` in [0, 1] as uint8 `(T, H, W, 3)`."""
    low, high = float(video.min()), float(video.max())
    if not (low >= -_ROUNDING and high <= 1 + _ROUNDING):  # also where a value is NaN
        hint = "; divide grey levels by 255" if 1 < high <= 255 and low >= 0 else ""
        raise InputError(f"array {number}: float frames lie in [0, 1], but these reach from {low:g} to {high:g}{hint}")
    levels = np.rint(video.astype(np.float32) * 255).clip(0, 255).astype(np.uint8)
    return np.moveaxis(levels, 1, -1)


def _is_tensor(value: Any) -> bool:
    torch = sys.modules.get("torch")  # whoever holds a tensor has imported it
    return torch is not None and isinstance(value, torch.Tensor)
