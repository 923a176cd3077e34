"""A corpus made from another one by leaving clips out: a new manifest with its tables, and the list of what went."""

from __future__ import annotations

import json
from array import array
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from core_encoder.errors import InputError
from core_encoder.files.storage import atomic_path, write_json, writing_to
from pretrain.corpus.manifest import Manifest, Tier
from pretrain.curation.corpus_measures import Measured, TierMeasures, open_tier
from pretrain.curation.corpus_stats import Unreadable

MANIFEST, DROPPED, MADE_BY = "manifest.yaml", "dropped.jsonl", "curation.json"

Reasons = Sequence[Mapping[str, Any]]  # each with `why`, and what led to it: value and limit, or the duplicate
Verdict = Callable[[TierMeasures, Measured], Reasons]


@dataclass
class TierCount:
    """What became of a tier's clips; a clip with several reasons counts under each of them."""

    tier: str
    clips: int = 0
    kept: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    unreadable: list[Unreadable] = field(default_factory=list)  # and kept
    passed_on: bool = False  # as it is: it has no files to look at

    @property
    def dropped(self) -> int:
        return self.clips - self.kept


def check_folder(folder: Path, manifest: Path) -> None:
    """Refuse to write where the corpus itself, or something else, lies.

    Raises:
        InputError: `folder` holds a manifest that no curation wrote.
    """
    if folder.resolve() == manifest.resolve().parent:
        raise InputError(f"{folder}: the manifest lies there; name another folder with --out")
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: not a folder; name another one with --out")
    if (folder / MANIFEST).exists() and not (folder / MADE_BY).exists():
        raise InputError(f"{folder}: already holds a {MANIFEST} of another origin; name another folder with --out")


def write_corpus(
    folder: Path, parts: Sequence[TierMeasures | Tier], verdict: Verdict, made_by: Mapping[str, Any]
) -> list[TierCount]:
    """Write the clips that `verdict` gives no reason against; every file is whole or absent.

    The manifest comes last, and one of an earlier run goes first. `manifest.yaml` names `tiers/<name>.jsonl`, whose
    paths are absolute. `dropped.jsonl` has a line for each clip left out: tier, row, video, start, end, reasons. Tiers
    given as a bare `Tier` are passed on as they are, tiers of which nothing is left are left out. Measures of the kept
    clips stay known for the new corpus.

    Raises:
        InputError: nothing is left, or the disk is full.
    """
    counts: list[TierCount] = []
    tiers: list[Tier] = []
    with writing_to(folder):
        (folder / "tiers").mkdir(parents=True, exist_ok=True)
        (folder / MANIFEST).unlink(missing_ok=True)  # of an earlier run, whose tables go now
    write_json(folder / MADE_BY, made_by)
    with ExitStack() as stack:
        dropped = stack.enter_context(stack.enter_context(atomic_path(folder / DROPPED)).open("w", encoding="ascii"))
        for part in parts:
            if isinstance(part, Tier):
                tiers.append(part)
                counts.append(TierCount(part.name, passed_on=True))
                continue
            count, kept = TierCount(part.tier.name), array("q")
            table = folder / "tiers" / f"{part.tier.name}.jsonl"
            with atomic_path(table) as aside, aside.open("w", encoding="ascii") as lines:
                for clip in part.read():
                    count.clips += 1
                    reasons = verdict(part, clip)
                    if reasons:
                        count.reasons.update(str(one["why"]) for one in reasons)
                        dropped.write(json.dumps(_dropped(part.tier, clip, reasons)) + "\n")
                        continue
                    count.kept += 1
                    kept.append(clip.number)
                    lines.write(json.dumps(clip.row.to_dict()) + "\n")
                    if clip.reason is not None:
                        count.unreadable.append(Unreadable.of(part.tier, clip))
            counts.append(count)
            if kept:
                tier = replace(part.tier, table=table.absolute(), shards=(), columns={})
                tiers.append(tier)
                _hand_on(part, tier, kept)
            else:
                table.unlink()
    if not tiers:
        raise InputError(f"{folder}: nothing is left of the corpus; see {DROPPED} there, and ask for less")
    Manifest(tuple(tiers)).save(folder / MANIFEST)
    return counts


def _dropped(tier: Tier, clip: Measured, reasons: Reasons) -> dict[str, Any]:
    row = clip.row
    place = {"tier": tier.name, "row": clip.number, "video": row.path, "start": row.start_s, "end": row.end_s}
    return place | {"reasons": [dict(one) for one in reasons]}


def _hand_on(part: TierMeasures, tier: Tier, kept: Sequence[int]) -> None:
    try:
        source = open_tier(tier)
    except InputError:  # its first videos are gone: it cannot be read, and there is nothing to know of it
        return
    part.hand_on(kept, TierMeasures(tier, source, part.encoder, part.folder.parent))
