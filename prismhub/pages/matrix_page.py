"""The matrix as one page that needs nothing else: the table, a picture a suite, and what each benchmark's cells show.

The page holds its drawings, styles and its one script itself and loads nothing. Every text is escaped: names, captions
and reasons come from data. However large the results, it stays bounded; what is left out is said where it is.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from adapters.scores import Score
from benchmarks.encoding import Watch
from benchmarks.report.cited import PAPER, RELEASED, difference, printed, signed
from benchmarks.report.comparison import Compared
from benchmarks.report.details import Confusions, Details, details_of
from benchmarks.report.matrix_report import MatrixReport, ReportRow
from benchmarks.report.result_folder import ReportColumn, ReportedCell
from benchmarks.report.tables import change_text, cited_numbers, comparison_notes, partial_notes
from prismhub.pages.report import Confusion, matrix_drawing, readable_seconds, render_page, short
from prismhub.pages.suite_picture import suite_picture

MOST_CLASSES = 500  # rows of a benchmark's table of classes
MOST_CHARACTERS = 240  # of a text in an example, or of a reason
SCRIPT = Path(__file__).with_name("matrix_page.js")


def matrix_page(report: MatrixReport, watch: Watch, command: str | None = None) -> str:
    """The page as text.

    Raises:
        InputError: a file of predictions was cut or is damaged.
    """
    script = SCRIPT.read_text(encoding="utf-8")
    done = sum(cell.result.state == "done" for cell in report.cells)
    pictures = (suite_picture(report, suite, rows) for suite, rows in report.suites().items())
    scored = [row.name for row in report.rows if any(column.cells.get(row.name) for column in report.columns)]
    return render_page(
        "matrix_page.html",
        script=script,
        digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii"),
        title=f"Results of {report.folder.resolve().name}",
        headline=_headline(report, len(scored)),
        summary=f"{done} of {len(report.cells)} cells have scores.",
        notices=partial_notes(report),
        paper=PAPER,
        released=RELEASED,
        columns=[{"title": column.title, "number": place % 6} for place, column in enumerate(report.columns)],
        suites=[_suite(report, suite, rows) for suite, rows in report.suites().items()],
        states=sorted({state for row in report.rows for state in _states(report, row)}),
        pictures=[one for one in pictures if one is not None],
        videoglue=report.videoglue,
        comparison=_comparison(report),
        without_score=[(cell, short(cell.result.reason, MOST_CHARACTERS)) for cell in report.without_score()],
        costs=[_cost(cell) for cell in report.cells if cell.result.cost is not None],
        benchmarks=list(_benchmarks(report, watch)),
        encoders=sorted({(one.result.encoder, one.result.encoder_fingerprint) for one in report.cells}),
        commands=_commands(report),
        command=command,
    )


def _headline(report: MatrixReport, scored: int) -> str:
    encoders = len({column.fingerprint for column in report.columns})
    return f"{scored} benchmark{'s' if scored != 1 else ''}, {encoders} encoder{'s' if encoders != 1 else ''}"


def _states(report: MatrixReport, row: ReportRow) -> list[str]:
    return list(dict.fromkeys(report.entry(row, column).state.partition(" (")[0] for column in report.columns))


def _suite(report: MatrixReport, suite: str, rows: Sequence[ReportRow]) -> dict[str, Any]:
    """The rows of the matrix of one suite, and its averages."""
    found = []
    for row in rows:
        states = _states(report, row)
        places = [_place(report, row, column) for column in report.columns]
        words = " ".join([row.name, suite, row.metric, *states]).lower()
        cited = cited_numbers(row)
        found.append({"row": row, "places": places, "words": words, "states": "|".join(states), "cited": cited})
    means = [one for one in report.averages if one.suite == suite]
    return {"name": suite, "rows": found, "means": [(str(one), one.score is not None) for one in means]}


def _place(report: MatrixReport, row: ReportRow, column: ReportColumn) -> dict[str, Any]:
    """One place of the matrix: the score with its interval, and the differences to what is cited."""
    entry = report.entry(row, column)
    minus = [difference(entry.score, cited) for cited in (row.cited.paper_base, row.cited.released_base)]
    score, about = entry.score, ""
    if score is not None:
        about = _interval(score) if entry.spread is None else f"± {score.shown(entry.spread)}, {len(entry.cells)} seeds"
        lacking = min(entry.results, key=lambda one: one.n_evaluated / max(one.n_total, 1))
        about += f"; {lacking.n_evaluated} of {lacking.n_total}" if lacking.skipped else ""
    return {
        "state": entry.state,
        "reason": short(entry.reason, MOST_CHARACTERS),
        "text": "" if score is None else score.shown(score.value),
        "value": "" if score is None else printed(score, score.value),
        "about": about,
        "partial": entry.partial,
        "minus": [("" if one is None else round(one, 4), signed(one)) for one in minus],
    }


def _interval(score: Score) -> str:
    ends = score.interval
    return "" if ends is None else f"{score.shown(ends[0])} to {score.shown(ends[1])}"


def _comparison(report: MatrixReport) -> dict[str, Any] | None:
    if report.comparison is None:
        return None
    pairs = [_pair(one) for one in report.comparison.pairs if one.change is not None]
    return {"old": str(report.comparison.old), "pairs": pairs, "notes": comparison_notes(report)}


def _pair(one: Compared) -> dict[str, Any]:
    """A row of the comparison; the bar's scale is from -1 to 1 of the largest change that a score of its unit has."""
    assert one.change is not None and one.new_score is not None and one.old_score is not None
    new, old = one.new.result, one.old.result
    numbers = [printed(score, score.value) for score in (one.old_score, one.new_score, one.change)]
    only = f", {one.only_new} only new, {one.only_old} only old" if one.only_new or one.only_old else ""
    return {
        "task": new.task,
        "encoder": new.encoder if new.encoder == old.encoder else f"{new.encoder}, was {old.encoder}",
        "adapter": new.adapter if new.adapter == old.adapter else f"{new.adapter}, was {old.adapter}",
        "seed": one.new.seed,
        "metric": new.main_metric,
        "values": numbers,
        "texts": [str(one.old_score), str(one.new_score), change_text(one.change)],
        "sure": one.clear,
        "better": one.change.value > 0,
        "shared": one.shared,
        "about": f"{one.drawn}{only}",
    }


