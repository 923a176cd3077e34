"""Decode workers: threads that open videos and feed frames to the encoder through a queue bounded in bytes.

Threads, because decoders and resizing let go of Python's lock; each video is opened inside the worker that reads it.
"""

from __future__ import annotations

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
from core_encoder.errors import one_line
from core_encoder.features.feature_spec import ClipKey, RecordInfo


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

    def info(self, view: View, tubelet: int = 1) -> RecordInfo:
        """What the record of `view` is to know beside its values, each time step of which comes of `tubelet` frames.

        A step is real where any of its frames is.
        """
        times = self.facts.timestamps[np.array(view.frame_indices)].reshape(-1, tubelet).mean(1)  # (T,)
        return RecordInfo(
            num_views=self.num_views,
            num_real=-(-view.num_real // tubelet),
            start_s=view.start_s,
            end_s=view.end_s,
            times_s=tuple(round(float(time_s), 6) for time_s in times),
            file_name=one_line(Path(self.clip.path).name),
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
    number: int = 0  # of the pass that they are read for, where a run has several

    def __getstate__(self) -> dict[str, Any]:
        """To another process frames go as an array, which need not be copied on the way."""
        return {**self.__dict__, "frames": self.frames.numpy()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state | {"frames": torch.from_numpy(state["frames"])})


@dataclass(frozen=True)
class ClipDone:
    """A clip with nothing to decode: cached, or the same content as another clip of this run."""

    clip: Clip
    key: ClipKey
    repeated: bool = False
    number: int = 0


@dataclass(frozen=True)
class ClipFailed:
    """A clip that could not be decoded, wholly or from some frame on."""

    clip: Clip
    key: ClipKey | None
    reason: str
    overrun: Overrun | None = None
    number: int = 0


Part = ClipFrames | ClipDone | ClipFailed


class Closed(Exception):
    """The consumer went away."""


@dataclass
class FrameQueue:
    """A queue that holds at most `max_bytes` of frames and `max_parts` parts, or one part that is larger."""

    max_bytes: int
    max_parts: int
    put_wait_s: float = 0.0  # how long workers waited for room, summed
    get_wait_s: float = 0.0  # how long the encoder waited for frames
    _parts: deque[tuple[Any, int]] = field(default_factory=deque)
    _bytes: int = 0
    _open_workers: int = 0
    _closed: bool = False
    _error: BaseException | None = None

    def __post_init__(self) -> None:
        self._changed = threading.Condition()

    def put(self, part: Any) -> None:
        """Add a part, waiting for room; raises `Closed` when the consumer went away."""
        num_bytes = part.frames.nbytes if isinstance(part, ClipFrames) else 0
        started = time.perf_counter()
        with self._changed:
            while not self._closed and self._parts and self._full(num_bytes):
                self._changed.wait()
            if self._closed:
                raise Closed
            self.put_wait_s += time.perf_counter() - started
            self._parts.append((part, num_bytes))
            self._bytes += num_bytes
            self._changed.notify_all()

    def _full(self, more: int) -> bool:
        return self._bytes + more > self.max_bytes or len(self._parts) >= self.max_parts

    def get(self) -> Any:
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
    """Threads that do the jobs of decoding, in no particular order; a context manager, iterated once over the parts.

    A job is given how many threads its decoder may have, and puts parts into the queue.
    """

    def __init__(self, jobs: Sequence[Callable[[int], None]], queue: FrameQueue, num_workers: int) -> None:
        self.queue = queue
        self._jobs = deque(jobs)
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

    def __iter__(self) -> Iterator[Any]:
        while (part := self.queue.get()) is not None:
            yield part

    def _work(self) -> None:
        error: BaseException | None = None
        try:
            while True:
                try:
                    job = self._jobs.popleft()
                except IndexError:
                    return
                job(self._num_threads)
        except Closed:
            return
        except BaseException as unforeseen:  # the rest of its clips must not be missing in silence
            error = unforeseen
        finally:
            self.queue.worker_ends(error)
