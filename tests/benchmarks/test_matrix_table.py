"""Averages are of whole suites; nothing that lacks is hidden."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from adapters.scores import Score
from benchmarks.matrix_cells import Column
from benchmarks.matrix_table import averages, reasons, table_of
from benchmarks.results import Result
from tasks.registry import find_benchmark
from tests.benchmarks.test_results import result

RETRIEVAL = ("msrvtt-t2v", "msrvtt-v2t", "vatex-t2v", "vatex-v2t", "activitynet-t2v", "activitynet-v2t")


@dataclass(frozen=True)
class StandIn:
    """A cell as the table sees it."""

    path: Path
    name: str


def column(names: Sequence[str], seeds: int = 1, encoder: str = "nano") -> Column:
    cells: Any = {
        name: tuple(StandIn(Path(f"{encoder}/{name}-{k}"), f"{name}, {k}") for k in range(seeds)) for name in names
    }
    return Column(encoder, "own heads", cells)


def done(value: float, unit: str = "%") -> Result:
    return replace(result(), scores={"top1": Score(value, unit=unit)}, skipped=[], n_total=4)


def failed(state: Any = "failed") -> Result:
    return replace(done(0), scores={}, state=state, reason="it broke")


def test_an_average_is_there_only_with_its_whole_suite() -> None:
    one = column(RETRIEVAL)
    benchmarks = [find_benchmark(name) for name in RETRIEVAL]
    results = {cells[0].path: done(k / 10) for k, cells in enumerate(one.cells.values())}
    (mean,) = averages([one], benchmarks, results)
    assert mean.score is not None and mean.score.value == pytest.approx(0.25) and str(mean) == "25.0"
    last = one.cells["activitynet-v2t"][0].path
    for worse in (failed(), failed("no data"), None):
        some = {path: found for path, found in results.items() if path != last} | ({last: worse} if worse else {})
        (mean,) = averages([one], benchmarks, some)
        assert mean.score is None and (mean.there, mean.of, str(mean)) == (5, 6, "5 of 6")
    (asked,) = averages([one], benchmarks[:2], {path: results[path] for path in list(results)[:2]})
    assert str(asked) == "2 of 6"  # the suite is that of the catalog, not what was asked for
    (mixed,) = averages([one], benchmarks, results | {last: done(3, "rank")})
    assert mixed.score is None and str(mixed) == "-"


def test_seeds_have_a_mean_and_a_spread_and_all_must_be_there() -> None:
    one = column(("ssv2",), seeds=3)
    paths = [cell.path for cell in one.cells["ssv2"]]
    benchmarks = [find_benchmark("ssv2")]

    def shown(results: dict[Path, Result]) -> str:
        return table_of([one], benchmarks, results)[1][0][-1]

    results = {path: done(value) for path, value in zip(paths, (0.2, 0.4, 0.6), strict=True)}
    assert shown(results) == "40.0 ± 20.0"
    assert shown({**results, paths[1]: failed()}) == "failed (2 of 3 seeds)"
    assert shown({paths[0]: done(0.2)}) == "not run (1 of 3 seeds)"
    assert shown({}) == "not run"


def test_what_was_not_judged_is_shown() -> None:
    one, other = column(("ssv2", "kinetics400")), column(("ssv2", "kinetics400"), encoder="eve")
    benchmarks = [find_benchmark("ssv2"), find_benchmark("kinetics400")]
    results = {
        Path("nano/ssv2-0"): result(),
        Path("nano/kinetics400-0"): failed("no data"),
        Path("eve/ssv2-0"): done(0.5),
    }
    header, rows = table_of([one, other], benchmarks, results)
    assert header == ["suite", "benchmark", "metric", "nano", "eve"]
    assert [row[1:] for row in rows] == [
        ["ssv2", "top1", "75.0 [50.0, 90.0] (4 of 6)", "50.0"],
        ["kinetics400", "top1", "no data", "not run"],
        ["average", "", "1 of 8", "1 of 8"],
    ]
    assert reasons([one, other], results) == ["kinetics400, 0: no data: it broke"]
