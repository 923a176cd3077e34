"""Looking after feature stores: list what is there, verify that it is right, remove what is not needed."""

from __future__ import annotations

import random
import shutil
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from torch import Tensor

from core_encoder.clip_plan import Clip
from core_encoder.encoder import Encoder
from core_encoder.errors import InputError
from core_encoder.features.encoding import EncodingRun, ViewEncoded
from core_encoder.features.feature_spec import FeatureKey, FeatureSpec, StoredDtype
from core_encoder.features.feature_store import FeatureStore
from core_encoder.features.shard import Shard
from core_encoder.features.shard_folder import stores_under
from core_encoder.files.storage import half_written, process_lives
from core_encoder.files.urls import Location, Url
from core_encoder.video.decoders import decoder_id
from core_encoder.video.decoding import ClipFailed
from core_encoder.video.video_files import video_digest

_YOUNG_S = 60.0
_TOLERANCE: dict[StoredDtype, float] = {"fp32": 1e-4, "fp16": 2e-3, "bf16": 1e-2, "int8": 1e-2}


@dataclass(frozen=True)
class StoreInfo:
    """One row of the list of stores."""

    folder: Location
    spec: FeatureSpec
    num_clips: int  # whose views are all there
    num_records: int
    num_bytes: int
    num_broken: int  # shards
    changed: float  # seconds since 1970


def list_stores(root: str | Location) -> list[StoreInfo]:
    """The stores under `root`, by name; folders without a readable `spec.json` are passed over."""
    stores = []
    for folder in stores_under(root):
        try:
            store = FeatureStore.open(folder)
        except InputError:
            continue
        files = store.files.files()
        stores.append(
            StoreInfo(
                folder=store.folder,
                spec=store.spec,
                num_clips=store.num_clips,
                num_records=len(store),
                num_bytes=sum(file.size for file in files.values()),
                num_broken=len(store.broken),
                changed=max((file.changed for file in files.values()), default=0.0),
            )
        )
    return stores


@dataclass(frozen=True)
class Comparison:
    """A record against the same view encoded again."""

    key: FeatureKey
    file_name: str
    max_difference: float
    tolerance: float

    @property
    def agrees(self) -> bool:
        return self.max_difference <= self.tolerance


@dataclass
class VerifyReport:
    """What is right and wrong with a store."""

    folder: Location
    num_shards: int = 0
    num_records: int = 0
    num_clips: int = 0
    broken_shards: dict[Location, str] = field(
        default_factory=dict
    )  # left out when reading: their clips count as missing
    corrupt_records: list[tuple[Location, FeatureKey]] = field(
        default_factory=list
    )  # bytes changed since they were written
    incomplete_clips: int = 0  # some views missing: an encoding to be continued
    compared: list[Comparison] = field(default_factory=list)
    not_compared: dict[str, str] = field(default_factory=dict)  # path -> why it could not be encoded again

    @property
    def ok(self) -> bool:
        """Nothing is broken, corrupt or different, nor everything beyond comparing; incomplete clips are no fault."""
        if self.broken_shards or self.corrupt_records or (self.not_compared and not self.compared):
            return False
        return all(pair.agrees for pair in self.compared)


def verify_store(
    folder: str | Location,
    encoder: Encoder | None = None,
    videos: Sequence[str | Path] = (),
    sample: int = 8,
    seed: int = 0,
) -> VerifyReport:
    """Check every shard's structure and every record's checksum; with an encoder and videos, encode some clips again.

    `videos` are recognized by their bytes, wherever they lie now; `sample` of the clips found in them are compared.

    Raises:
        InputError: `folder` is no store, or none of `videos` is in it.
        EncoderMismatch: the store is of another encoder.
    """
    store = FeatureStore.open(folder)
    report = VerifyReport(store.folder, len(store.shards), len(store), store.num_clips, dict(store.broken))
    for shard in store.shards:
        shard.file.forget_copies()  # it is the store that is looked at
        corrupt = [row for row in range(len(shard)) if not shard.intact(row)]
        report.corrupt_records += [(shard.path, shard.key(row)) for row in corrupt]
    report.incomplete_clips = store.num_incomplete_clips
    if encoder is not None:
        _compare(store, encoder, _sampled_clips(store, videos, sample, seed), report)
    return report


def _sampled_clips(store: FeatureStore, videos: Sequence[str | Path], sample: int, seed: int) -> list[Clip]:
    path_of = {}
    for path in videos:
        try:
            path_of[video_digest(path)] = path
        except InputError:
            continue
    known = [key for key in store.clip_keys() if key.digest in path_of]
    if not known:
        raise InputError(f"{store.folder}: none of the {len(videos)} videos given has features here")
    chosen = random.Random(seed).sample(known, min(sample, len(known)))
    return [key.clip_in(path_of[key.digest]) for key in chosen]


