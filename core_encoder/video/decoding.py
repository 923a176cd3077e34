"""Decode workers: threads that open videos and feed frames to the encoder through a queue bounded in bytes.

Threads, because decoders and resizing let go of Python's lock; each video is opened inside the worker that reads it.
Clips of one file are one job, so that it is opened once.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from core_encoder.clip_bounds import Overrun
from core_encoder.clip_plan import Clip, VideoFacts, View
from core_encoder.errors import InputError, UnreadableVideo
from core_encoder.features.feature_spec import ClipKey, FeatureKey, FeatureSpec, RecordInfo
from core_encoder.video.decoders import open_video
from core_encoder.video.video_files import video_digest

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """The clip that frames come from."""

    clip: Clip
    key: ClipKey
    facts: VideoFacts
    num_views: int

    @property
    def span_s(self) -> float:
        """How many seconds of the video the clip is."""
        end_s = self.facts.duration_s if self.clip.end_s is None else min(self.clip.end_s, self.facts.duration_s)
        return end_s - self.clip.start_s

    @property
    def overrun(self) -> Overrun | None:
        """How the clip ends after its video, where it does."""
        return Overrun.of(self.clip, self.facts)

    def info(self, view: View) -> RecordInfo:
        """What the record of `view` is to know beside its values."""
        times = self.facts.timestamps[np.array(view.frame_indices)]
        return RecordInfo(
            num_views=self.num_views,
            num_real=view.num_real,
            start_s=view.start_s,
            end_s=view.end_s,
            times_s=tuple(round(float(time_s), 6) for time_s in times),
            file_name=Path(self.clip.path).name,
        )


@dataclass(frozen=True)
class ClipFrames:
    """Some frames of a clip.

    Where views share frames (`shared`), the first part brings all views and the parts bring each frame once, rising.
    Otherwise a part is one view with its frames.
    """

    source: Source
    views: tuple[View, ...]
    indices: tuple[int, ...]
    frames: Tensor  # uint8 (F, H, W, 3)
    shared: bool
    last: bool  # no other part of this clip follows


@dataclass(frozen=True)
class ClipDone:
    """A clip with nothing to decode: cached, or the same content as another clip of this run."""

    clip: Clip
    key: ClipKey
    repeated: bool = False


@dataclass(frozen=True)
class ClipFailed:
    """A clip that could not be decoded, wholly or from some frame on."""

    clip: Clip
    key: ClipKey | None
    reason: str
    overrun: Overrun | None = None


Part = ClipFrames | ClipDone | ClipFailed


class _Closed(Exception):
    """The consumer went away."""


@dataclass
class FrameQueue:
    """A queue that holds at most `max_bytes` of frames and `max_parts` parts, or one part that is larger."""

    max_bytes: int
    max_parts: int
    put_wait_s: float = 0.0  # how long workers waited for room, summed
    get_wait_s: float = 0.0  # how long the encoder waited for frames
    _parts: deque[tuple[Part, int]] = field(default_factory=deque)
    _bytes: int = 0
    _open_workers: int = 0
    _closed: bool = False
    _error: BaseException | None = None

    def __post_init__(self) -> None:
        self._changed = threading.Condition()

    def put(self, part: Part) -> None:
        """Add a part, waiting for room; raises `_Closed` when the consumer went away."""
        num_bytes = part.frames.nbytes if isinstance(part, ClipFrames) else 0
        started = time.perf_counter()
        with self._changed:
            while not self._closed and self._parts and self._full(num_bytes):
                self._changed.wait()
            if self._closed:
                raise _Closed
            self.put_wait_s += time.perf_counter() - started
            self._parts.append((part, num_bytes))
            self._bytes += num_bytes
            self._changed.notify_all()

    def _full(self, more: int) -> bool:
        return self._bytes + more > self.max_bytes or len(self._parts) >= self.max_parts

    def get(self) -> Part | None:
        """The next part, waiting for it; None when no worker will bring another; raises what ended a worker."""
        started = time.perf_counter()
        with self._changed:
            while not self._parts and self._open_workers and self._error is None:
                self._changed.wait()
            self.get_wait_s += time.perf_counter() - started
            if self._error is not None:
                raise self._error
            if not self._parts:
                return None
            part, num_bytes = self._parts.popleft()
            self._bytes -= num_bytes
            self._changed.notify_all()
            return part

    def close(self) -> None:
        """Let waiting workers go."""
        with self._changed:
            self._closed = True
            self._parts.clear()
            self._changed.notify_all()

    def worker_starts(self) -> None:
        with self._changed:
            self._open_workers += 1

    def worker_ends(self, error: BaseException | None = None) -> None:
        with self._changed:
            self._open_workers -= 1
            self._error = error or self._error
            self._changed.notify_all()


class DecodeWorkers:
    """Threads that turn clips into parts, in no particular order; a context manager, iterated once."""

    def __init__(
        self,
        clips: Sequence[Clip],
        spec: FeatureSpec,
        queue: FrameQueue,
        *,
        num_workers: int,
        frames_per_part: int,
        may_share: bool,
        is_cached: Callable[[ClipKey], bool],
        has_record: Callable[[FeatureKey], bool],
    ) -> None:
        self.spec = spec
        self.queue = queue
        self.frames_per_part = frames_per_part
        self._may_share = may_share
        self._is_cached = is_cached
        self._has_record = has_record
        self._claimed: set[ClipKey] = set()
        self._lock = threading.Lock()
        by_file: dict[str, list[Clip]] = {}
        for clip in clips:
            by_file.setdefault(clip.path, []).append(clip)
        self._jobs = deque(by_file.items())
        count = max(1, min(num_workers, len(self._jobs)))
        spare = min(num_workers // count, torch.get_num_threads() - 1)  # the encoder needs a core, too
        self._num_threads = max(1, spare)  # of a decoder: what fewer files than workers leave over
        self._threads = [threading.Thread(target=self._work, daemon=True, name=f"decode-{i}") for i in range(count)]

    def __enter__(self) -> DecodeWorkers:
        for thread in self._threads:
            self.queue.worker_starts()
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.queue.close()
        deadline = time.monotonic() + 10
        for thread in self._threads:  # daemons: one that hangs in a decoder does not keep the process alive
            thread.join(max(0.0, deadline - time.monotonic()))

    def __iter__(self) -> Iterator[Part]:
        while (part := self.queue.get()) is not None:
            yield part

    def _work(self) -> None:
        error: BaseException | None = None
        try:
            while True:
                try:
                    path, clips = self._jobs.popleft()
                except IndexError:
                    return
                self._decode_file(path, clips)
        except _Closed:
            return
        except BaseException as unforeseen:  # the rest of its clips must not be missing in silence
            error = unforeseen
        finally:
            self.queue.worker_ends(error)

    def _decode_file(self, path: str, clips: Sequence[Clip]) -> None:
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
            if repeated or self._is_cached(key):
                self.queue.put(ClipDone(clip, key, repeated))
            else:
                missing.append((clip, key))
        if not missing:
            return
        left = deque(missing)
        try:
            decoder, through = self.spec.decoder.partition("-")[0], self.spec.plan.sampling == "dense"
            with open_video(path, decoder, self._num_threads, read_through=through) as video:
                while left:
                    try:
                        self._decode_clip(video, *left[0])
                    except _Closed:
                        raise
                    except Exception as error:
                        self._fail(*left[0], error, Overrun.of(left[0][0], video.facts))
                    left.popleft()
        except _Closed:
            raise
        except Exception as error:
            for clip, key in left:
                self._fail(clip, key, error)

    def _fail(self, clip: Clip, key: ClipKey | None, error: Exception, overrun: Overrun | None = None) -> None:
        """Whatever a damaged file makes a decoder raise costs its clips, never the run."""
        log.debug("%s: not decoded", clip.path, exc_info=error)
        if isinstance(error, UnreadableVideo):
            reason = error.reason  # without the path: other files of the same bytes fail for it, too
        else:
            reason = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
        self.queue.put(ClipFailed(clip, key, reason, overrun))

    def _decode_clip(self, video: Any, clip: Clip, key: ClipKey) -> None:
        plan, preprocessing = self.spec.plan, self.spec.preprocessing
        views = plan.views_of(video.facts, key.clip_in(clip.path))
        missing = tuple(view for view in views if not self._has_record(key.view(view.index)))
        if not missing:  # another process finished this clip meanwhile
            self.queue.put(ClipDone(clip, key))
            return
        source = Source(clip, key, video.facts, len(views))
        frames = sorted({index for view in views for index in view.frame_indices})
        shared = self._may_share and len(frames) < sum(len(set(view.frame_indices)) for view in views)
        if shared:
            groups = self._shared_groups(views, missing, frames)
        else:
            groups = [((view,), list(view.frame_indices)) for view in missing]
        video.expect(sorted({index for _, indices in groups for index in indices}))
        for count, (new_views, indices) in enumerate(groups, start=1):
            pixels = _tensor(video.read(indices, preprocessing))
            self.queue.put(ClipFrames(source, new_views, tuple(indices), pixels, shared, last=count == len(groups)))

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


def _tensor(frames: Any) -> Tensor:
    return frames if isinstance(frames, Tensor) else torch.from_numpy(frames)
