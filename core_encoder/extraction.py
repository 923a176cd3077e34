"""Extraction: clips in, cached features out, with what a run of hours needs.

    clips -> decode workers -> queue bounded in bytes -> batches -> encoder -> shards

The same call again goes on where the last run, however it ended, left off.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from core_encoder.clip_plan import Clip, ClipPlan
from core_encoder.encoder import Encoder
from core_encoder.errors import InputError
from core_encoder.features.derivation import FinerStores
from core_encoder.features.dtypes import PRECISIONS
from core_encoder.features.encoding import EncodingRun, ViewEncoded
from core_encoder.features.estimate import estimate
from core_encoder.features.failures import FailureLog
from core_encoder.features.feature_spec import ClipKey, FeatureKind, FeatureSpec, StoredDtype
from core_encoder.features.feature_store import FeatureStore
from core_encoder.features.shard import UnstorableFeatures
from core_encoder.features.video_clock import VideoClock
from core_encoder.files.urls import Location
from core_encoder.models.known_encoders import encoders
from core_encoder.preprocessing import Preprocessing
from core_encoder.tally import ExtractionProgress, ExtractionReport, Tally
from core_encoder.video.decoders import decoder_id
from core_encoder.video.decoding import ClipDone, ClipFailed
from core_encoder.video.video_files import known_digest

_REFRESH_S = 10.0


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
    listed = FailureLog(failures_path or stores[0].files.failures_file)
    listed.forget(clips)
    clock = VideoClock(dense=specs[0].plan.sampling == "dense")
    tally = Tally(len(clips), lambda: run.work, listed, clock, progress)
    with ExitStack() as open_writers:
        writing = StoreWriting(stores, shard_bytes, commit_every_s)
        open_writers.enter_context(writing)
        tally.num_derived = derive_missing(clips, writing, root)
        open_writers.enter_context(run)
        refreshed = time.monotonic()
        for event in run:
            if isinstance(event, ViewEncoded):
                writing.keep(event)
                tally.view(event)
            elif isinstance(event, ClipDone) and event.repeated:
                tally.repeated(event.clip, event.key)
            elif isinstance(event, ClipFailed):
                tally.bounds(event.clip, event.overrun)
                tally.failed(event.clip, event.key, event.reason)
            elif isinstance(event, ClipDone):
                tally.cached()
            elif reason := writing.unstorable.get(event.key):
                tally.failed(event.clip, event.key, reason)
            else:
                tally.encoded(event.key)
            if time.monotonic() - refreshed > _REFRESH_S:  # another process may have done some of our clips
                writing.refresh()
                refreshed = time.monotonic()
    tally.settle()
    return tally.report(writing.folders, time.monotonic() - started)


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


def derive_missing(clips: Sequence[Clip], writing: StoreWriting, root: str | Location) -> int:
    """Store what can be derived from finer kinds; how many clips it completed."""
    stores, writers = writing.stores, writing.writers
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
    writing.commit()
    return derived


class StoreWriting:
    """Puts what a run encodes into its stores, one a spec; a context manager, whose end commits the rest."""

    def __init__(self, stores: Sequence[FeatureStore], shard_bytes: int, commit_every_s: float) -> None:
        self.stores = tuple(stores)
        self.writers = [store.writer(shard_bytes, commit_every_s) for store in stores]
        self.unstorable: dict[ClipKey, str] = {}  # clips with features that no store of the run can hold, and why
        self._open = ExitStack()

    def __enter__(self) -> StoreWriting:
        for writer in self.writers:
            self._open.enter_context(writer)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._open.__exit__(kind, error, at)

    @property
    def folders(self) -> tuple[Location, ...]:
        return tuple(store.folder for store in self.stores)

    def keep(self, encoded: ViewEncoded) -> None:
        """Store a view where it is not stored yet; one that cannot be is noted in `unstorable`.

        Raises:
            InputError: the disk is full.
        """
        try:
            for values, store, writer in zip(encoded.values, self.stores, self.writers, strict=True):
                if encoded.key not in store:
                    writer.add(encoded.key, values, encoded.info)
        except UnstorableFeatures as error:
            self.unstorable[encoded.key.clip_key] = str(error)

    @property
    def is_pending(self) -> bool:
        """Whether something that was kept is not durable yet."""
        return any(writer.is_pending for writer in self.writers)

    def commit(self) -> None:
        """Make all that was kept durable.

        Raises:
            InputError: the disk is full.
        """
        for writer in self.writers:
            writer.commit()

    def refresh(self) -> None:
        """Take notice of what other processes stored."""
        for store in self.stores:
            store.refresh()
