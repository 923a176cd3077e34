"""Extraction: clips in, cached features out, with what a run of hours needs.

    clips -> decode workers -> queue bounded in bytes -> batches -> encoder -> shards

The same call again goes on where the last run, however it ended, left off.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from core_encoder.clip_plan import Clip, ClipPlan
from core_encoder.encoder import Encoder
from core_encoder.errors import InputError
from core_encoder.features.encoding import Bottleneck, EncodingRun, ViewEncoded
from core_encoder.features.estimate import estimate
from core_encoder.features.failures import Failure, FailureLog
from core_encoder.features.feature_spec import PRECISIONS, ClipKey, FeatureKind, FeatureSpec, StoredDtype
from core_encoder.features.feature_store import FeatureStore
from core_encoder.features.shard import UnstorableFeatures
from core_encoder.preprocessing import Preprocessing
from core_encoder.video.decoders import decoder_id
from core_encoder.video.decoding import ClipDone, ClipFailed

FAILURES_FILE = "failures.jsonl"
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
        InputError: a layer, image size or precision that the encoder does not have; an unknown kind, dtype or decoder.
    """
    preprocessing = preprocessing or encoder.preprocessing
    if preprocessing.image_size % encoder.patch_size:
        raise InputError(
            f"encoder {encoder.name!r} needs an image size that is a multiple of {encoder.patch_size}, "
            f"not {preprocessing.image_size}"
        )
    if encoder.dtype not in PRECISIONS:
        known = ", ".join(PRECISIONS.values())
        raise InputError(f"encoder {encoder.name!r} is in {encoder.dtype}: features are computed in {known}")
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
        precision=PRECISIONS[encoder.dtype],
    )


@dataclass(frozen=True)
class Progress:
    """How far a run is; clips that were cached count as done but not in the rate."""

    done: int
    total: int
    cached: int
    failed: int
    views_encoded: int
    clips_per_s: float
    eta_s: float | None  # None: not known yet
    bottleneck: Bottleneck


@dataclass(frozen=True)
class ExtractionReport:
    """What a run did: `n_clips` is the sum of the cached, the encoded and the failed."""

    folder: Path
    n_clips: int
    n_cached: int  # before the run, or the content of another clip of the run
    n_encoded: int
    failures: tuple[Failure, ...]
    views_encoded: int
    frames_decoded: int
    decode_wait_s: float  # the encoder waiting for frames
    encode_s: float
    elapsed_s: float
    bottleneck: Bottleneck
    batch_size: int  # at the end: smaller than asked for after running out of memory

    @property
    def clips_per_s(self) -> float:
        return self.n_encoded / self.elapsed_s if self.elapsed_s else 0.0


def extract(
    encoder: Encoder,
    clips: Sequence[Clip],
    spec: FeatureSpec,
    root: str | Path,
    *,
    batch_size: int = 8,
    workers: int = 2,
    progress: Callable[[Progress], None] | None = None,
    failures_path: str | Path | None = None,
    shard_bytes: int = 64 << 20,
    commit_every_s: float = 30.0,
) -> ExtractionReport:
    """Encode the clips that are not cached and store their features.

    Clips that cannot be decoded are listed in `failures_path` (default `failures.jsonl` in the store's folder) with the
    reason, and tried again by the next run. On Ctrl-C and on errors, what was encoded is committed first.

    Raises:
        InputError: the features cannot fit on the disk, or it became full; one clip does not fit in memory.
        EncoderMismatch: `spec` is of another encoder.
    """
    started = time.monotonic()
    store = FeatureStore(root, spec)
    size = estimate(encoder, clips, spec, root, count_cached=spec.plan.sampling == "dense")
    if not size.fits:
        estimate(encoder, clips, spec, root).check(store.folder)
    run = EncodingRun(encoder, clips, spec, store=store, batch_size=batch_size, num_workers=workers)
    tally = _Tally(len(clips), run, progress)
    listed = FailureLog(failures_path or store.folder / FAILURES_FILE)
    listed.forget(clips)
    refreshed = time.monotonic()
    with store.writer(shard_bytes, commit_every_s) as writer, run:
        for event in run:
            if isinstance(event, ViewEncoded):
                try:
                    writer.add(event.key, event.values, event.info)
                except UnstorableFeatures as error:
                    tally.unstorable[event.key.clip_key] = str(error)
                tally.tell()  # a clip may have thousands of views
            elif isinstance(event, ClipDone) and event.repeated:
                tally.repeated.append(event)  # how it went is known at the end
            elif isinstance(event, ClipFailed):
                listed.add(tally.failed(event.clip, event.key, event.reason))
            elif isinstance(event, ClipDone):
                tally.cached()
            elif event.key in tally.unstorable:
                listed.add(tally.failed(event.clip, event.key, tally.unstorable[event.key]))
            else:
                tally.encoded()
            if time.monotonic() - refreshed > _REFRESH_S:  # another process may have done some of our clips
                store.refresh()
                refreshed = time.monotonic()
    for event in tally.repeated:
        if event.key in tally.reasons:
            listed.add(tally.failed(event.clip, event.key, tally.reasons[event.key]))
        else:
            tally.cached()
    return tally.report(store.folder, time.monotonic() - started)


class _Tally:
    """Counts how the clips of a run went, and tells the progress."""

    def __init__(self, total: int, run: EncodingRun, progress: Callable[[Progress], None] | None) -> None:
        self.repeated: list[ClipDone] = []
        self.unstorable: dict[ClipKey, str] = {}
        self.reasons: dict[ClipKey, str] = {}  # of the failures
        self._total = total
        self._run = run
        self._progress = progress
        self._num_cached = 0
        self._num_encoded = 0
        self._failures: list[Failure] = []
        self._started = time.monotonic()
        self._told = 0.0

    def cached(self) -> None:
        self._num_cached += 1
        self.tell()

    def encoded(self) -> None:
        self._num_encoded += 1
        self.tell()

    def failed(self, clip: Clip, key: ClipKey | None, reason: str) -> Failure:
        failure = Failure.of(clip, reason)
        self._failures.append(failure)
        if key is not None:
            self.reasons[key] = failure.reason
        log.warning("%s: not encoded: %s", clip.path, failure.reason)
        self.tell()
        return failure

    def tell(self) -> None:
        done = self._num_cached + self._num_encoded + len(self._failures)
        now = time.monotonic()
        if self._progress is None or (done < self._total and now - self._told < _PROGRESS_S):
            return
        self._told = now
        elapsed_s = now - self._started
        worked = done - self._num_cached
        self._progress(
            Progress(
                done=done,
                total=self._total,
                cached=self._num_cached,
                failed=len(self._failures),
                views_encoded=self._run.encoder.views_encoded,
                clips_per_s=self._num_encoded / elapsed_s if elapsed_s else 0.0,
                eta_s=(self._total - done) * elapsed_s / worked if worked else None,
                bottleneck=self._run.bottleneck,
            )
        )

    def report(self, folder: Path, elapsed_s: float) -> ExtractionReport:
        return ExtractionReport(
            folder=folder,
            n_clips=self._total,
            n_cached=self._num_cached,
            n_encoded=self._num_encoded,
            failures=tuple(self._failures),
            views_encoded=self._run.encoder.views_encoded,
            frames_decoded=self._run.encoder.frames_decoded,
            decode_wait_s=self._run.decode_wait_s,
            encode_s=self._run.encoder.encode_s,
            elapsed_s=elapsed_s,
            bottleneck=self._run.bottleneck,
            batch_size=self._run.encoder.batch_size,
        )
