"""Videos cut into clips while they are read through: one decoding for cuts, pictures and every pass of features.

Where the clips are known beforehand, only the frames that they show are decoded. Where they come of the frames, frames
are held until it is settled which clip they belong to, up to a bound in bytes; what did not fit is decoded again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from core_encoder.clip_bounds import Overrun
from core_encoder.clip_plan import Clip, VideoFacts
from core_encoder.features.feature_spec import ClipKey
from core_encoder.video.clip_decoder import ClipDecoder, reason_of
from core_encoder.video.decoders import open_video
from core_encoder.video.decoding import Closed, FrameQueue
from core_encoder.video.frames import DecodedFrame
from core_encoder.video.held_frames import HeldFrames
from core_encoder.video.video_files import video_digest

log = logging.getLogger(__name__)


class Cutter(Protocol):
    """Says which clips a video is cut into, beforehand or while its frames come by."""

    @property
    def clips(self) -> Sequence[Clip] | None:
        """The clips, where they are known beforehand; then no frame is shown."""

    def see(self, index: int, frame: DecodedFrame | None) -> Sequence[Clip]:
        """The clips that are settled by the next frame, None where it is damaged; they and their starts rise."""

    def end(self) -> Sequence[Clip]:
        """The clips that are settled by the end of the video."""

    @property
    def open_s(self) -> float:
        """From where on clips are not settled."""

    def picture(self, frame: DecodedFrame) -> Any:
        """What is kept to show a clip, made of a frame from its middle."""


MakeCutter = Callable[[str, VideoFacts], Cutter]


@dataclass(frozen=True)
class VideoOpened:
    """A video whose clips follow."""

    path: str
    digest: str
    facts: VideoFacts


@dataclass(frozen=True)
class ClipCut:
    """A clip of a video, before any part of it; `picture` is None where its frame is damaged."""

    clip: Clip
    key: ClipKey
    picture: Any


@dataclass(frozen=True)
class VideoCut:
    """A video of which no other clip follows."""

    path: str


@dataclass(frozen=True)
class VideoFailed:
    """A video that cannot be read, wholly or from some clip on."""

    path: str
    reason: str


class CutFiles:
    """Videos that are to be cut as jobs of decode workers; every clip is read by all `decoders`, one a pass."""

    def __init__(
        self,
        paths: Sequence[str],
        make_cutter: MakeCutter,
        decoders: Sequence[ClipDecoder],
        queue: FrameQueue,
        max_bytes: int,
    ) -> None:
        self._paths = tuple(paths)
        self._make_cutter = make_cutter
        self._decoders = decoders
        self._queue = queue
        self._max_bytes = max_bytes

    def jobs(self) -> list[Callable[[int], None]]:
        """One for each file; given how many threads the decoder may have, it puts the file's parts into the queue."""
        return [lambda threads, path=path: self._cut(path, threads) for path in self._paths]  # type: ignore[misc]

    def _cut(self, path: str, num_threads: int) -> None:
        num_threads = max(num_threads, 2)  # this thread looks at frames while others decode the next ones
        try:
            digest = video_digest(path)
            decoder = self._decoders[0].spec.decoder.partition("-")[0]
            with (
                open_video(path, decoder, num_threads, read_through=True) as video,
                HeldFrames(
                    video, lambda: open_video(path, decoder, num_threads, read_through=True), self._max_bytes
                ) as held,
            ):
                cutter = self._make_cutter(path, video.facts)
                self._queue.put(VideoOpened(path, digest, video.facts))
                if cutter.clips is None:
                    self._cut_by_frames(held, cutter, digest)
                else:
                    self._cut_as_given(held, cutter, cutter.clips, digest)
            self._queue.put(VideoCut(path))
        except Closed:
            raise
        except Exception as error:
            self._queue.put(VideoFailed(path, reason_of(path, error)))

    def _cut_by_frames(self, held: HeldFrames, cutter: Cutter, digest: str) -> None:
        for index in range(held.facts.num_frames):
            settled = cutter.see(index, held.hold(index))
            for clip in settled:
                self._take(held, cutter, clip, digest)
            if settled:
                held.let_go(int(held.facts.frames_at(np.array(cutter.open_s))))
        for clip in cutter.end():
            self._take(held, cutter, clip, digest)

    def _cut_as_given(self, held: HeldFrames, cutter: Cutter, clips: Sequence[Clip], digest: str) -> None:
        keys = [ClipKey.of(clip, digest) for clip in clips]
        wanted = [self._frames_of(held, clip, key) for clip, key in zip(clips, keys, strict=True)]
        held.will_hold(sorted(set().union(*wanted)))
        for clip, indices in zip(clips, wanted, strict=True):
            for index in sorted(indices):
                held.hold(index)
            self._take(held, cutter, clip, digest)
            held.let_go(held.facts.num_frames)

    def _frames_of(self, held: HeldFrames, clip: Clip, key: ClipKey) -> set[int]:
        """The frames that the passes show of a clip; none where it is beyond the video, which is said when it is read.

        The first pass's are among them even where its features are stored: one of them is the clip's picture.
        """
        found: set[int] = set()
        for place, decoder in enumerate(self._decoders):
            try:
                views = decoder.views_of(held, clip, key)
            except Exception:
                return set()
            if place == 0 and decoder.is_cached(key):
                found.add(_middle(views))
            elif not decoder.is_cached(key):
                found.update(index for view in views for index in view.frame_indices)
        return found

    def _take(self, held: HeldFrames, cutter: Cutter, clip: Clip, digest: str) -> None:
        key, picture = ClipKey.of(clip, digest), None
        try:
            index = _middle(self._decoders[0].views_of(held, clip, key))
            picture = cutter.picture(held.decode(index, patient=False))
        except Exception as error:
            log.debug("%s: no picture of the clip at %g s", clip.path, clip.start_s, exc_info=error)
        self._queue.put(ClipCut(clip, key, picture))
        for decoder in self._decoders:
            try:
                for part in decoder.parts(held, clip, key):
                    self._queue.put(part)
            except Closed:
                raise
            except Exception as error:
                self._queue.put(decoder.failed(clip, key, error, Overrun.of(clip, held.facts)))


def _middle(views: Sequence[Any]) -> int:
    """The frame in the middle of a clip that its first view shows."""
    view = views[len(views) // 2] if len(views) > 1 else views[0]
    return int(view.frame_indices[view.num_real // 2])
