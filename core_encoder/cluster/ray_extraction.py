"""Extraction on a Ray cluster: what `extract` does, by processes on many machines that write one store.

    chunks of clips -> decoding workers -> bundles of frames -> encoding workers -> shards, each worker its own

This process hands out chunks and keeps count; frames go from worker to worker through Ray's object store, shards
straight into the feature store. What is done is what the store holds: the same call again goes on from there.

A worker holds one bundle at a time, and a bundle waits here only while no encoder has room, so what is in flight is
bounded. A worker that dies is replaced. What it had not finished is done again; see `chunks` for who is to blame.
"""

from __future__ import annotations

import copy
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from core_encoder.clip_plan import Clip
from core_encoder.cluster.actor_calls import ActorCalls, Gone
from core_encoder.cluster.chunks import DEATHS, Chunk, Chunks
from core_encoder.cluster.cluster_settings import ClusterSettings
from core_encoder.cluster.cluster_size import ClusterSize
from core_encoder.cluster.ray_session import ray_session
from core_encoder.cluster.worker_pool import WorkerPool
from core_encoder.cluster.workers import ClipStored, Decoded, DecodingWorker, Encoded, EncodingJob, EncodingWorker
from core_encoder.encoder import Encoder
from core_encoder.errors import InputError
from core_encoder.extraction import StoreWriting, check_room, derive_missing
from core_encoder.features.encoding import EncodingWork, check_pass, encoder_may_share
from core_encoder.features.estimate import is_cached
from core_encoder.features.failures import FailureLog
from core_encoder.features.feature_spec import FeatureSpec
from core_encoder.features.feature_store import FeatureStore
from core_encoder.features.video_clock import VideoClock
from core_encoder.files.remote import remote_limits
from core_encoder.files.urls import Location, as_location
from core_encoder.tally import Crew, ExtractionProgress, ExtractionReport, Tally
from core_encoder.video.decoding import ClipFailed

_CLIPS_PER_CHUNK = 32
_CALLS_AT_ONCE = 2  # of an encoder: the next frames are there when it has done with these
_END_S = 5.0  # at most, for workers to save what they have when a run is stopped


