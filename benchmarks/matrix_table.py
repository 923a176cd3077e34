"""The matrix as a table: a row a benchmark, a column an encoder with its adapters, averages only of whole suites."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from adapters.scores import Score
from benchmarks.results import Result
from tasks.catalog import SUITES


class TableCell(Protocol):
    """A cell by the file of its result; `MatrixCell` is one."""

    @property
    def path(self) -> Path: ...

    @property
    def name(self) -> str: ...


class TableColumn(Protocol):
    """A column: an encoder with an adapter, and its cells by benchmark, one a seed; `Column` is one."""

    @property
    def encoder(self) -> str: ...

    @property
    def adapter(self) -> str: ...

    @property
    def cells(self) -> Mapping[str, Sequence[TableCell]]: ...


class TableRow(Protocol):
    """A row: a benchmark of a suite, and its main metric; `Benchmark` is one."""

    @property
    def suite(self) -> str: ...

    @property
    def name(self) -> str: ...

    @property
    def metric(self) -> str: ...


@dataclass(frozen=True)
class Average:
    """The mean over a suite in one column; None unless all `of` benchmarks of the suite have a score of one unit."""

    suite: str
    encoder: str
    adapter: str
    there: int
    of: int
    score: Score | None = None

    def __str__(self) -> str:
        if self.there < self.of:
            return f"{self.there} of {self.of}"
        return "-" if self.score is None else str(self.score)


def averages(
    columns: Sequence[TableColumn], benchmarks: Sequence[TableRow], results: Mapping[Path, Result]
) -> list[Average]:
    """The average of every suite in every column; `results` are by the path of their cell."""
    found = []
    for suite in dict.fromkeys(one.suite for one in benchmarks):
        names = SUITES.get(suite) or tuple(one.name for one in benchmarks if one.suite == suite)
        for column in columns:
            scores = [score for name in names if (score := mean_score(column, name, results)) is not None]
            whole = len(scores) == len(names) and len({score.unit for score in scores}) == 1
            mean = Score(statistics.fmean(one.value for one in scores), unit=scores[0].unit) if whole else None
            found.append(Average(suite, column.encoder, column.adapter, len(scores), len(names), mean))
    return found


def mean_score(column: TableColumn, benchmark: str, results: Mapping[Path, Result]) -> Score | None:
    """The main score of a benchmark in a column, the mean over its seeds; None unless every seed is done."""
    cells = column.cells.get(benchmark, ())
    done = [one for cell in cells if (one := results.get(cell.path)) is not None and one.state == "done"]
    if not cells or len(done) < len(cells):
        return None
    scores = [one.scores[one.main_metric] for one in done]
    if len(scores) == 1:
        return scores[0]
    return replace(scores[0], value=statistics.fmean(one.value for one in scores), low=None, high=None)


def table_of(
    columns: Sequence[TableColumn], benchmarks: Sequence[TableRow], results: Mapping[Path, Result]
) -> tuple[list[str], list[list[str]]]:
    """Column titles and rows of text; under the benchmarks of a suite its average, or how many of them are there."""
    several = len({column.adapter for column in columns}) > 1
    titles = [f"{column.encoder}, {column.adapter}" if several else column.encoder for column in columns]
    means = averages(columns, benchmarks, results)
    rows: list[list[str]] = []
    for suite in dict.fromkeys(one.suite for one in benchmarks):
        for one in (one for one in benchmarks if one.suite == suite):
            rows.append([suite, one.name, one.metric, *(_shown(column, one.name, results) for column in columns)])
        rows.append([suite, "average", "", *(str(mean) for mean in means if mean.suite == suite)])
    return ["suite", "benchmark", "metric", *titles], rows


def reasons(columns: Sequence[TableColumn], results: Mapping[Path, Result]) -> list[str]:
    """One line for each cell without a score: which, and why."""
    lines = {}
    for column in columns:
        for several in column.cells.values():
            for cell in several:
                result = results.get(cell.path)
                if result is not None and result.state != "done":
                    lines[cell.path] = f"{cell.name}: {result.state}: {result.reason}"
    return list(lines.values())


def _shown(column: TableColumn, benchmark: str, results: Mapping[Path, Result]) -> str:
    cells = column.cells[benchmark]
    known = [one for cell in cells if (one := results.get(cell.path)) is not None]
    done = [one for one in known if one.state == "done"]
    mean = mean_score(column, benchmark, results)
    if mean is None:
        state = next((one.state for one in known if one.state != "done"), "not run")
        return f"{state} ({len(done)} of {len(cells)} seeds)" if done else state
    if len(done) == 1:
        return str(mean) + _lacking(done)
    spread = statistics.stdev(one.scores[one.main_metric].value for one in done)
    return f"{mean} ± {mean.shown(spread)}" + _lacking(done)


def _lacking(results: Sequence[Result]) -> str:
    """How many samples were judged, where some were not."""
    least = min(results, key=lambda one: one.n_evaluated / max(one.n_total, 1))
    return f" ({least.n_evaluated} of {least.n_total})" if least.skipped else ""