def _cost(cell: ReportedCell) -> dict[str, Any]:
    """What a cell took; seconds as people read them, and as numbers to sort by."""
    cost = cell.result.cost
    assert cost is not None
    seconds = [cost.encode_s, cost.train_s, cost.predict_s, cost.judge_s]
    memory, gpu = cost.peak_memory_bytes, cost.peak_gpu_bytes
    return {
        "cell": cell,
        "seconds": [(one, readable_seconds(one) if one else "-") for one in seconds],
        "encoded": cost.encoded,
        "memory": ("" if memory is None else memory, "-" if memory is None else f"{memory / 2**20:,.0f} MiB"),
        "gpu": ("" if gpu is None else gpu, "-" if gpu is None else f"{gpu / 2**20:,.0f} MiB"),
        "parameters": (cost.parameters or "", "-" if not cost.parameters else f"{cost.parameters:,}"),
    }


def _benchmarks(report: MatrixReport, watch: Watch) -> Iterator[dict[str, Any]]:
    """What is shown of each benchmark that has a cell."""
    rows = [row for row in report.rows if any(column.cells.get(row.name) for column in report.columns)]
    with watch.bar("reading predictions") as bar:
        for place, row in enumerate(rows):
            bar.update(place, len(rows), row.name)
            yield _benchmark(report, row)