def extract_on_ray(
    encoder: Encoder,
    clips: Sequence[Clip],
    specs: FeatureSpec | Sequence[FeatureSpec],
    root: str | Location,
    *,
    cluster: ClusterSettings,
    batch_size: int = 8,
    progress: Callable[[ExtractionProgress], None] | None = None,
    tell: Callable[[str], None] = lambda text: None,
    failures_path: str | Path | None = None,
    shard_bytes: int = 64 << 20,
    commit_every_s: float = 20.0,
) -> ExtractionReport:
    """`extract` on the workers of a cluster: the same features under the same keys.

    Videos and `root` lie where every machine of the cluster finds them by the same path. A clip that kills its worker
    three times is a failure with that reason. Ray begins, and `tell` hears so, only where clips are left.

    Raises:
        InputError: as `extract`; Ray is not installed, no cluster answers, or it has not the GPUs that were asked for.
        EncoderMismatch: the specs are of another encoder.
    """
    started = time.monotonic()
    specs = (specs,) if isinstance(specs, FeatureSpec) else tuple(dict.fromkeys(specs))
    if batch_size < 1:
        raise InputError(f"batch size {batch_size} must be at least 1")
    check_pass(encoder, specs)
    check_room(encoder, clips, specs, root)
    place = as_location(root)
    root = place.absolute() if isinstance(place, Path) else place
    stores = [FeatureStore(root, spec) for spec in specs]
    listed = FailureLog(failures_path or stores[0].files.failures_file)
    listed.forget(clips)
    unique = dict.fromkeys(clips)
    with StoreWriting(stores, shard_bytes, commit_every_s) as writing:
        num_derived = derive_missing(list(unique), writing, root)
    job = EncodingJob(
        specs=specs,
        root=root,
        batch_size=batch_size,
        may_share=encoder_may_share(encoder, specs),
        shard_bytes=shard_bytes,
        commit_every_s=commit_every_s,
        num_threads=int(os.environ["OMP_NUM_THREADS"]) if os.environ.get("OMP_NUM_THREADS", "").isdigit() else None,
        limits=remote_limits(),
        folder=os.getcwd(),  # noqa: PTH109
    )
    clock = VideoClock(dense=specs[0].plan.sampling == "dense")
    if _are_cached(list(unique), stores):
        tally = Tally(len(clips), lambda: _sum_of([], batch_size), listed, clock, progress)
        for _ in unique:
            tally.cached()
    else:
        with ray_session(cluster, tell) as ray:
            size = ClusterSize.of(ray, cluster)
            per_chunk = max(1, min(_CLIPS_PER_CHUNK, len(unique) // (2 * size.decoding)))
            run = _Run(ray, job, encoder, Chunks(unique, per_chunk), size)
            tally = Tally(len(clips), lambda: run.work, listed, clock, progress, lambda: run.crew)
            run.run(tally)
    tally.num_derived = num_derived
    tally.settle()
    for clip in list(clips) if len(clips) > len(unique) else []:
        if clip in unique:
            del unique[clip]  # it has counted
        else:
            tally.twice(clip)
    return tally.report(tuple(store.folder for store in stores), time.monotonic() - started)


def _are_cached(clips: Sequence[Clip], stores: Sequence[FeatureStore]) -> bool:
    """Whether nothing is left to encode; the last clips are looked up first, which a run that was cut off lacks."""
    return all(len(store) and is_cached(store, clip) for clip in reversed(clips) for store in stores)


def _sum_of(works: Sequence[EncodingWork], batch_size: int) -> EncodingWork:
    """What several encoders did, in batches of at most `batch_size`."""
    wait_s, encode_s = sum(one.decode_wait_s for one in works), sum(one.encode_s for one in works)
    return EncodingWork(
        views_encoded=sum(one.views_encoded for one in works),
        frames_decoded=sum(one.frames_decoded for one in works),
        decode_wait_s=wait_s,
        encode_s=encode_s,
        batch_size=min((one.batch_size for one in works), default=batch_size),
        bottleneck="decoding" if wait_s > 0.1 * encode_s else "encoding",
    )


@dataclass(eq=False)
class _Flow:
    """A chunk on its way through the workers."""

    chunk: Chunk
    decoder: Any  # None once everything is decoded
    undecoded: dict[Clip, None]
    unsent: dict[Clip, None]
    encoder: _Hand | None = None
    bundle: tuple[Decoded, Any] | None = None  # decoded, and waiting for room in an encoder
    encoding: bool = False

    @property
    def is_over(self) -> bool:
        return self.decoder is None and self.bundle is None and not self.encoding


@dataclass(eq=False)
class _Hand:
    """What an encoding worker has in hand."""

    actor: Any
    calls: int = 0
    unfinished: dict[Clip, None] = field(default_factory=dict)  # of which it has frames
    unsaved: list[ClipStored] = field(default_factory=list)
    saved: bool = True  # it said so last; of a long clip views may be unsaved before the clip is through
    reserved: bool = False  # for a clip that is kept apart
    flushed: bool = True  # since frames were sent last
    work: EncodingWork | None = None


class _Run:
    """The driver of one extraction."""

    def __init__(self, ray: Any, job: EncodingJob, encoder: Encoder, chunks: Chunks, size: ClusterSize) -> None:
        self._ray = ray
        self._chunks = chunks
        self._size = size
        self._batch_size = job.batch_size
        self._calls = ActorCalls(ray)
        self._flows: list[_Flow] = []
        self._idle: list[Any] = []  # decoders
        self._hands: list[_Hand] = []
        self._works: list[EncodingWork] = []  # of encoders that died
        device = "cuda" if size.num_gpus else "cpu"
        portable = encoder if encoder.device.type == "cpu" else copy.deepcopy(encoder).to("cpu")
        shared_job, shared_encoder = ray.put(job), ray.put(portable)
        self._decoders = WorkerPool(
            ray,
            self._calls,
            DecodingWorker,
            (shared_job,),
            wake=lambda actor: actor.ready.remote(),
            on_ready=self._idle.append,
            num_cpus=1,
        )
        self._encoders = WorkerPool(
            ray,
            self._calls,
            EncodingWorker,
            (shared_job, shared_encoder),
            wake=lambda actor: actor.ready.remote(device),
            on_ready=lambda actor: self._hands.append(_Hand(actor)),
            num_cpus=size.num_cpus,
            num_gpus=size.num_gpus,
        )

    @property
    def work(self) -> EncodingWork:
        """What all encoders did so far."""
        now = [hand.work for hand in self._hands if hand.work is not None]
        return _sum_of(self._works + now, self._batch_size)

    @property
    def crew(self) -> Crew:
        """The workers that are there."""
        replaced = self._decoders.replaced + self._encoders.replaced
        return Crew(len(self._decoders.alive), len(self._encoders.alive), replaced)

    def run(self, tally: Tally) -> None:
        """Encode every chunk; on Ctrl-C and on errors, what was encoded is saved first."""
        self._tally = tally
        with self._ending():
            self._encoders.start(self._size.encoding)
            self._decoders.start(self._size.decoding)
            while self._chunks or self._flows or any(hand.unfinished or hand.unsaved for hand in self._hands):
                self._decode()
                self._encode()
                self._flush()
                self._calls.wait(1.0)
                self._decoders.warn_if_none()
                self._encoders.warn_if_none()
                tally.tell()

    @contextmanager
    def _ending(self) -> Iterator[None]:
        try:
            yield
        finally:
            self._calls.cancel()
            saving = [hand.actor.save.remote() for hand in self._hands if not hand.saved]
            if saving:
                self._ray.wait(saving, num_returns=len(saving), timeout=_END_S)
            self._decoders.stop()
            self._encoders.stop()

    # Decoding

    def _decode(self) -> None:
        """Give chunks to idle decoders, while not too many bundles wait for encoders."""
        while self._idle and self._chunks and self._num_waiting < max(1, len(self._hands)):
            chunk = self._chunks.take()
            flow = _Flow(chunk, self._idle.pop(), dict.fromkeys(chunk.clips), dict.fromkeys(chunk.clips))
            self._flows.append(flow)
            self._ask(flow, chunk.clips)

    @property
    def _num_waiting(self) -> int:
        return sum(flow.bundle is not None for flow in self._flows)

    def _ask(self, flow: _Flow, clips: Sequence[Clip] | None) -> None:
        """Have the next bundle of a chunk decoded: what it brings is told here, its frames stay where they are."""
        about, bundle = flow.decoder.decode.options(num_returns=2).remote(clips)
        self._calls.add(about, partial(self._decoded, flow, flow.decoder, bundle))

    def _decoded(self, flow: _Flow, decoder: Any, bundle: Any, answer: Decoded | Gone) -> None:
        if isinstance(answer, Gone):
            self._decoders.replace(decoder)
            if flow in self._flows:
                self._decoder_died(flow)
        elif flow not in self._flows:  # its clips begin anew elsewhere
            self._idle.append(decoder)
        else:
            for clip in answer.finished:
                flow.undecoded.pop(clip, None)
            flow.bundle = answer, bundle
            if answer.last:
                self._idle.append(decoder)
                flow.decoder = None

    def _decoder_died(self, flow: _Flow) -> None:
        if flow.encoder is not None:  # it may have the first frames of a clip whose last ones will not come
            self._forget(flow.encoder, [clip for clip in flow.undecoded if clip not in flow.unsent])
        flow.decoder = None
        if flow.is_over:
            self._close(flow)
        self._suspect(list(flow.undecoded))

    # Encoding

    def _encode(self) -> None:
        """Send bundles to the encoders that have least to do."""
        for flow in self._flows:
            if flow.bundle is None or flow.encoding:
                continue
            flow.encoder = flow.encoder or self._encoder_for(flow.chunk)
            if flow.encoder is not None and flow.encoder.calls < _CALLS_AT_ONCE:
                self._send(flow, flow.encoder, *flow.bundle)

    def _encoder_for(self, chunk: Chunk) -> _Hand | None:
        free = [hand for hand in self._hands if hand.calls < _CALLS_AT_ONCE and not hand.reserved]
        if chunk.alone:
            free = [hand for hand in free if not hand.calls and not hand.unfinished]
        if not free:
            return None
        hand = min(free, key=lambda one: one.calls)
        hand.reserved = chunk.alone
        return hand

    def _send(self, flow: _Flow, hand: _Hand, decoded: Decoded, bundle: Any) -> None:
        flow.bundle, flow.encoding = None, True
        hand.calls, hand.flushed = hand.calls + 1, False
        for clip in decoded.clips:
            flow.unsent.pop(clip, None)
            hand.unfinished[clip] = None
        answer = hand.actor.encode.remote(bundle, flow.chunk.alone)
        self._calls.add(answer, partial(self._encoded, flow, hand, decoded))
        if flow.decoder is not None:
            self._ask(flow, None)

    def _encoded(self, flow: _Flow, hand: _Hand, decoded: Decoded, told: Encoded | Gone) -> None:
        if isinstance(told, Gone) and not told.is_argument:
            self._encoder_died(hand)
            return
        hand.calls -= 1
        flow.encoding = False
        if isinstance(told, Gone):
            self._frames_lost(flow, hand, decoded)
            return
        self._hear(hand, told)
        if flow.is_over:
            self._close(flow)

    def _flush(self) -> None:
        """Have encoders that wait for frames encode what they have; at the end, have all save it."""
        at_end = not self._chunks and not self._flows
        for hand in self._hands:
            if hand.calls:
                continue
            if (hand.unfinished and not hand.flushed) or (at_end and hand.unsaved):
                hand.calls, hand.flushed = 1, True
                answer = hand.actor.flush.remote(at_end)
                self._calls.add(answer, partial(self._flushed, hand))

    def _flushed(self, hand: _Hand, told: Encoded | Gone) -> None:
        if isinstance(told, Gone):
            self._encoder_died(hand)
        else:
            hand.calls -= 1
            self._hear(hand, told)

    def _hear(self, hand: _Hand, told: Encoded) -> None:
        """Count how clips went."""
        hand.work = told.work
        for one in told.stored:
            hand.unfinished.pop(one.clip, None)
            hand.unsaved.append(one)
            self._tally.bounds(one.clip, one.overrun)
            self._tally.encoded(one.key, one.span_s)
        for other in told.others:
            hand.unfinished.pop(other.clip, None)
            if isinstance(other, ClipFailed):
                self._tally.bounds(other.clip, other.overrun)
                self._tally.failed(other.clip, other.key, other.reason)
            elif other.repeated:
                self._tally.repeated(other.clip, other.key)
            else:
                self._tally.cached()
        hand.saved = told.saved
        if told.saved:
            hand.unsaved.clear()

    # Accidents

    def _encoder_died(self, hand: _Hand) -> None:
        if hand not in self._hands:  # another call of it has said so
            return
        self._hands.remove(hand)
        self._encoders.replace(hand.actor)
        if hand.work is not None:
            self._works.append(hand.work)
        for one in hand.unsaved:
            self._tally.lost(one.span_s)
        self._chunks.again([one.clip for one in hand.unsaved])
        for flow in [flow for flow in self._flows if flow.encoder is hand]:
            self._abandon(flow)
        self._suspect(list(hand.unfinished))

    def _frames_lost(self, flow: _Flow, hand: _Hand, decoded: Decoded) -> None:
        """Frames went with the machine that had decoded them: their clips begin anew, and the rest of the chunk."""
        broken = decoded.clips + tuple(flow.undecoded)
        again = [clip for clip in dict.fromkeys(broken) if clip in hand.unfinished]
        self._forget(hand, again)
        self._chunks.again(again)
        self._abandon(flow)

    def _abandon(self, flow: _Flow) -> None:
        """End a chunk midway; the clips of which no encoder had frames begin anew."""
        self._chunks.again(list(flow.unsent))
        if flow.decoder is not None and flow.bundle is not None:  # it waits to be asked for more
            self._idle.append(flow.decoder)
        self._close(flow)

    def _close(self, flow: _Flow) -> None:
        if flow in self._flows:
            self._flows.remove(flow)
        if flow.chunk.alone and flow.encoder is not None:
            flow.encoder.reserved = False

    def _forget(self, hand: _Hand, clips: Sequence[Clip]) -> None:
        if clips:
            hand.actor.forget.remote(clips)
        for clip in clips:
            hand.unfinished.pop(clip, None)

    def _suspect(self, clips: Sequence[Clip]) -> None:
        if (given_up := self._chunks.suspect(clips)) is not None:
            self._tally.failed(given_up, None, f"{DEATHS} processes died of it, one after the other")
