"""`prismhub cache list|verify|prune|convert`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from core_encoder.errors import InputError, UnreadableVideo
from prismhub.printing import print_json, print_table

if TYPE_CHECKING:
    from core_encoder.features.old_store import Conversion, OldStore
    from core_encoder.features.store_upkeep import VerifyReport

app = typer.Typer(help="The feature store.", no_args_is_help=True)
AsJson = Annotated[bool, typer.Option("--json", help="As JSON on stdout.")]
StoreRoot = Annotated[str | None, typer.Option("--store", help="Feature store (default: features/ in PRISMHUB_HOME).")]


@app.command("list")
def cache_list(store: StoreRoot = None, as_json: AsJson = False) -> None:
    """List the stored features: encoder, kind, clips, size.

    Example: prismhub cache list
    """
    from core_encoder.features.feature_store import mention_old_store
    from core_encoder.features.old_store import old_stores
    from core_encoder.features.store_upkeep import list_stores
    from core_encoder.files.storage import readable_bytes

    root = _store_root(store)
    for old in old_stores(root):
        mention_old_store(root, old.spec)
    found = list_stores(root)
    if as_json:
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


@app.command("verify")
def cache_verify(
    videos: Annotated[list[str] | None, typer.Argument(help="Videos or folders to encode again and compare.")] = None,
    store: StoreRoot = None,
    encoder: Annotated[str | None, typer.Option(help="Encoder of the features, for the comparison.")] = None,
    sample: Annotated[int, typer.Option(help="So many clips are compared.")] = 8,
) -> None:
    """Check every stored record; with videos, encode a few again and print the differences.

    Example: prismhub cache verify my_videos/ --encoder nano
    """
    from core_encoder.features.feature_store import FeatureStore
    from core_encoder.features.store_upkeep import list_stores, verify_store
    from core_encoder.video.video_files import video_digest
    from prismhub.clips import find_clips
    from prismhub.features import open_encoder

    if bool(videos) != bool(encoder):
        raise InputError("comparing needs both: videos, and --encoder NAME")
    stores = list_stores(_store_root(store))
    digests: dict[str, str] = {}
    if encoder:
        fingerprint = open_encoder(encoder).fingerprint
        stores = [one for one in stores if one.spec.fingerprint == fingerprint]
        for clip in find_clips(videos or []):
            try:
                digests[video_digest(clip.path)] = clip.path
            except UnreadableVideo as error:
                print(f"not compared: {error}")
    sound, compared = True, 0
    for info in stores:
        held = {key.digest for key in FeatureStore.open(info.folder).clip_keys()}
        known = [path for digest, path in digests.items() if digest in held]
        model = open_encoder(encoder, dtype=info.spec.precision) if encoder and known else None
        report = verify_store(info.folder, model, known, sample)
        _print_verified(report)
        sound, compared = sound and report.ok, compared + len(known)
    if encoder and not compared:
        raise InputError(f"no store holds features of these videos by {encoder!r}: encode them first")
    if not sound:
        raise typer.Exit(1)


@app.command("prune")
def cache_prune(
    store: StoreRoot = None,
    older_than_days: Annotated[float | None, typer.Option(help="Remove stores not written to for so long.")] = None,
    encoder: Annotated[str | None, typer.Option(help="Remove the stores of this encoder (its name).")] = None,
    everything: Annotated[bool, typer.Option(help="Remove all stores that the other options choose.")] = False,
    check_bytes: Annotated[bool, typer.Option(help="Read every byte and remove corrupt shards too.")] = False,
    dry_run: Annotated[bool, typer.Option(help="Only say what would go.")] = False,
) -> None:
    """Remove broken shards and leftovers of killed runs; with options, whole stores.

    Example: prismhub cache prune --older-than-days 90 --dry-run
    """
    from core_encoder.features.store_upkeep import prune_stores
    from core_encoder.files.storage import readable_bytes

    report = prune_stores(
        _store_root(store),
        older_than_days=older_than_days,
        encoder=encoder,
        everything=everything,
        check_bytes=check_bytes,
        dry_run=dry_run,
    )
    done = "would remove" if report.dry_run else "removed"
    print(f"{done} {len(report.removed)} files, {readable_bytes(report.num_bytes)}")


@app.command("convert")
def cache_convert(
    store: StoreRoot = None,
    remove: Annotated[bool, typer.Option(help="Remove the old stores while they are taken over.")] = False,
) -> None:
    """Take over the features that version 1 stored, bit for bit; run it again after an interruption.

    Example: prismhub cache convert
    """
    from core_encoder.features.old_store import convert_store, old_stores
    from prismhub.progress import Show

    root = _store_root(store)
    found = old_stores(root)
    if not found:
        print(f"{root}: no features of an older version")
    for old in found:
        with Show(quiet=False).bar("converting") as bar:
            conversion = convert_store(old, remove=remove, progress=bar.update)
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


def _store_root(given: str | None) -> Path:
    from prismhub.features import default_store

    return Path(given).expanduser() if given else default_store()
