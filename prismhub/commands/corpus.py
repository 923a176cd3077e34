"""`prismhub corpus stats|filter|dedup`."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from core_encoder.cluster.cluster_settings import ClusterSettings
from core_encoder.cluster.ray_session import shared_session
from core_encoder.config import group, option
from core_encoder.errors import InputError
from fit.device import Accelerator
from prismhub.options import command_signature
from prismhub.printing import print_json, print_table
from prismhub.progress import Show
from prismhub.settings import OutputSettings, at_least_one

if TYPE_CHECKING:
    from core_encoder.encoder import Encoder
    from pretrain.corpus.manifest import Manifest, Tier
    from pretrain.curation.corpus_measures import TierMeasures
    from pretrain.curation.corpus_stats import Unreadable
    from pretrain.curation.curated_corpus import TierCount

app = typer.Typer(help="Curate a corpus for pretraining.", no_args_is_help=True)

FAILED_ITEMS = 3
UNREADABLE = "unreadable.jsonl"


@dataclass(frozen=True)
class MeasuringSettings:
    """Which corpus, and how its clips are measured."""

    manifest: Path = option(help="YAML file of the corpus's tiers.", positional=True)
    encoder: str | None = option(None, "Encoder: name, folder, file or Hub id.")
    accelerator: Accelerator = option("auto", "auto, cpu, gpu or mps.")
    workers: int = option(2, "Decoding threads.")
    clips_per_batch: int = option(8, "Clips encoded at once.")
    measures: Path | None = option(None, "Where measures are kept (default: curation/ in PRISMHUB_HOME).")

    def __post_init__(self) -> None:
        at_least_one(self, "workers", "clips_per_batch")


@dataclass(frozen=True, kw_only=True)
class CorpusStatsSettings:
    """Options of `prismhub corpus stats`."""

    measuring: MeasuringSettings = group()
    cluster: ClusterSettings = group()
    out: Path | None = option(None, "Folder of the page (default: MANIFEST-stats beside it).")
    sample: int | None = option(None, "Measure so many clips of each tier (default: all).")
    output: OutputSettings = group()

    def __post_init__(self) -> None:
        at_least_one(self, "sample")


@dataclass(frozen=True, kw_only=True)
class CorpusFilterSettings:
    """Options of `prismhub corpus filter`."""

    measuring: MeasuringSettings = group()
    cluster: ClusterSettings = group()
    out: Path = option(help="Folder of the new manifest, its tables and what was dropped.")
    min_grounding: float | None = option(None, "Least cosine of clip and caption.")
    min_motion: float | None = option(None, "Least motion magnitude; static clips have about 0.")
    min_duration: float | None = option(None, "Least duration in seconds.")
    max_duration: float | None = option(None, "Greatest duration in seconds.")
    min_words: int | None = option(None, "Least length of a caption.")
    max_words: int | None = option(None, "Greatest length of a caption.")
    drop_unreadable: bool = option(False, "Leave out unreadable clips.")
    output: OutputSettings = group()


@dataclass(frozen=True, kw_only=True)
class CorpusDedupSettings:
    """Options of `prismhub corpus dedup`."""

    measuring: MeasuringSettings = group()
    cluster: ClusterSettings = group()
    out: Path = option(help="Folder of the new manifest, its tables and what was dropped.")
    near: float | None = option(None, "Cosine of embeddings from which two clips count as one (needs --encoder).")
    against: tuple[str, ...] = option((), "Evaluation sets: folders of videos, or manifests.")
    output: OutputSettings = group()


def corpus_stats(settings: CorpusStatsSettings) -> None:
    """Measure every clip of a corpus: a table, and a page with histograms. --encoder adds grounding scores.

    Example: prismhub corpus stats corpus.yaml --encoder google/videoprism-lvt-base-f16r288
    """
    from pretrain.corpus.manifest import Manifest
    from pretrain.curation.corpus_measures import TierMeasures, open_tier
    from pretrain.curation.corpus_stats import choose, tier_stats
    from prismhub.pages.corpus_report import HEADER, table_rows, write_corpus_report

    settings.cluster.check()
    show, measuring = Show(settings.output.quiet), settings.measuring
    manifest, encoder = measuring.manifest, measuring.encoder
    corpus = Manifest.load(manifest)
    sources = [open_tier(tier) for tier in corpus.tiers]
    model = _video_text_encoder(encoder, measuring.accelerator) if encoder else None
    folder = settings.out or manifest.with_name(f"{manifest.stem}-stats")
    found = []
    with shared_session():
        for tier, source in zip(corpus.tiers, sources, strict=True):
            part = TierMeasures(tier, source, model, measuring.measures)
            numbers = choose(len(source), settings.sample)
            _take([part], numbers, settings, show)
            found.append(tier_stats(tier, len(source), part.read(numbers)))
    command = shlex.join(["prismhub", *sys.argv[1:]]) if sys.argv[1:2] == ["corpus"] else "prismhub corpus stats"
    fingerprint = model.fingerprint if model else ""
    page = write_corpus_report(folder / "index.html", manifest, found, encoder or "", fingerprint, command)
    unreadable = [one for stats in found for one in stats.unreadable]
    _list_unreadable(folder, unreadable)
    if settings.output.json:
        print_json({"page": str(page), "encoder": encoder, "tiers": [one.describe() for one in found]})
    else:
        print_table(HEADER, table_rows(found))
        print(f"the page: {page.resolve().as_uri()}")
    _end(folder, unreadable, show)


def corpus_filter(settings: CorpusFilterSettings) -> None:
    """Write a new manifest without the clips outside the limits, and the list of what was dropped and why.

    Example: prismhub corpus filter corpus.yaml --out filtered --min-motion 0.005 --min-words 3 --drop-unreadable
    """
    from pretrain.curation.corpus_filter import Limits
    from pretrain.curation.curated_corpus import write_corpus

    settings.cluster.check()
    measuring, out, encoder = settings.measuring, settings.out, settings.measuring.encoder
    limits = Limits(**{field.name: getattr(settings, field.name) for field in fields(Limits)})
    if limits.min_grounding is not None and encoder is None:
        raise InputError("--min-grounding needs --encoder: a video-text encoder that judges clips and captions")
    if encoder is not None and limits.min_grounding is None:
        raise InputError("--encoder judges clips and captions: say how well they must agree with --min-grounding")
    show = Show(settings.output.quiet)
    corpus = _corpus(measuring.manifest, out)
    model = _video_text_encoder(encoder, measuring.accelerator) if encoder else None
    parts = _parts(corpus, model, measuring.measures, show)
    _take(_measured(parts), None, settings, show)
    made_by: dict[str, Any] = {
        "command": "filter",
        "manifest": str(measuring.manifest.absolute()),
        "limits": asdict(limits),
    }
    if model:
        made_by["encoder"] = {"name": model.name, "fingerprint": model.fingerprint}
    counts = write_corpus(out, parts, lambda part, clip: limits.reasons(clip), made_by)
    _report(out, counts, show, settings.output.json)


def corpus_dedup(settings: CorpusDedupSettings) -> None:
    """Write a new manifest without duplicates: equal bytes and bounds, and with --encoder equal looks.

    Example: prismhub corpus dedup corpus.yaml --out unique --encoder nano --near 0.95 --against my_test_videos/
    """
    from pretrain.curation.corpus_dedup import evaluation_sets, exact_duplicates, near_duplicates, verdict_of
    from pretrain.curation.curated_corpus import write_corpus
    from prismhub.features import open_encoder

    settings.cluster.check()
    measuring, out, encoder = settings.measuring, settings.out, settings.measuring.encoder
    if settings.near is not None and encoder is None:
        raise InputError("--near needs --encoder: its embeddings are compared")
    near = 0.95 if settings.near is None else settings.near
    if not -1 < near <= 1:
        raise InputError(f"--near is a cosine, above -1 and at most 1, not {near:g}")
    show = Show(settings.output.quiet)
    corpus = _corpus(measuring.manifest, out)
    model = open_encoder(encoder, measuring.accelerator) if encoder else None
    parts = _parts(corpus, model, measuring.measures, show)
    against = list(settings.against)
    theirs = evaluation_sets(against, model, measuring.measures)
    _take([*_measured(parts), *theirs], None, settings, show)
    found = exact_duplicates(_measured(parts), theirs)
    if model is not None:
        with show.bar("comparing blocks of clips") as bar:
            found |= near_duplicates(_measured(parts), theirs, near, found, out, bar.update)
    made_by: dict[str, Any] = {"command": "dedup", "manifest": str(measuring.manifest.absolute()), "against": against}
    if model:
        made_by |= {"encoder": {"name": model.name, "fingerprint": model.fingerprint}, "near": near}
    counts = write_corpus(out, parts, verdict_of(found), made_by)
    missed = [
        (part, clip) for part in theirs for clip in part.read() if clip.reason is not None
    ]  # what nothing could be compared with
    for part, clip in missed:
        show.note(f"not compared: {clip.row.path} of {part.tier.name}: {clip.reason}")
    _report(out, counts, show, settings.output.json, failed=len(missed))


def _video_text_encoder(name: str, accelerator: str) -> Encoder:
    from prismhub.features import open_encoder

    model = open_encoder(name, accelerator)
    model.embed_text(["a clip"])  # refuses an encoder without text before hours of decoding
    return model


def _corpus(manifest: Path, out: Path) -> Manifest:
    from pretrain.corpus.manifest import Manifest
    from pretrain.curation.curated_corpus import check_folder

    corpus = Manifest.load(manifest)
    check_folder(out, manifest)
    return corpus


def _parts(corpus: Manifest, model: Encoder | None, measures: Path | None, show: Show) -> list[TierMeasures | Tier]:
    """Each tier ready to be measured; synthetic ones as they are."""
    from pretrain.curation.corpus_measures import TierMeasures, open_tier

    parts: list[TierMeasures | Tier] = []
    for tier in corpus.tiers:
        if tier.synthetic:
            show.note(f"tier {tier.name} is synthetic: passed on unchanged")
            parts.append(tier)
        else:
            parts.append(TierMeasures(tier, open_tier(tier), model, measures))
    return parts


def _measured(parts: Sequence[TierMeasures | Tier]) -> list[TierMeasures]:
    from pretrain.curation.corpus_measures import TierMeasures

    return [part for part in parts if isinstance(part, TierMeasures)]


def _take(
    parts: Sequence[TierMeasures],
    numbers: Sequence[int] | None,
    settings: CorpusStatsSettings | CorpusFilterSettings | CorpusDedupSettings,
    show: Show,
) -> None:
    with shared_session():
        for part in parts:
            with show.bar(f"measuring {part.tier.name}") as bar:
                part.take(
                    numbers,
                    workers=settings.measuring.workers,
                    clips_per_batch=settings.measuring.clips_per_batch,
                    progress=bar.update,
                    cluster=settings.cluster,
                )


def _report(out: Path, counts: Sequence[TierCount], show: Show, as_json: bool, failed: int = 0) -> None:
    from pretrain.curation.curated_corpus import DROPPED, MANIFEST

    unreadable = [one for count in counts for one in count.unreadable]
    _list_unreadable(out, unreadable)
    if as_json:
        print_json(
            {
                "manifest": str(out / MANIFEST),
                "dropped": str(out / DROPPED),
                "tiers": [
                    {"tier": one.tier, "clips": one.clips, "kept": one.kept, "dropped": one.dropped}
                    | {"reasons": dict(one.reasons), "passed_on": one.passed_on}
                    for one in counts
                ],
            }
        )
    else:
        rows = [_count_row(one) for one in counts]
        print_table(["tier", "clips", "kept", "dropped", "reasons"], rows)
        print(f"{out / MANIFEST}")
    _end(out, unreadable, show, failed)


def _count_row(one: TierCount) -> list[str]:
    if one.passed_on:
        return [one.tier, "-", "all", "-", "synthetic: passed on unchanged"]
    reasons = ", ".join(f"{why} {count:,}" for why, count in one.reasons.most_common()) or "-"
    return [one.tier, f"{one.clips:,}", f"{one.kept:,}", f"{one.dropped:,}", reasons]


def _list_unreadable(folder: Path, unreadable: Sequence[Unreadable]) -> None:
    from core_encoder.files.storage import write_text

    path = folder / UNREADABLE
    if unreadable:
        write_text(path, "".join(_line(asdict(one)) for one in unreadable))
    else:
        path.unlink(missing_ok=True)  # of an earlier run


def _line(values: Mapping[str, Any]) -> str:
    return json.dumps(values) + "\n"


def _end(folder: Path, unreadable: Sequence[Unreadable], show: Show, failed: int = 0) -> None:
    if unreadable:
        what = "1 clip" if len(unreadable) == 1 else f"{len(unreadable):,} clips"
        show.note(f"{what} cannot be read, listed in {folder / UNREADABLE}")
    if unreadable or failed:
        raise typer.Exit(FAILED_ITEMS)


app.command("stats")(command_signature(CorpusStatsSettings, corpus_stats))
app.command("filter")(command_signature(CorpusFilterSettings, corpus_filter))
app.command("dedup")(command_signature(CorpusDedupSettings, corpus_dedup))
