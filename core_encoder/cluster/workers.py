"""The two kinds of processes of a cluster: one decodes clips, the other encodes frames and stores the features.

They are plain classes; `core_encoder.cluster.ray_extraction` makes actors of them and carries frames from one to the
other.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import torch

from core_encoder.clip_bounds import Overrun
from core_encoder.clip_plan import Clip
from core_encoder.encoder import Encoder
from core_encoder.extraction import StoreWriting
from core_encoder.features.encoding import ClipEncoder, EncodingWork, Event, ViewEncoded, frame_queue, pass_decoder
from core_encoder.features.feature_spec import ClipKey, FeatureSpec
from core_encoder.features.feature_store import FeatureStore
from core_encoder.files.remote import RemoteLimits, limit_remote
from core_encoder.files.urls import Location
from core_encoder.video.clip_decoder import ClipsOfFiles
from core_encoder.video.decoding import ClipDone, ClipFailed, ClipFrames, DecodeWorkers, Part

_BUNDLE_BYTES = 16 << 20  # of frames that travel at once, or one part that is larger
_REFRESH_S = 120.0  # a large store takes long to look through


@dataclass(frozen=True)
class EncodingJob:
    """What every worker of a run is told."""

    specs: tuple[FeatureSpec, ...]
    root: Location
    batch_size: int
    may_share: bool  # windows that overlap share their frames
    shard_bytes: int
    commit_every_s: float
    num_threads: int | None  # of an encoder without a GPU; None: one a core
    limits: RemoteLimits
    folder: str  # where the run was started: paths may be relative to it

    def enter(self) -> None:
        """Act in this process as the one that asks does."""
        enter(self.folder)
        limit_remote(self.limits)

    def stores(self) -> list[FeatureStore]:
        """The stores of the run."""
        return [FeatureStore(self.root, spec) for spec in self.specs]


@dataclass(frozen=True)
class Decoded:
    """What a bundle brings: of which clips, which of them it completes, and whether it is the last of its chunk."""

    clips: tuple[Clip, ...]
    finished: tuple[Clip, ...]
    last: bool


class DecodingWorker:
    """Decodes chunks of clips, bundle by bundle, as far ahead as a bounded queue lets it."""

    def __init__(self, job: EncodingJob) -> None:
        self._job = job
        self._parts: Generator[Part, None, None] | None = None
        self._next: Part | None = None

    def ready(self) -> None:
        """Open the stores, to know what is cached."""
        self._job.enter()
        self._stores = self._job.stores()
        self._refreshed = time.monotonic()

    def decode(self, clips: Sequence[Clip] | None) -> tuple[Decoded, list[Part]]:
        """Begin with a chunk, or go on with it: the next parts, and what they mean."""
        if clips is not None:
            if self._parts is not None:
                self._parts.close()  # of a chunk that was taken from us
            self._refresh()
            self._parts = self._parts_of(clips)
            self._next = next(self._parts, None)
        assert self._parts is not None
        bundle: list[Part] = []
        size = 0
        while self._next is not None and (not bundle or size + _nbytes(self._next) <= _BUNDLE_BYTES):
            bundle.append(self._next)
            size += _nbytes(self._next)
            self._next = next(self._parts, None)
        clips = tuple(dict.fromkeys(map(_clip_of, bundle)))
        finished = tuple(_clip_of(part) for part in bundle if not isinstance(part, ClipFrames) or part.last)
        return Decoded(clips, finished, last=self._next is None), bundle

    def _refresh(self) -> None:
        if time.monotonic() - self._refreshed > _REFRESH_S:
            for store in self._stores:
                store.refresh()
            self._refreshed = time.monotonic()

    def _parts_of(self, clips: Sequence[Clip]) -> Generator[Part, None, None]:
        job = self._job
        decoder = pass_decoder(job.specs, self._stores, job.batch_size, job.may_share)
        queue = frame_queue(job.batch_size)
        with DecodeWorkers(ClipsOfFiles(clips, decoder, queue).jobs(), queue, num_workers=1) as workers:
            yield from workers


@dataclass(frozen=True)
class ClipStored:
    """A clip whose features are computed; they are durable once a later `Encoded` says `saved`."""

    clip: Clip
    key: ClipKey
    span_s: float
    overrun: Overrun | None


@dataclass(frozen=True)
class Encoded:
    """How clips went since the last answer."""

    stored: tuple[ClipStored, ...]
    others: tuple[ClipDone | ClipFailed, ...]
    saved: bool  # all that was ever stored here is durable
    work: EncodingWork


@dataclass(frozen=True)
class _Facts:
    """What is known of clips under way."""

    span_s: float
    overrun: Overrun | None = None


class EncodingWorker:
    """Encodes frames in batches and writes shards of its own into the stores."""

    def __init__(self, job: EncodingJob, encoder: Encoder) -> None:
        self._job = job
        self._encoder = encoder

    def ready(self, device: str) -> None:
        """Move the encoder to its device, and open the stores for writing.

        Raises:
            InputError: the stores cannot be written to.
        """
        self._job.enter()
        if device == "cpu":
            torch.set_num_threads(self._job.num_threads or len(os.sched_getaffinity(0)))
        self._clips = ClipEncoder(self._encoder.to(device), self._job.specs, self._job.batch_size)
        self._writing = StoreWriting(self._job.stores(), self._job.shard_bytes, self._job.commit_every_s)
        self._open: dict[Clip, _Facts] = {}
        self._saved_at = time.monotonic()
        self._idle_since: float | None = None
        self._wait_s = 0.0

    def encode(self, parts: Sequence[Part], flush: bool = False) -> Encoded:
        """Encode parts in full batches; what is left over waits for others, unless `flush`.

        Raises:
            InputError: the disk is full, or one clip does not fit in memory.
        """
        if self._idle_since is not None:
            self._wait_s += time.monotonic() - self._idle_since
        answer = _Answer()
        for part in parts:
            if _is_cancelled():
                break  # the run is stopped: `save` is next
            for event in self._clips.take(part):
                self._hear(event, answer)
        return self._answered(answer, flush and not _is_cancelled())

    def flush(self, save: bool) -> Encoded:
        """Encode what waits; with `save`, make everything durable.

        Raises:
            InputError: the disk is full.
        """
        return self._answered(_Answer(), flush=True, save=save)

    def save(self) -> None:
        """Make durable what is encoded, and encode nothing more.

        Raises:
            InputError: the disk is full.
        """
        self._writing.commit()

    def forget(self, clips: Sequence[Clip]) -> None:
        """Clips of which no more parts come: they begin anew elsewhere."""
        for clip in clips:
            self._clips.forget(clip)
            self._open.pop(clip, None)

    def _answered(self, answer: _Answer, flush: bool, save: bool = False) -> Encoded:
        if flush:
            for event in self._clips.finish():
                self._hear(event, answer)
        if save or time.monotonic() - self._saved_at > self._job.commit_every_s:
            self._writing.commit()
            self._saved_at = time.monotonic()
        self._idle_since = time.monotonic()
        return Encoded(tuple(answer.stored), tuple(answer.others), not self._writing.is_pending, self._work())

    def _hear(self, event: Event, answer: _Answer) -> None:
        if isinstance(event, ViewEncoded):
            self._writing.keep(event)
            self._open[event.clip] = _Facts(event.source.span_s, event.source.overrun)
        elif isinstance(event, ClipDone | ClipFailed):
            self._open.pop(event.clip, None)
            answer.others.append(event)
        else:
            facts = self._open.pop(event.clip, _Facts(0.0))
            if reason := self._writing.unstorable.pop(event.key, ""):
                answer.others.append(ClipFailed(event.clip, event.key, reason, facts.overrun))
            else:
                answer.stored.append(ClipStored(event.clip, event.key, facts.span_s, facts.overrun))

    def _work(self) -> EncodingWork:
        clips = self._clips
        return EncodingWork(
            views_encoded=clips.views_encoded,
            frames_decoded=clips.frames_decoded,
            decode_wait_s=self._wait_s,
            encode_s=clips.encode_s,
            batch_size=clips.batch_size,
            bottleneck="decoding" if self._wait_s > 0.1 * clips.encode_s else "encoding",
        )


@dataclass
class _Answer:
    """An `Encoded` in the making."""

    stored: list[ClipStored] = field(default_factory=list)
    others: list[ClipDone | ClipFailed] = field(default_factory=list)


def enter(folder: str) -> None:
    """Go to the folder that a run was started in, where this machine has it."""
    with suppress(OSError):
        os.chdir(folder)


def _is_cancelled() -> bool:
    """Whether who called this process no longer wants the answer."""
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return False
    context = ray.get_runtime_context()
    return bool(getattr(context, "is_canceled", bool)())  # older versions do not say: the bundle is encoded to its end


def _clip_of(part: Part) -> Clip:
    return part.source.clip if isinstance(part, ClipFrames) else part.clip


def _nbytes(part: Part) -> int:
    return part.frames.nbytes if isinstance(part, ClipFrames) else 0
