"""`prismhub cache list|verify|prune|convert`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from core_encoder.config import option
from core_encoder.errors import InputError, UnreadableVideo
from prismhub.options import command_signature
from prismhub.printing import print_json, print_table

if TYPE_CHECKING:
    from core_encoder.features.old_store import Conversion, OldStore
    from core_encoder.features.store_upkeep import VerifyReport

app = typer.Typer(help="The feature store.", no_args_is_help=True)


@dataclass(frozen=True)
class CacheListSettings:
    """Options of `prismhub cache list`."""

    store: Path | None = option(None, "Feature store (default: features/ in PRISMHUB_HOME).")
    json: bool = option(False, "The result as JSON on stdout.")


@dataclass(frozen=True)
class CacheVerifySettings:
    """Options of `prismhub cache verify`."""

    videos: tuple[str, ...] = option((), "Videos or folders to encode again and compare.", positional=True)
    store: Path | None = option(None, "Feature store (default: features/ in PRISMHUB_HOME).")
    encoder: str | None = option(None, "Encoder of the features, for the comparison.")
    sample: int = option(8, "So many clips are compared.")


@dataclass(frozen=True)
class CachePruneSettings:
    """Options of `prismhub cache prune`."""

    store: Path | None = option(None, "Feature store (default: features/ in PRISMHUB_HOME).")
    older_than_days: float | None = option(None, "Remove stores not written to for so long.")
    encoder: str | None = option(None, "Remove the stores of this encoder (its name).")
    everything: bool = option(False, "Remove all stores that the other options choose.")
    check_bytes: bool = option(False, "Read every byte and remove corrupt shards too.")
    dry_run: bool = option(False, "Only say what would go.")

    def __post_init__(self) -> None:
        if self.older_than_days is not None and not self.older_than_days >= 0:
            raise InputError(f"older_than_days must not be negative, not {self.older_than_days:g}")


@dataclass(frozen=True)
class CacheConvertSettings:
    """Options of `prismhub cache convert`."""

    store: Path | None = option(None, "Feature store (default: features/ in PRISMHUB_HOME).")
    remove: bool = option(False, "Remove the old stores while they are taken over.")


def cache_list(settings: CacheListSettings) -> None:
    """List the stored features: encoder, kind, clips, size.

    Example: prismhub cache list
    """
    from core_encoder.features.feature_store import mention_old_store
    from core_encoder.features.old_store import old_stores
    from core_encoder.features.store_upkeep import list_stores
    from core_encoder.files.storage import readable_bytes

    root = _store_of(settings)
    for old in old_stores(root):
        mention_old_store(root, old.spec)
    found = list_stores(root)
    if settings.json:
        print_json(
            [
                {"folder": str(one.folder), "spec": one.spec.describe(), "clips": one.num_clips}
                | {"records": one.num_records, "bytes": one.num_bytes, "broken_shards": one.num_broken}
                for one in found
            ]
        )
        return
    header = ["folder", "encoder", "kind", "dtype", "clips", "records", "size", "broken shards"]
    rows = [
        [
            one.folder.name,
            one.spec.encoder,
            one.spec.kind,
            one.spec.dtype,
            str(one.num_clips),
            str(one.num_records),
            readable_bytes(one.num_bytes),
            str(one.num_broken),
        ]
        for one in found
    ]
    print_table(header, rows)


def cache_verify(settings: CacheVerifySettings) -> None:
    """Check every stored record; with videos, encode a few again and print the differences.

    Example: prismhub cache verify my_videos/ --encoder nano
    """
    from core_encoder.models.known_encoders import encoder_path
    from prismhub.clips import find_clips

    encoder = settings.encoder
    if bool(settings.videos) != bool(encoder):
        raise InputError("comparing needs both: videos, and --encoder NAME")
    clips = find_clips(settings.videos) if encoder else []
    if encoder:
        encoder_path(encoder)
    from core_encoder.features.feature_store import FeatureStore
    from core_encoder.features.store_upkeep import list_stores, verify_store
    from core_encoder.video.video_files import video_digest
    from prismhub.features import open_encoder

    stores = list_stores(_store_of(settings))
    digests: dict[str, str] = {}
    if encoder:
        fingerprint = open_encoder(encoder).fingerprint
        stores = [one for one in stores if one.spec.fingerprint == fingerprint]
        for clip in clips:
            try:
                digests[video_digest(clip.path)] = clip.path
            except UnreadableVideo as error:
                print(f"not compared: {error}")
    sound, compared = True, 0
    for info in stores:
        stored = {key.digest for key in FeatureStore.open(info.folder).clip_keys()}
        known = [path for digest, path in digests.items() if digest in stored]
        model = open_encoder(encoder, dtype=info.spec.precision) if encoder and known else None
        report = verify_store(info.folder, model, known, settings.sample)
        _print_verified(report)
        sound, compared = sound and report.ok, compared + len(known)
    if encoder and not compared:
        raise InputError(f"no store holds features of these videos by {encoder!r}: encode them first")
    if not sound:
        raise typer.Exit(1)


def cache_prune(settings: CachePruneSettings) -> None:
    """Remove broken shards and leftovers of killed runs; with options, whole stores.

    Example: prismhub cache prune --older-than-days 90 --dry-run
    """
    from core_encoder.features.store_upkeep import prune_stores
    from core_encoder.files.storage import readable_bytes

    report = prune_stores(
        _store_of(settings),
        older_than_days=settings.older_than_days,
        encoder=settings.encoder,
        everything=settings.everything,
        check_bytes=settings.check_bytes,
        dry_run=settings.dry_run,
    )
    done = "would remove" if report.dry_run else "removed"
    print(f"{done} {len(report.removed)} files, {readable_bytes(report.num_bytes)}")


def cache_convert(settings: CacheConvertSettings) -> None:
    """Take over the features that version 1 stored, bit for bit; run it again after an interruption.

    Example: prismhub cache convert
    """
    from core_encoder.features.old_store import convert_store, old_stores
    from prismhub.progress import Show

    root = _store_of(settings)
    found = old_stores(root)
    if not found:
        print(f"{root}: no features of an older version")
    for old in found:
        with Show(quiet=False).bar("converting") as bar:
            conversion = convert_store(old, remove=settings.remove, progress=bar.update)
        _print_converted(old, conversion)


def _print_converted(old: OldStore, conversion: Conversion) -> None:
    print(f"{old.folder.name} -> {old.new_folder.name}: {conversion.num_converted} records converted")
    if conversion.num_present:
        print(f"  {conversion.num_present} were there already")
    if conversion.padded:
        print(f"  {len(conversion.padded)} of clips with padding left out: they are encoded anew")
    if conversion.corrupt:
        print(f"  {len(conversion.corrupt)} corrupt ones left out: they are encoded anew")
    for path, reason in conversion.broken_shards.items():
        print(f"  broken shard {path.name} left out, its clips are encoded anew: {reason}")


def _print_verified(report: VerifyReport) -> None:
    counts = f"{report.num_clips} clips, {report.num_records} records in {report.num_shards} shards"
    print(f"{report.folder}: {'sound' if report.ok else 'NOT SOUND'}: {counts}")
    for path, reason in report.broken_shards.items():
        print(f"  broken shard {path.name}: {reason}")
    for path, key in report.corrupt_records:
        print(f"  corrupt record {key} in {path.name}")
    if report.incomplete_clips:
        print(f"  {report.incomplete_clips} clips are incomplete: the next encoding finishes them")
    for pair in report.compared:
        state = "agrees" if pair.agrees else "DIFFERS"
        print(f"  {pair.file_name}: {state}, largest difference {pair.max_difference:.2e} of {pair.tolerance:.2e}")
    for name, reason in report.not_compared.items():
        print(f"  {name}: not compared: {reason}")


def _store_of(settings: CacheListSettings | CacheVerifySettings | CachePruneSettings | CacheConvertSettings) -> Path:
    from prismhub.features import default_store

    return settings.store.expanduser() if settings.store else default_store()


app.command("list")(command_signature(CacheListSettings, cache_list))
app.command("verify")(command_signature(CacheVerifySettings, cache_verify))
app.command("prune")(command_signature(CachePruneSettings, cache_prune))
app.command("convert")(command_signature(CacheConvertSettings, cache_convert))
