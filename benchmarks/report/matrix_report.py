"""What a folder of results says: a row a benchmark, a column an encoder, with the published numbers beside."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from adapters.scores import Score
from benchmarks.matrix_table import Average, averages, mean_score
from benchmarks.report.cited import Cited, cited_of
from benchmarks.report.comparison import Comparison
from benchmarks.report.result_folder import ReportColumn, ReportedCell, columns_of, read_cells
from benchmarks.rescoring import benchmark_of
from benchmarks.results import Result
from core_encoder.errors import InputError
from tasks.benchmark import Benchmark
from tasks.catalog import SUITES, catalog_names
from tasks.metrics.videoglue import GROUPS, stratified_average, videoglue_score
from tasks.registry import find_benchmark

VIDEOGLUE = "videoglue"
WHOLE = (
    0.8  # of the samples that a benchmark declares: fewer are a part of it, and its cited numbers are of another set
)


@dataclass(frozen=True)
class ReportRow:
    """A benchmark of the table; `benchmark` is None where it is no longer known here."""

    suite: str
    name: str
    metric: str
    benchmark: Benchmark | None
    cited: Cited

    @property
    def declared(self) -> int | None:
        """How many samples of the judged split its authors count."""
        return self.benchmark.sizes.get("test") if self.benchmark is not None else None


@dataclass(frozen=True)
class Entry:
    """One place of the table: the score over the seeds, or why there is none."""

    cells: tuple[ReportedCell, ...]
    state: str  # done, or what the first cell without a score says, or not run
    score: Score | None = None
    spread: float | None = None  # the standard deviation over several seeds
    reason: str = ""
    of_declared: float | None = None  # the share of the samples that the benchmark declares

    @property
    def results(self) -> list[Result]:
        return [cell.result for cell in self.cells]

    @property
    def partial(self) -> bool:
        """Whether clearly fewer samples were judged than the benchmark has."""
        return self.of_declared is not None and self.of_declared < WHOLE

    def __str__(self) -> str:
        if self.score is None:
            return self.state
        spread = f" ± {self.score.shown(self.spread)}" if self.spread is not None else ""
        least = min(self.results, key=lambda one: one.n_evaluated / max(one.n_total, 1))
        lacking = f" ({least.n_evaluated} of {least.n_total})" if least.skipped else ""
        return f"{self.score}{spread}{lacking}"


@dataclass(frozen=True)
class Adaptation:
    """One way of adapting an encoder on VideoGLUE: its stratified average in per cent, and what its heads cost.

    `average` is None unless all benchmarks are there; `parameters` is the mean over their heads, None where a head's
    size was not recorded.
    """

    name: str
    there: int
    of: int
    average: float | None
    parameters: float | None


@dataclass(frozen=True)
class VideoGlueScore:
    """The VideoGLUE score of an encoder over its ways of adapting it, or the reason why there is none."""

    encoder: str
    adaptations: tuple[Adaptation, ...]
    score: float | None
    reason: str = ""


@dataclass(frozen=True)
class MatrixReport:
    """All that a folder of results says, and how it differs from another one, where one was given."""

    folder: Path
    cells: tuple[ReportedCell, ...]
    columns: tuple[ReportColumn, ...]
    rows: tuple[ReportRow, ...]
    averages: tuple[Average, ...]
    videoglue: tuple[VideoGlueScore, ...]
    comparison: Comparison | None = None

    def entry(self, row: ReportRow, column: ReportColumn) -> Entry:
        """What stands in a row and column."""
        return _entry(row, column)

    def suites(self) -> dict[str, list[ReportRow]]:
        """The rows by suite, in their order."""
        found: dict[str, list[ReportRow]] = {}
        for row in self.rows:
            found.setdefault(row.suite, []).append(row)
        return found

    def without_score(self) -> list[ReportedCell]:
        """The cells that failed or had no data."""
        return [cell for cell in self.cells if cell.result.state != "done"]

    def partial(self) -> list[ReportRow]:
        """The benchmarks of which clearly fewer samples were judged than they have."""
        return [row for row in self.rows if any(self.entry(row, column).partial for column in self.columns)]


def read_report(folder: str | Path) -> MatrixReport:
    """What a folder of results says.

    Raises:
        InputError: there is no such folder, it holds no results, or a file in it is none.
    """
    cells = read_cells(folder)
    columns, rows = columns_of(cells), _rows(cells)
    means = averages(columns, rows, {cell.path: cell.result for cell in cells})
    glue = _videoglue(columns, rows)
    return MatrixReport(Path(folder), tuple(cells), tuple(columns), tuple(rows), tuple(means), tuple(glue))


def _rows(cells: Sequence[ReportedCell]) -> list[ReportRow]:
    """The benchmarks of every suite that has a cell, those without one too; then those of no suite of the catalog."""
    first = {cell.result.task: cell.result for cell in reversed(cells)}
    known = catalog_names()
    suites = {suite for suite, names in SUITES.items() if any(name in first for name in names)}
    rows = []
    for suite in (one for one in SUITES if one in suites):
        for name in SUITES[suite]:
            benchmark = find_benchmark(name)
            metric = first[name].main_metric if name in first else benchmark.metric
            rows.append(ReportRow(suite, name, metric, benchmark, cited_of(benchmark, metric, from_catalog=True)))
    for name, result in first.items():
        if name not in known:
            own = _own(result)
            suite = result.suite or (own.suite if own is not None else "own")
            cited = cited_of(own, result.main_metric, from_catalog=False)
            rows.append(ReportRow(suite, name, result.main_metric, own, cited))
    order = list(dict.fromkeys(row.suite for row in rows))
    return sorted(rows, key=lambda row: order.index(row.suite))


def _own(result: Result) -> Benchmark | None:
    """The benchmark of a result that is not of the catalog; None where its plug-in or file is gone."""
    try:
        return benchmark_of(result)
    except InputError:
        return None


def _entry(row: ReportRow, column: ReportColumn) -> Entry:
    cells = column.cells.get(row.name, ())
    if not cells:
        return Entry((), "not run")
    done = [cell.result for cell in cells if cell.result.state == "done"]
    missing = next((cell.result for cell in cells if cell.result.state != "done"), None)
    if missing is not None:
        state = f"{missing.state} ({len(done)} of {len(cells)} seeds)" if done else missing.state
        return Entry(cells, state, reason=missing.reason)
    score = mean_score(column, row.name, {cell.path: cell.result for cell in cells})
    values = [one.scores[one.main_metric].value for one in done]
    spread = statistics.stdev(values) if len(values) > 1 else None
    share = min(one.n_total for one in done) / row.declared if row.declared else None
    return Entry(cells, "done", score, spread, of_declared=share)


def _videoglue(columns: Sequence[ReportColumn], rows: Sequence[ReportRow]) -> list[VideoGlueScore]:
    """The VideoGLUE score of every encoder that has a cell of the suite."""
    own = [row for row in rows if row.suite == VIDEOGLUE]
    encoders: dict[str, list[Adaptation]] = {}
    for column in columns:
        entries = {row.name: _entry(row, column) for row in own}
        if any(entry.cells for entry in entries.values()):
            encoders.setdefault(column.encoder, []).append(_adaptation(column.adapter or "own heads", entries))
    return [_videoglue_score(encoder, several) for encoder, several in encoders.items()]


def _adaptation(name: str, entries: Mapping[str, Entry]) -> Adaptation:
    needed = [task for tasks in GROUPS.values() for task in tasks]
    scores = {task: 100 * entry.score.value for task, entry in entries.items() if entry.score is not None}
    there = sum(task in scores for task in needed)
    if there < len(needed):
        return Adaptation(name, there, len(needed), None, None)
    costs = [one.cost.parameters if one.cost else None for task in needed for one in entries[task].results]
    known = [count for count in costs if count is not None]
    parameters = statistics.fmean(known) if len(known) == len(costs) else None
    return Adaptation(name, there, len(needed), stratified_average(scores), parameters)


def _videoglue_score(encoder: str, adaptations: Sequence[Adaptation]) -> VideoGlueScore:
    """Over the adaptations, weighed by the parameters that each trains; what an encoder infers is the same for all."""
    lacking = next((one for one in adaptations if one.average is None), None)
    if lacking is not None:
        which = f"{lacking.name}: " if len(adaptations) > 1 else ""
        return VideoGlueScore(encoder, tuple(adaptations), None, f"{which}{lacking.there} of {lacking.of} benchmarks")
    means = {one.name: one.average for one in adaptations if one.average is not None}
    if len(adaptations) == 1:
        return VideoGlueScore(encoder, tuple(adaptations), next(iter(means.values())))
    costs = {one.name: {"parameters": one.parameters} for one in adaptations if one.parameters and one.parameters > 1}
    unknown = next((one for one in adaptations if one.name not in costs), None)
    if unknown is not None:
        return VideoGlueScore(encoder, tuple(adaptations), None, f"{unknown.name}: the size of its heads is not known")
    return VideoGlueScore(encoder, tuple(adaptations), videoglue_score(means, costs))
