"""The statistics of a corpus: rows of a table, and a page of histograms that needs nothing else."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from core_encoder.files.storage import write_text
from pretrain.curation.corpus_stats import MEASURES, Measure, TierStats
from pretrain.curation.histogram import Histogram
from prismhub.pages.report import nice_ticks, render_page

HEADER = ("tier", "quality", "captions", "clips", "hours", "unreadable", "words", "seconds", "motion", "grounding")
LISTED = 50  # unreadable clips on the page; the file lists all
BARS = 30


def table_rows(tiers: Sequence[TierStats]) -> list[list[str]]:
    """One row per tier under `HEADER`; measures as means, `~` before what a sample of the clips tells."""
    rows = []
    for one in tiers:
        about = "~" if one.sampled else ""
        means = {
            measure.name: "-" if mean is None else f"{mean:.{measure.digits}f}"
            for measure in MEASURES
            for mean in [one.histograms[measure.name].mean]
        }
        timed = one.hours is not None and one.histograms["duration_s"].count
        hours = f"{about}{_hours(one.hours or 0.0)}" if timed else "-"
        failed = f"{len(one.unreadable):,}" + (f" of {one.measured:,}" if one.sampled else "")
        cells = [one.tier.name, one.tier.quality, one.tier.caption_source, f"{one.clips:,}", hours, failed]
        rows.append([*cells, means["words"], means["duration_s"], means["motion"], means["grounding"]])
    return rows


def _hours(hours: float) -> str:
    return f"{hours:,.1f}" if hours >= 10 else f"{hours:.2g}"


def write_corpus_report(
    path: str | Path, manifest: Path, tiers: Sequence[TierStats], encoder: str, fingerprint: str, command: str
) -> Path:
    """Write the page, atomically; `encoder` is empty where no grounding score was asked for.

    Raises:
        InputError: the disk is full.
    """
    clips, measured = sum(one.clips for one in tiers), sum(one.measured for one in tiers)
    failures = [one for tier in tiers for one in tier.unreadable]
    notices = []
    if measured < clips:
        notices.append(f"These are {measured:,} of {clips:,} clips, drawn evenly; hours are estimated from them.")
    if failures:
        what = "1 clip" if len(failures) == 1 else f"{len(failures):,} clips"
        notices.append(f"{what} could not be read: only caption lengths count.")
    if not encoder:
        notices.append("Without --encoder there are no grounding scores.")
    drawn = [measure for measure in MEASURES if any(one.histograms[measure.name].count for one in tiers)]
    hours = sum(one.hours or 0.0 for one in tiers)
    provenance = [("manifest", str(manifest)), ("encoder", encoder or "none")]
    if encoder:
        provenance.append(("encoder's fingerprint", fingerprint))
    provenance += [(f"rows of {one.tier.name}", f"{one.tier.source}, weight {one.tier.weight:g}") for one in tiers]
    page = render_page(
        "corpus_report.html",
        title=f"Corpus {manifest.name}",
        headline=f"{clips:,} clips in {len(tiers)} tier{'s' if len(tiers) > 1 else ''}, {_hours(hours)} hours",
        summary="Means in the table, histograms below. Clean tiers are green, noisy ones blue.",
        notices=notices,
        header=HEADER,
        rows=table_rows(tiers),
        charts=[_chart(measure, tiers) for measure in drawn],
        failures=[f"{one.tier}, row {one.row}: {one.video}: {one.reason}" for one in failures[:LISTED]]
        + ([f"and {len(failures) - LISTED:,} more"] if len(failures) > LISTED else []),
        command=command,
        provenance=provenance,
    )
    return write_text(path, page)


def _chart(measure: Measure, tiers: Sequence[TierStats]) -> dict[str, Any]:
    """One panel per tier, all with the same bars, so that tiers can be compared by eye."""
    shown = [one for one in tiers if one.histograms[measure.name].count]
    edges = bar_edges(measure, [one.histograms[measure.name] for one in shown])
    panels = [_panel(measure, one, edges) for one in shown]
    return {"title": measure.title, "about": measure.about, "unit": measure.unit, "panels": panels}


def bar_edges(measure: Measure, histograms: Sequence[Histogram]) -> list[float]:
    """Rising edges of about `BARS` bars over all but the largest half percent of the values."""
    low = min(one.least for one in histograms)
    high = max(one.quantile(0.995) or 0.0 for one in histograms)
    fine = (measure.high - measure.low) / measure.bins
    step = max(math.ceil(max(high - low, fine) / BARS / fine - 1e-9), 1) * fine
    first = math.floor((low - measure.low) / step + 1e-9)
    last = max(math.floor((high - measure.low) / step + 1e-9) + 1, first + 1)
    return [measure.low + index * step for index in range(first, last + 1)]


def _panel(measure: Measure, one: TierStats, edges: Sequence[float]) -> dict[str, Any]:
    width, height, left, right, top, bottom = 460.0, 220.0, 52.0, 14.0, 12.0, 36.0
    histogram = one.histograms[measure.name]
    shares = [100 * count / histogram.count for count in histogram.counts_between(edges)]
    ticks = nice_ticks(0.0, max(shares), 4)
    inner, tall = width - left - right, height - top - bottom

    def x_of(value: float) -> float:
        return round(left + (value - edges[0]) / (edges[-1] - edges[0]) * inner, 2)

    def y_of(share: float) -> float:
        return round(top + (ticks[-1] - share) / ticks[-1] * tall, 2)

    bars = []
    for place, share in enumerate(shares):
        if not share:
            continue
        low, high = edges[place], edges[place + 1]
        span = f"{low:.{measure.digits}f} to {high:.{measure.digits}f}"
        if place == len(shares) - 1 and histogram.greatest > high:
            span = f"{low:.{measure.digits}f} and more"
        bars.append(
            {
                "x": x_of(low),
                "y": y_of(share),
                "width": round(max(x_of(high) - x_of(low) - 1, 1), 2),
                "height": round(y_of(0) - y_of(share), 2),
                "tip": f"{span}: {share:.1f} % of the clips",
            }
        )
    median = histogram.quantile(0.5)
    note = f"mean {histogram.mean:.{measure.digits}f}, median {median:.{measure.digits}f}, {histogram.count:,} clips"
    marks = [mark for mark in nice_ticks(edges[0], edges[-1]) if edges[0] - 1e-9 <= mark <= edges[-1] + 1e-9]
    return {
        "tier": one.tier.name,
        "noisy": one.tier.quality == "noisy",
        "note": note,
        "width": width,
        "height": height,
        "left": left,
        "right": width - right,
        "bottom": height - bottom,
        "y_ticks": [(y_of(tick), f"{tick:g} %") for tick in ticks],
        "x_ticks": [(x_of(mark), f"{mark:g}") for mark in marks],
        "bars": bars,
    }
