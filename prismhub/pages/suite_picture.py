"""The scores of one suite as bars with intervals, and what is cited as marks on the same scale."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from adapters.scores import Score
from benchmarks.report.cited import printed
from benchmarks.report.matrix_report import MatrixReport, ReportRow
from prismhub.pages.report import nice_ticks, short

_WIDTH, _LEFT, _RIGHT, _TOP, _BAR, _GAP = 360.0, 6.0, 14.0, 8.0, 11.0, 3.0
_NAME, _AFTER, _AXIS = 17.0, 9.0, 26.0


def suite_picture(report: MatrixReport, suite: str, rows: Sequence[ReportRow]) -> dict[str, Any] | None:
    """Places and texts in SVG units: of each benchmark its name, under it a bar a column; None without a score."""
    entries = {row.name: [report.entry(row, column) for column in report.columns] for row in rows}
    drawn = [row for row in rows if any(entry.score is not None for entry in entries[row.name])]
    if not drawn:
        return None
    scores = [entry.score for row in drawn for entry in entries[row.name] if entry.score is not None]
    cited = [value for row in drawn for value in (row.cited.paper_base, row.cited.released_base) if value is not None]
    highest = max([*(_end(score) for score in scores), *cited])
    ticks = nice_ticks(0.0, 100.0 if all(score.unit == "%" for score in scores) else max(highest, 1e-3))
    scale = (_WIDTH - _LEFT - _RIGHT) / ticks[-1]

    def x_of(value: float) -> float:
        return round(_LEFT + max(value, 0.0) * scale, 2)

    groups, y = [], _TOP
    for row in drawn:
        y += _NAME
        name_y, first = y - 5, y
        bars = []
        for number, (column, entry) in enumerate(zip(report.columns, entries[row.name], strict=True)):
            bar: dict[str, Any] = {"y": round(y, 2), "number": number % 6, "middle": round(y + _BAR / 2, 2)}
            tip = f"{row.name}, {column.title}: {entry}"
            if entry.score is not None:
                ends = entry.score.interval
                if entry.spread is not None:
                    ends = (entry.score.value - entry.spread, entry.score.value + entry.spread)
                bar |= {
                    "x": x_of(printed(entry.score, entry.score.value)),
                    "reach": [x_of(printed(entry.score, end)) for end in ends] if ends else None,
                    "tip": tip,
                }
            else:
                bar |= {"x": None, "state": entry.state, "tip": f"{tip} {short(entry.reason, 200)}".strip()}
            bars.append(bar)
            y += _BAR + _GAP
        marks = [
            {
                "x": x_of(value),
                "kind": kind,
                "tip": f"{row.name}, {what}: {value:.1f}",
                "top": first - 2,
                "bottom": y - _GAP + 2,
            }
            for kind, what, value in (
                ("paper", "VideoPrism-B, paper, cited", row.cited.paper_base),
                ("released", "VideoPrism-B, released weights, cited", row.cited.released_base),
            )
            if value is not None
        ]
        groups.append({"name": row.name, "metric": row.metric, "name_y": name_y, "bars": bars, "marks": marks})
        y += _AFTER
    return {
        "suite": suite,
        "width": _WIDTH,
        "height": round(y + _AXIS, 2),
        "left": _LEFT,
        "top": _TOP,
        "bottom": round(y, 2),
        "bar": _BAR,
        "groups": groups,
        "ticks": [(x_of(tick), f"{tick:g}") for tick in ticks],
        "left_out": [row.name for row in rows if row not in drawn],
    }


def _end(score: Score) -> float:
    return printed(score, score.value if score.high is None else score.high)