def _compare(store: FeatureStore, encoder: Encoder, clips: Sequence[Clip], report: VerifyReport) -> None:
    here = replace(store.spec, decoder=decoder_id(store.spec.decoder.partition("-")[0]))  # versions may have moved on
    with EncodingRun(encoder, clips, [here]) as run:
        for event in run:
            if isinstance(event, ViewEncoded) and event.key in store:
                stored = store.read(event.key).values
                values = event.values[0].float()
                difference, largest = _largest(stored.float() - values), _largest(values)
                tolerance = _TOLERANCE[store.spec.dtype] * max(1.0, largest)
                report.compared.append(Comparison(event.key, event.info.file_name, difference, tolerance))
            elif isinstance(event, ClipFailed):
                report.not_compared[event.clip.path] = event.reason


def _largest(values: Tensor) -> float:
    return float(values.abs().max())


@dataclass(frozen=True)
class PruneReport:
    """The files that were removed, or would be."""

    removed: tuple[Location, ...]
    num_bytes: int
    dry_run: bool


def prune_store(
    folder: str | Location, *, everything: bool = False, check_bytes: bool = False, dry_run: bool = False
) -> PruneReport:
    """Remove what no reader misses: broken shards, shards whose records are all in others, leftovers of killed writers.

    With `check_bytes`, every byte is read, and shards with corrupt records are removed too: the next extraction makes
    them anew. With `everything`, the whole store. Safe beside readers and writers, but for `everything`.

    Raises:
        InputError: `folder` is no store.
    """
    store = FeatureStore.open(folder)
    files = store.files.files()
    if everything:
        doomed = list(files)
    else:
        sound = store.shards
        if check_bytes:
            sound = [shard for shard in sound if all(shard.intact(row) for row in range(len(shard)))]
        unsound = [shard.path for shard in store.shards if shard not in sound]
        doomed = [*store.broken, *unsound, *_leftovers(store.folder), *_spare(sound)]
    num_bytes = sum(files[path].size for path in doomed if path in files)
    if not dry_run:
        store.files.remove(doomed)
        if everything and isinstance(store.folder, Path):
            shutil.rmtree(store.folder, ignore_errors=True)
    return PruneReport(tuple(sorted(doomed)), num_bytes, dry_run)


def prune_stores(
    root: str | Location,
    *,
    older_than_days: float | None = None,
    encoder: str | None = None,
    everything: bool = False,
    check_bytes: bool = False,
    dry_run: bool = False,
) -> PruneReport:
    """Prune every store under `root`; those chosen by age, by encoder (name or start of fingerprint) or all, wholly.

    Raises:
        InputError: no store is of `encoder`.
    """
    stores = list_stores(root)
    of_encoder = [
        s for s in stores if encoder and (s.spec.encoder == encoder or s.spec.fingerprint.startswith(encoder))
    ]
    if encoder and not of_encoder:
        known = sorted({s.spec.encoder for s in stores})
        raise InputError(
            f"{root}: no features of encoder {encoder!r} here; there are some of {', '.join(known) or 'none'}"
        )
    reports = []
    for store in stores:
        if encoder and store not in of_encoder:
            continue
        age_days = (time.time() - store.changed) / 86400
        chosen = older_than_days is None or age_days > older_than_days
        wholly = chosen and (everything or encoder is not None or older_than_days is not None)
        reports.append(prune_store(store.folder, everything=wholly, check_bytes=check_bytes, dry_run=dry_run))
    removed = tuple(path for report in reports for path in report.removed)
    return PruneReport(removed, sum(report.num_bytes for report in reports), dry_run)


def _leftovers(folder: Location) -> list[Path]:
    """Half-written files whose writer is gone; on a shared disk it may live on another machine, so young ones stay."""
    found: list[Path] = []
    if isinstance(folder, Url):  # there are none where files are put as a whole
        return found
    for path, writer in half_written(folder):
        try:
            age_s = time.time() - path.stat().st_mtime
        except FileNotFoundError:
            continue  # finished since the listing
        if age_s > _YOUNG_S and (age_s > 86400 or not process_lives(writer)):
            found.append(path)
    return found


def _spare(shards: Sequence[Shard]) -> list[Location]:
    """Shards that can go, smallest first: each of their keys is in a shard that stays."""
    holders = Counter(key for shard in shards for key in shard.keys)
    spare = []
    for shard in sorted(shards, key=lambda shard: (len(shard.keys), shard.path)):
        if all(holders[key] > 1 for key in shard.keys):
            spare.append(shard.path)
            holders.subtract(shard.keys)
    return spare
