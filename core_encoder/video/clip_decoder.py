"""From a clip of an open video to the parts that an encoder takes: the frames of every view that is not stored."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence

import torch

from core_encoder.clip_bounds import Overrun
from core_encoder.clip_plan import Clip, View
from core_encoder.errors import InputError, UnreadableVideo
from core_encoder.features.feature_spec import ClipKey, FeatureKey, FeatureSpec
from core_encoder.video.decoders import open_video
from core_encoder.video.decoding import ClipDone, ClipFailed, ClipFrames, Closed, FrameQueue, Part, Source
from core_encoder.video.reader import VideoReader
from core_encoder.video.video_files import video_digest

log = logging.getLogger(__name__)


class ClipDecoder:
    """Reads the frames of clips as the features of one pass need them; `number` says which pass of a run it is."""

    def __init__(
        self,
        spec: FeatureSpec,
        *,
        frames_per_part: int,
        may_share: bool,
        is_cached: Callable[[ClipKey], bool],
        has_record: Callable[[FeatureKey], bool],
        number: int = 0,
    ) -> None:
        self.spec = spec
        self.number = number
        self.frames_per_part = frames_per_part
        self.is_cached = is_cached
        self.may_share = may_share
        self._has_record = has_record

    def views_of(self, video: VideoReader, clip: Clip, key: ClipKey) -> tuple[View, ...]:
        """The views of a clip.

        Raises:
            UnreadableVideo: it starts after the end of the video.
        """
        return self.spec.plan.views_of(video.facts, key.clip_in(clip.path))

    def parts(self, video: VideoReader, clip: Clip, key: ClipKey) -> Iterator[Part]:
        """The frames of the views that are not stored, or that there are none.

        Raises:
            UnreadableVideo: a frame cannot be decoded.
        """
        views = self.views_of(video, clip, key)
        missing = tuple(view for view in views if not self._has_record(key.view(view.index)))
        if not missing:  # another process finished this clip meanwhile
            yield ClipDone(clip, key, number=self.number)
            return
        source = Source(clip, key, video.facts, len(views))
        frames = sorted({index for view in views for index in view.frame_indices})
        shared = self.may_share and len(frames) < sum(len(set(view.frame_indices)) for view in views)
        if shared:
            groups = self._shared_groups(views, missing, frames)
        else:
            groups = [((view,), list(view.frame_indices)) for view in missing]
        video.expect(sorted({index for _, indices in groups for index in indices}))
        for count, (new_views, indices) in enumerate(groups, start=1):
            pixels = torch.from_numpy(video.read(indices, self.spec.preprocessing))
            last = count == len(groups)
            yield ClipFrames(source, new_views, tuple(indices), pixels, shared, last, self.number)

    def failed(self, clip: Clip, key: ClipKey | None, error: Exception, overrun: Overrun | None = None) -> ClipFailed:
        """That a clip could not be decoded, and why."""
        return ClipFailed(clip, key, reason_of(clip.path, error), overrun, self.number)

    def _shared_groups(
        self, views: Sequence[View], missing: Sequence[View], frames: list[int]
    ) -> list[tuple[tuple[View, ...], list[int]]]:
        """The frames that missing views need, in groups, the first of which brings the views.

        Groups are cut where those of a whole run are, and views that end in them come along though they are stored:
        a run that goes on makes the same batches, and so the same values, as one that was never stopped. No view is
        longer than a group.
        """
        step = self.frames_per_part
        group_of = {index: place // step for place, index in enumerate(frames)}
        ends = {group_of[view.frame_indices[-1]] for view in missing}
        chosen = sorted(ends | {end - 1 for end in ends if end})
        known = set(chosen)
        here = tuple(view for view in views if {group_of[view.frame_indices[i]] for i in (0, -1)} <= known)
        groups = [frames[number * step : (number + 1) * step] for number in chosen]
        return [(here if place == 0 else (), indices) for place, indices in enumerate(groups)]


class ClipsOfFiles:
    """Given clips as jobs of decode workers: those of one file are one job, so that it is opened once."""

    def __init__(self, clips: Sequence[Clip], decoder: ClipDecoder, queue: FrameQueue) -> None:
        self._decoder = decoder
        self._queue = queue
        self._claimed: set[ClipKey] = set()
        self._lock = threading.Lock()
        self._by_file: dict[str, list[Clip]] = {}
        for clip in clips:
            self._by_file.setdefault(clip.path, []).append(clip)

    def jobs(self) -> list[Callable[[int], None]]:
        """One for each file; given how many threads the decoder may have, it puts the file's parts into the queue."""
        return [
            lambda threads, path=path, clips=clips: self._decode_file(path, clips, threads)  # type: ignore[misc]
            for path, clips in self._by_file.items()
        ]

    def _decode_file(self, path: str, clips: Sequence[Clip], num_threads: int) -> None:
        try:
            digest = video_digest(path)
        except Exception as error:
            for clip in clips:
                self._fail(clip, None, error)
            return
        missing = []
        for clip in clips:
            key = ClipKey.of(clip, digest)
            with self._lock:
                repeated = key in self._claimed
                self._claimed.add(key)
            if repeated or self._decoder.is_cached(key):
                self._queue.put(ClipDone(clip, key, repeated))
            else:
                missing.append((clip, key))
        if not missing:
            return
        left, spec = deque(missing), self._decoder.spec
        try:
            decoder, through = spec.decoder.partition("-")[0], spec.plan.sampling == "dense"
            with open_video(path, decoder, num_threads, read_through=through) as video:
                while left:
                    try:
                        for part in self._decoder.parts(video, *left[0]):
                            self._queue.put(part)
                    except Closed:
                        raise
                    except Exception as error:
                        self._fail(*left[0], error, Overrun.of(left[0][0], video.facts))
                    left.popleft()
        except Closed:
            raise
        except Exception as error:
            for clip, key in left:
                self._fail(clip, key, error)

    def _fail(self, clip: Clip, key: ClipKey | None, error: Exception, overrun: Overrun | None = None) -> None:
        self._queue.put(self._decoder.failed(clip, key, error, overrun))


def reason_of(path: str, error: Exception) -> str:
    """Why a file could not be decoded: whatever a damaged one makes a decoder raise costs its clips, never the run."""
    log.debug("%s: not decoded", path, exc_info=error)
    if isinstance(error, UnreadableVideo):
        return error.reason  # without the path: other files of the same bytes fail for it, too
    return str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
