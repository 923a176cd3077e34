"""Frames that are held for a while after they were decoded, so that whoever finds out later reads them at no cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from core_encoder.errors import UnreadableVideo
from core_encoder.video.frames import DecodedFrame
from core_encoder.video.reader import VideoReader


class HeldFrames(VideoReader):
    """A video that is read through by `hold`, and `read` like any other.

    What is held is not decoded again. What was let go, or did not fit into `max_bytes`, is decoded anew by a second
    reader: no pixel depends on what is held.
    """

    def __init__(self, video: VideoReader, again: Callable[[], VideoReader], max_bytes: int) -> None:
        """Hold frames of `video`; `again` opens the same file another time."""
        super().__init__(video.path, video.timeline)
        self.decoder = video.decoder
        self.max_bytes = max_bytes
        self.num_again = 0  # how many frames were decoded a second time
        self._video = video
        self._again = again
        self._second: VideoReader | None = None
        self._held: dict[int, DecodedFrame] = {}
        self._bytes = 0

    def hold(self, index: int) -> DecodedFrame | None:
        """Decode a frame, later ones after earlier ones, and hold it; None where it is missing or damaged."""
        if index in self._held:
            return self._held[index]
        try:
            frame = self._video.decode(index, patient=False)
        except UnreadableVideo:
            return None
        if self._bytes + frame.nbytes <= self.max_bytes:
            self._held[index] = frame
            self._bytes += frame.nbytes
        return frame

    def let_go(self, before: int) -> None:
        """Hold the frames before this one no longer."""
        for index in [index for index in self._held if index < before]:
            self._bytes -= self._held.pop(index).nbytes

    def will_hold(self, indices: Sequence[int]) -> None:
        """Say which frames are to be held from now on, so that others need not be decoded; changes no pixel."""
        self._video.expect(indices)

    def expect(self, indices: Sequence[int]) -> None:
        if missing := [index for index in indices if index not in self._held]:
            self._reader().expect(missing)

    def decode(self, index: int, patient: bool = True) -> DecodedFrame:
        if index in self._held:
            return self._held[index]
        self.num_again += 1
        return self._reader().decode(index, patient)

    def _reader(self) -> VideoReader:
        if self._second is None:
            self._second = self._again()
        return self._second

    def close(self) -> None:
        self._held.clear()
        self._bytes = 0
        if self._second is not None:
            self._second.close()
            self._second = None