def _benchmark(report: MatrixReport, row: ReportRow) -> dict[str, Any]:
    entries = [(column, report.entry(row, column)) for column in report.columns if column.cells.get(row.name)]
    several = {cell.path: cell for _, entry in entries for cell in entry.cells}  # columns may share a cell
    first: dict[Path, tuple[ReportColumn, ReportedCell]] = {}
    for column, entry in entries:  # of each column its first seed that has a score
        done = next((cell for cell in entry.cells if cell.result.state == "done"), None)
        if done is not None:
            first.setdefault(done.path, (column, done))
    shown = [(column, details_of(cell)) for column, cell in first.values()]
    metrics = list(dict.fromkeys(name for cell in several.values() for name in cell.result.scores))
    cited = [(PAPER, row.cited.paper), (RELEASED, row.cited.released)]
    cited.append((f"other models, in {row.cited.source}", row.cited.others))
    return {
        "row": row,
        "facts": _facts(row, list(several.values())),
        "unverified": row.benchmark.unverified if row.benchmark is not None else (),
        "summary": [f"{column.title} {entry}" for column, entry in entries],
        "metrics": metrics,
        "cells": [
            {"cell": cell, "scores": [cell.result.scores.get(name) for name in metrics]} for cell in several.values()
        ],
        "cited": [(source, list(scores.items())) for source, scores in cited if scores],
        "classes": _classes(shown),
        "shown": [{"column": column, "details": one, **_drawn(one.confusions)} for column, one in shown],
        "seeds_left_out": sum(cell.result.state == "done" for cell in several.values()) - len(shown),
    }


def _facts(row: ReportRow, cells: Sequence[ReportedCell]) -> list[tuple[str, str]]:
    one = next((cell.result for cell in cells if cell.result.state == "done"), cells[0].result)
    facts = [("protocol", one.protocol), ("main metric", row.metric)]
    if one.state == "done":
        declared = f"; the benchmark declares {row.declared:,}" if row.declared else ""
        facts.append(("judged", f"{one.n_evaluated:,} of {one.n_total:,} samples{declared}"))
        if one.also_in_train:
            facts.append(("also in train", f"{one.also_in_train:,} videos, byte for byte"))
    if one.clip_plan:
        facts.append(
            ("clips", ", ".join(f"{name} {value}" for name, value in one.clip_plan.items() if value is not None))
        )
    if row.benchmark is not None:
        facts += [("licence", row.benchmark.licence), ("from", row.benchmark.citation)]
    facts.append(("sha256 of data", one.data_digest[:16] or "-"))
    return facts


def _classes(shown: Sequence[tuple[ReportColumn, Details]]) -> dict[str, Any] | None:
    """A row a class, a column each of ours; of very many those with the most samples."""
    known = [(column, one.by_class) for column, one in shown if one.by_class is not None and one.by_class.rows]
    if not known:
        return None
    counts: dict[str, int] = {}
    for _, one in known:
        for name, (_, count) in one.rows.items():
            counts[name] = max(counts.get(name, 0), count)
    kept = set(sorted(counts, key=lambda name: -counts[name])[:MOST_CLASSES])
    rows = [
        {"name": name, "count": count, "values": [one.rows.get(name, (None, 0))[0] for _, one in known]}
        for name, count in counts.items()
        if name in kept
    ]
    return {
        "score": known[0][1].score,
        "counted": known[0][1].counted,
        "columns": [column.title for column, _ in known],
        "rows": rows,
        "left_out": len(counts) - len(rows),
    }


def _drawn(one: Confusions | None) -> dict[str, Any]:
    """The drawing of a confusion matrix, where there is one that is small enough."""
    if one is None or not one.labels:
        return {"matrix": None}
    return {"matrix": matrix_drawing(Confusion(one.labels, one.counts))}


def _commands(report: MatrixReport) -> list[str]:
    """The command lines that the cells were run by, each once."""
    return list(dict.fromkeys(cell.result.command for cell in report.cells if cell.result.command))[:10]
