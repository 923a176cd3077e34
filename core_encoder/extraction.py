"""Extraction: clips in, cached features out, with what a run of hours needs.

    clips -> decode workers -> queue bounded in bytes -> batches -> encoder -> shards

The same call again goes on where the last run, however it ended, left off.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from core_encoder.clip_bounds import Overrun
from core_encoder.clip_plan import Clip, ClipPlan
from core_encoder.encoder import Encoder
from core_encoder.errors import InputError, one_line
from core_encoder.features.derivation import FinerStores
from core_encoder.features.dtypes import PRECISIONS
from core_encoder.features.encoding import Bottleneck, EncodingRun, ViewEncoded
from core_encoder.features.estimate import estimate
from core_encoder.features.failures import Failure, FailureLog
from core_encoder.features.feature_spec import ClipKey, FeatureKind, FeatureSpec, StoredDtype
from core_encoder.features.feature_store import FeatureStore, ShardWriter
from core_encoder.features.shard import UnstorableFeatures
from core_encoder.features.video_clock import VideoClock
from core_encoder.files.urls import Location
from core_encoder.models.known_encoders import encoders
from core_encoder.preprocessing import Preprocessing
from core_encoder.video.decoders import decoder_id
from core_encoder.video.decoding import ClipDone, ClipFailed
from core_encoder.video.video_files import known_digest

_PROGRESS_S = 0.1
_REFRESH_S = 10.0
log = logging.getLogger(__name__)


def spec_for(
    encoder: Encoder,
    plan: ClipPlan | None = None,
    *,
    kind: FeatureKind = "tokens",
    layers: Sequence[int] = (),
    dtype: StoredDtype = "fp16",
    preprocessing: Preprocessing | None = None,
    decoder: str = "auto",
) -> FeatureSpec:
    """The spec of features of `encoder`; plan and preprocessing are by default those it was trained with.

    Raises:
        InputError: a layer, image size, precision or number of frames that the encoder does not have; an unknown kind,
            dtype or decoder.
    """
    preprocessing = preprocessing or encoder.preprocessing
    if preprocessing.image_size % encoder.patch_size and preprocessing.image_size != encoder.image_size:
        raise InputError(
            f"encoder {encoder.name!r} needs an image size that is a multiple of {encoder.patch_size}, "
            f"not {preprocessing.image_size}"
        )
    if encoder.dtype not in PRECISIONS:
        known = ", ".join(PRECISIONS.values())
        raise InputError(f"encoder {encoder.name!r} is in {encoder.dtype}: features are computed in {known}")
    if kind == "embedding" and encoder.embedding_dim is None:
        able = ", ".join(info.name for info in encoders() if info.text)
        raise InputError(f"encoder {encoder.name!r} makes no video embeddings; {able} do")
    count = encoder.num_layers
    for layer in layers:
        if not -count <= layer < count:
            raise InputError(f"encoder {encoder.name!r} has no layer {layer}: take 0 to {count - 1}, or -1 to -{count}")
    return FeatureSpec(
        encoder=encoder.name,
        fingerprint=encoder.fingerprint,
        plan=plan or ClipPlan(encoder.num_frames),
        preprocessing=preprocessing,
        decoder=decoder_id(decoder),
        kind=kind,
        layers=tuple(layer % count for layer in layers),
        dtype=dtype,
        grid=(preprocessing.image_size // encoder.patch_size,) * 2,
        precision=PRECISIONS[encoder.dtype],
        tubelet=encoder.tubelet,
    )


@dataclass(frozen=True)
class ExtractionProgress:
    """How far a run is; clips that were cached count as done but not in the rate."""

    done: int
    total: int
    cached: int
    failed: int
    views_encoded: int
    clips_per_s: float
    video_s: float  # seconds of video done, of clips that were not cached
    total_video_s: float | None  # and in all, partly guessed while some are not opened; None: not known yet
    times_real_time: float  # seconds of video encoded in one second
    eta_s: float | None  # None: not known yet
    bottleneck: Bottleneck


@dataclass(frozen=True)
class ExtractionReport:
    """What a run did: `n_clips` is the sum of the cached, the derived, the encoded and the failed."""

    folders: tuple[Location, ...]  # of the stores, one a spec
    failures_path: Path  # the list of clips that could not be encoded, where there are any
    n_clips: int
    n_cached: int  # before the run, or the content of another clip of the run
    n_derived: int  # made of a finer kind that was cached, without decoding
    n_encoded: int
    failures: tuple[Failure, ...]
    overruns: tuple[Overrun, ...]  # clips that end after their video: cut there, or among the failures; none cached
    views_encoded: int
    frames_decoded: int
    video_s: float  # seconds of video encoded
    decode_wait_s: float  # the encoder waiting for frames
    encode_s: float
    elapsed_s: float
    bottleneck: Bottleneck
    batch_size: int  # at the end: smaller than asked for after running out of memory

    @property
    def folder(self) -> Location:
        """The folder of the first store."""
        return self.folders[0]

    @property
    def clips_per_s(self) -> float:
        return self.n_encoded / self.elapsed_s if self.elapsed_s else 0.0

    @property
    def times_real_time(self) -> float:
        """Seconds of video encoded in one second."""
        return self.video_s / self.elapsed_s if self.elapsed_s else 0.0


def extract(
    encoder: Encoder,
    clips: Sequence[Clip],
    specs: FeatureSpec | Sequence[FeatureSpec],
    root: str | Location,
    *,
    batch_size: int = 8,
    workers: int = 2,
    progress: Callable[[ExtractionProgress], None] | None = None,
    failures_path: str | Path | None = None,
    shard_bytes: int = 64 << 20,
    commit_every_s: float = 20.0,
) -> ExtractionReport:
    """Encode the clips that are not cached and store their features: of one spec, or of several in one pass.

    Several specs differ in kind, layers and dtype alone. What is a mean of a finer kind that is cached, in this call's
    stores or in others under `root`, is derived from it without decoding.

    Clips that cannot be decoded are listed in `failures_path` with the reason, and tried again by the next run; by
    default in `failures.jsonl` in the store's folder, or in `PRISMHUB_HOME` where that is elsewhere. On Ctrl-C and on
    errors, what was encoded is committed first.

    Raises:
        InputError: the features cannot fit on the disk, or it became full; one clip does not fit in memory.
        EncoderMismatch: the specs are of another encoder.
    """
    started = time.monotonic()
    specs = (specs,) if isinstance(specs, FeatureSpec) else tuple(dict.fromkeys(specs))
    stores = [FeatureStore(root, spec) for spec in specs]
    check_room(encoder, clips, specs, root)
    run = EncodingRun(encoder, clips, specs, stores=stores, batch_size=batch_size, num_workers=workers)
    tally = _Tally(len(clips), run, progress, VideoClock(dense=specs[0].plan.sampling == "dense"))
    listed = FailureLog(failures_path or stores[0].files.failures_file)
    listed.forget(clips)
    with ExitStack() as open_writers:
        writers = [open_writers.enter_context(store.writer(shard_bytes, commit_every_s)) for store in stores]
        tally.num_derived = _derive(clips, stores, writers, root)
        open_writers.enter_context(run)
        refreshed = time.monotonic()
        for event in run:
            if isinstance(event, ViewEncoded):
                try:
                    _keep(event, stores, writers)
                except UnstorableFeatures as error:
                    tally.unstorable[event.key.clip_key] = str(error)
                tally.view(event)  # a clip may have thousands
            elif isinstance(event, ClipDone) and event.repeated:
                tally.repeated.append(event)  # how it went is known at the end
            elif isinstance(event, ClipFailed):
                tally.bounds(event.clip, event.overrun)
                listed.add(tally.failed(event.clip, event.key, event.reason))
            elif isinstance(event, ClipDone):
                tally.cached()
            elif event.key in tally.unstorable:
                listed.add(tally.failed(event.clip, event.key, tally.unstorable[event.key]))
            else:
                tally.encoded(event.key)
            if time.monotonic() - refreshed > _REFRESH_S:  # another process may have done some of our clips
                for store in stores:
                    store.refresh()
                refreshed = time.monotonic()
    for event in tally.repeated:
        if event.key in tally.reasons:
            listed.add(tally.failed(event.clip, event.key, tally.reasons[event.key]))
        else:
            tally.cached()
    return tally.report(tuple(store.folder for store in stores), listed.path, time.monotonic() - started)


def check_room(encoder: Encoder, clips: Sequence[Clip], specs: Sequence[FeatureSpec], root: str | Location) -> None:
    """Refuse features that together cannot fit on the disk.

    Raises:
        InputError: they need more than is free.
    """
    dense = specs[0].plan.sampling == "dense"
    sizes = [estimate(encoder, clips, spec, root, count_cached=dense) for spec in specs]
    if sum(size.total_bytes for size in sizes) > sizes[0].free_bytes:
        exact = [estimate(encoder, clips, spec, root) for spec in specs]
        largest = max(exact, key=lambda size: size.total_bytes)
        largest.check(
            FeatureStore(root, largest.spec).folder, beside=sum(s.total_bytes for s in exact) - largest.total_bytes
        )


def _derive(
    clips: Sequence[Clip], stores: Sequence[FeatureStore], writers: Sequence[ShardWriter], root: str | Location
) -> int:
    """Store what can be derived from finer kinds; how many clips it completed."""
    finer = [FinerStores(root, store.spec) for store in stores]
    if not any(one.stores for one in finer):
        return 0
    derived = 0
    for clip in clips:
        try:
            digest = known_digest(clip.path)
        except InputError:
            continue  # the run says why it cannot be read
        if digest is None:
            continue  # a remote video whose bytes nobody has read
        key = ClipKey.of(clip, digest)
        lacking = [place for place, store in enumerate(stores) if not store.views(key)]
        try:
            found = {place: finer[place].derive(key) for place in lacking}
        except UnstorableFeatures:
            continue  # the run encodes it, and says why it cannot be stored
        for place, records in found.items():
            for record in records:
                writers[place].add(record.key, record.values, record.info)
        derived += bool(lacking) and all(found.values())
    for writer in writers:
        writer.commit()
    return derived


def _keep(encoded: ViewEncoded, stores: Sequence[FeatureStore], writers: Sequence[ShardWriter]) -> None:
    for values, store, writer in zip(encoded.values, stores, writers, strict=True):
        if encoded.key not in store:
            writer.add(encoded.key, values, encoded.info)


class _Tally:
    """Counts how the clips of a run went, and tells the progress."""

    def __init__(
        self,
        total: int,
        run: EncodingRun,
        progress: Callable[[ExtractionProgress], None] | None,
        clock: VideoClock,
    ) -> None:
        self.repeated: list[ClipDone] = []
        self.unstorable: dict[ClipKey, str] = {}
        self.reasons: dict[ClipKey, str] = {}  # of the failures
        self._overruns: dict[Clip, Overrun] = {}
        self._total = total
        self._run = run
        self._progress = progress
        self._clock = clock
        self.num_derived = 0
        self._num_cached = 0
        self._num_encoded = 0
        self._failures: list[Failure] = []
        self._started = time.monotonic()
        self._told = 0.0

    def cached(self) -> None:
        self._num_cached += 1
        self.tell()

    def view(self, encoded: ViewEncoded) -> None:
        self._clock.view(encoded)
        self.bounds(encoded.clip, encoded.source.overrun)
        self.tell()

    def bounds(self, clip: Clip, overrun: Overrun | None) -> None:
        if overrun is not None:
            self._overruns[clip] = overrun

    def encoded(self, key: ClipKey) -> None:
        self._clock.close(key)
        self._num_encoded += 1
        self.tell()

    def failed(self, clip: Clip, key: ClipKey | None, reason: str) -> Failure:
        failure = Failure.of(clip, reason)
        self._failures.append(failure)
        self._clock.close(key)
        if key is not None:
            self.reasons[key] = failure.reason
        log.warning("%s: not encoded: %s", one_line(clip.path), failure.reason)
        self.tell()
        return failure

    def tell(self) -> None:
        done = self._num_cached + self._num_encoded + len(self._failures)
        now = time.monotonic()
        if self._progress is None or (done < self._total and now - self._told < _PROGRESS_S):
            return
        self._told = now
        elapsed_s = now - self._started
        total_s, rate = self._clock.total_s(self._total - done), self._clock.encoded_s / elapsed_s if elapsed_s else 0.0
        self._progress(
            ExtractionProgress(
                done=done,
                total=self._total,
                cached=self._num_cached,
                failed=len(self._failures),
                views_encoded=self._run.encoder.views_encoded,
                clips_per_s=self._num_encoded / elapsed_s if elapsed_s else 0.0,
                video_s=self._clock.done_s,
                total_video_s=total_s,
                times_real_time=rate,
                eta_s=(total_s - self._clock.done_s) / rate if total_s is not None and rate else None,
                bottleneck=self._run.bottleneck,
            )
        )

    def report(self, folders: tuple[Location, ...], failures_path: Path, elapsed_s: float) -> ExtractionReport:
        return ExtractionReport(
            folders=folders,
            failures_path=failures_path,
            n_clips=self._total,
            n_cached=self._num_cached - self.num_derived,
            n_derived=self.num_derived,
            n_encoded=self._num_encoded,
            failures=tuple(self._failures),
            overruns=tuple(self._overruns.values()),
            views_encoded=self._run.encoder.views_encoded,
            frames_decoded=self._run.encoder.frames_decoded,
            video_s=self._clock.encoded_s,
            decode_wait_s=self._run.decode_wait_s,
            encode_s=self._run.encoder.encode_s,
            elapsed_s=elapsed_s,
            bottleneck=self._run.bottleneck,
            batch_size=self._run.encoder.batch_size,
        )
