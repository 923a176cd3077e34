"""decord: frames by their number, where counting them is exact; else it is refused."""

from __future__ import annotations

import functools
import importlib.util
from types import ModuleType

import numpy as np

from core_encoder.errors import UnreadableVideo
from core_encoder.video.frames import ArrayFrame, DecodedFrame
from core_encoder.video.reader import VideoReader
from core_encoder.video.timeline import Timeline
from core_encoder.video.video_bytes import VideoBytes


class DecordReader(VideoReader):
    decoder = "decord"

    def __init__(self, video: VideoBytes, num_threads: int, timeline: Timeline) -> None:
        super().__init__(video.path, timeline)
        self._bytes = video
        self._num_threads = num_threads
        try:
            self._check()
        except BaseException:
            self.close()
            raise

    def _check(self) -> None:
        """Open the file, and refuse it where its frames cannot be had by their numbers."""
        path, timeline = self.path, self.timeline
        if timeline.decord_trouble:
            raise UnreadableVideo(path, f"decord {timeline.decord_trouble}; use decoder 'pyav'")
        if self._bytes.local is None:
            raise UnreadableVideo(path, "decord opens whole files, and this lies inside of one; use decoder 'pyav'")
        self._open()
        if len(self._video) != self.facts.num_frames:
            raise UnreadableVideo(
                path,
                f"decord counts {len(self._video)} frames, the timestamps {self.facts.num_frames}; use decoder 'pyav'",
            )

    def _open(self) -> None:
        decord = decord_module()
        self._next = 0
        try:
            # The tolerance makes decord raise where it would hand out another frame for one that it cannot decode.
            self._video = decord.VideoReader(
                str(self._bytes.opened()), ctx=decord.cpu(0), num_threads=self._num_threads, fault_tol=1e-9
            )
        except (decord.DECORDError, RuntimeError, AssertionError, UnicodeEncodeError) as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: Exception) -> UnreadableVideo:
        """decord's messages are a C++ stack trace under one line of reason."""
        line = str(error).strip().partition("\n")[0]
        reason = line.rpartition(".cc:")[2].partition(":")[2] or line or type(error).__name__
        return UnreadableVideo(self.path, f"decord cannot decode it: {reason.strip()[:160]}; decoder 'pyav' may")

    def decode(self, index: int, patient: bool = True) -> DecodedFrame:
        decord = decord_module()
        try:
            if self.timeline.keys_divide:
                frame = self._video[index]
            else:
                if index < self._next:
                    self._open()
                while self._next <= index:
                    frame = self._video.next()
                    self._next += 1
        except (
            decord.DECORDError,
            decord.DECORDLimitReachedError,
            RuntimeError,
            StopIteration,
            IndexError,
        ) as error:
            raise self._unreadable(error) from error
        # With another bridge set by the caller's code it is already a tensor.
        pixels = frame.asnumpy() if hasattr(frame, "asnumpy") else np.asarray(frame)
        if pixels.shape[2] != 3:  # rows of some narrow pictures are padded, which decord takes for further channels
            height, width = pixels.shape[:2]
            pixels = np.ascontiguousarray(pixels.reshape(height, -1)[:, : 3 * width]).reshape(height, width, 3)
        return ArrayFrame(pixels)

    def close(self) -> None:
        self._video = None
        self._bytes.close()


@functools.cache
def has_decord() -> bool:
    return importlib.util.find_spec("decord") is not None


@functools.cache
def decord_module() -> ModuleType:
    import decord

    decord.logging.set_level(decord.logging.QUIET)  # it writes to stderr past Python; errors are raised all the same
    return decord
