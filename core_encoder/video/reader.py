"""An open video: its facts, and the pixels of chosen frames, each resized as it is decoded."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from core_encoder.clip_plan import VideoFacts
from core_encoder.errors import UnreadableVideo
from core_encoder.preprocessing import Crop, Preprocessing
from core_encoder.video.frames import DecodedFrame
from core_encoder.video.timeline import Timeline


class VideoReader(ABC):
    """An open video: its `facts`, and `read` for the pixels of chosen frames."""

    decoder: str

    def __init__(self, path: str, timeline: Timeline) -> None:
        self.path = path
        self.timeline = timeline

    @property
    def facts(self) -> VideoFacts:
        return self.timeline.facts

    def expect(self, indices: Sequence[int]) -> None:  # noqa: B027
        """Say which frames will be read until the next call, so that others need not be decoded; changes no pixel."""

    def read(
        self,
        indices: Sequence[int],
        preprocessing: Preprocessing | Crop | None = None,
        out: NDArray[np.uint8] | None = None,
    ) -> NDArray[np.uint8]:
        """Decode the frames at `indices`, in that order, to uint8 `(T, H, W, 3)`; a repeated index is decoded once.

        Each frame is resized as it is decoded, straight into `out`, or into one new array.

        Raises:
            UnreadableVideo: one of the frames cannot be decoded, or is damaged.
            IndexError: an index is outside the video.
        """
        rows: dict[int, list[int]] = {}
        for row, index in enumerate(indices):
            if not 0 <= index < self.facts.num_frames:
                raise IndexError(f"{self.path}: frame {index} asked for; the video has {self.facts.num_frames} frames")
            rows.setdefault(int(index), []).append(row)
        height, width = self.facts.height, self.facts.width
        if preprocessing is not None:
            height = width = preprocessing.image_size
        if out is None:
            out = np.empty((len(indices), height, width, 3), dtype=np.uint8)
        for index in sorted(rows):
            frame = self.decode(index).rgb()
            if preprocessing is not None:
                frame = preprocessing.apply(frame)
            elif frame.shape[:2] != (height, width):
                raise UnreadableVideo(
                    self.path, f"frame {index} is {frame.shape[1]} x {frame.shape[0]} pixels, not {width} x {height}"
                )
            out[rows[index]] = frame
        return out

    @abstractmethod
    def decode(self, index: int, patient: bool = True) -> DecodedFrame:
        """One frame, not yet made pixels; fast when called with rising indices.

        A frame that does not come, or comes damaged, is looked for again from the beginning of the file, unless the
        caller is not `patient`: then it is given up at once.

        Raises:
            UnreadableVideo: it cannot be decoded, or is damaged.
        """

    @abstractmethod
    def close(self) -> None:
        """Let go of the file."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        f = self.facts
        size = f"{f.num_frames} frames, {f.duration_s:.2f} s, {f.width} x {f.height}"
        return f"{type(self).__name__.lstrip('_')}({self.path!r}, {size})"
