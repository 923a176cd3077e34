"""`prismhub label`: scenes of an archive as a manifest that `train` reads, for people to correct."""

from __future__ import annotations

import csv
import heapq
import io
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from core_encoder.errors import InputError, one_line
from core_encoder.files.storage import nearest, write_text
from core_encoder.files.urls import Url, named
from prismhub.archive.query_settings import LabelSettings
from prismhub.printing import print_json
from prismhub.progress import SILENT, Show

if TYPE_CHECKING:
    from prismhub.archive.found_scenes import Found
    from prismhub.archive.searching import ArchiveSearch

COLUMNS = ("path", "start", "end", "label", "score")


def label(settings: LabelSettings, show: Show = SILENT) -> Found:
    """Write the scenes that a search finds, or those an adapter is least sure of, to a manifest; the scenes.

    Raises:
        InputError: no such archive or adapter in it, nothing was found, or the file cannot be written.
    """
    from prismhub.archive.searching import ArchiveSearch

    with ArchiveSearch(settings.archive, settings.running, show) as archive:
        if settings.near is None:
            found = archive.find(settings)
            for note in found.notes:
                show.note(note)
            if not len(found):
                hint = " (--anyway lists it)" if found.nearest else ""
                raise InputError(
                    f"{found.nothing}{hint}" if found.nothing else f"{settings.archive}: nothing was found"
                )
        else:
            found = _unsure(archive, settings)
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(COLUMNS)
    for one in found:
        called = settings.label or settings.text or next(iter(one.labels), "")
        path = one.video if isinstance(named(one.video), Url) else str(Path(one.video).absolute())
        if not is_utf8(path):
            raise InputError(
                f"{one_line(path)}: its name is no UTF-8, which a manifest needs: rename it, index it again"
            )
        writer.writerow([path, f"{one.start_s:.3f}", f"{one.end_s:.3f}", called, f"{one.score:.4f}"])
    write_text(settings.out, buffer.getvalue())
    return found


def is_utf8(path: str) -> bool:
    """Whether a file is called something that can be written to a text."""
    return not any("\ud800" <= letter <= "\udfff" for letter in path)


def _unsure(archive: ArchiveSearch, settings: LabelSettings) -> Found:
    """The scenes of which an adapter is least sure; their score is how unsure it is, from 0 to 1."""
    from prismhub.archive.filters import parse_filter
    from prismhub.archive.found_scenes import Found

    index, near = archive.index, settings.near or ""
    known = index.record.adapters
    if near not in known:
        raise InputError(f"{settings.archive}: no adapter {near!r} has answered in it{nearest(near, known)}")
    where = None if settings.where is None else parse_filter(settings.where)
    with index.snapshot():
        unsure = ((1 - sureness(one), scene) for scene, one in index.scores_of(near, where))
        chosen = heapq.nlargest(settings.top, unsure, key=lambda pair: pair[0])
        if not chosen:
            raise InputError(f"{settings.archive}: adapter {near!r} has said nothing of a scene here")
        found = archive.show([scene for _, scene in chosen], [doubt for doubt, _ in chosen])
    kept = [replace(one, findings=tuple(f for f in one.findings if f.adapter == near)) for one in found]
    return Found(f"least sure: {near}", tuple(kept))


def sureness(scores: Mapping[str, float]) -> float:
    """How sure an adapter is of a scene, from 0 to 1: its best score less the second (Scheffer et al. 2001).

    Where only one score is kept, what is left to 1 takes the place of the second.
    """
    first, second, *_ = [*sorted(scores.values(), reverse=True), 0.0]
    if len(scores) == 1:
        second = min(max(1 - first, 0.0), first)
    return min(max(first - second, 0.0), 1.0)


def print_label(settings: LabelSettings) -> None:
    """Write scenes that a search finds to a manifest, for people to correct and for train to read.

    Example: prismhub label archive "a dog jumping" --out dogs.csv
    """
    show = Show(settings.output.quiet)
    found = label(settings, show)
    if settings.output.json:
        labels: dict[str, int] = defaultdict(int)
        for one in found:
            labels[settings.label or settings.text or next(iter(one.labels), "")] += 1
        print_json({"file": str(settings.out), "scenes": len(found), "labels": dict(labels)})
    else:
        print(f"{settings.out}: {len(found)} scenes; correct the column label, then")
        print(f"train on it:  prismhub train --data {settings.out} --name my-adapter")
