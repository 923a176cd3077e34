"""Rows and averages: what lacks is a row, an average is of a whole suite, and cited numbers keep to their source."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from adapters.scores import Score
from benchmarks.report.cited import cited_of, difference, signed
from benchmarks.report.matrix_report import read_report
from tasks.catalog import SUITES, catalog_names
from tasks.registry import find_benchmark
from tests.benchmarks.report.written_results import COST, write_cell

VIDEOGLUE = SUITES["videoglue"]


def test_a_suite_with_a_cell_has_all_its_rows(tmp_path: Path) -> None:
    write_cell(tmp_path, "ssv2", 0.6, n_evaluated=24_777, n_total=24_777)
    write_cell(tmp_path, "diving48", state="failed", reason="it broke")
    write_cell(tmp_path, "kabr", 0.4)
    report = read_report(tmp_path)
    assert [row.name for row in report.rows] == [*VIDEOGLUE, *SUITES["science"]]
    (column,) = report.columns
    found = {row.name: report.entry(row, column) for row in report.rows}
    assert str(found["ssv2"]) == "60.0 [50.0, 70.0]" and not found["ssv2"].partial
    assert (found["diving48"].state, found["diving48"].reason) == ("failed", "it broke")
    assert found["charades"].state == "not run" and found["charades"].score is None
    assert [str(one) for one in report.averages] == ["1 of 8", "1 of 6"]
    assert [cell.result.task for cell in report.without_score()] == ["diving48"]
    (glue,) = report.videoglue
    assert glue.score is None and glue.reason == "1 of 8 benchmarks"


def test_an_average_is_of_the_whole_suite(tmp_path: Path) -> None:
    for place, name in enumerate(SUITES["science"]):
        write_cell(tmp_path, name, 0.1 * place)
    (mean,) = read_report(tmp_path).averages
    assert mean.score is not None and mean.score.value == pytest.approx(0.25)


def test_seeds_have_a_mean_and_a_spread(tmp_path: Path) -> None:
    for seed, value in enumerate((0.2, 0.4, 0.6)):
        write_cell(tmp_path, "ssv2", value, seed=seed)
    report = read_report(tmp_path)
    row = next(row for row in report.rows if row.name == "ssv2")
    assert str(report.entry(row, report.columns[0])) == "40.0 ± 20.0"
    write_cell(tmp_path, "ssv2", seed=1, state="failed", reason="it broke")
    report = read_report(tmp_path)
    assert str(report.entry(row, report.columns[0])) == "failed (2 of 3 seeds)"


def test_a_part_of_a_benchmark_is_marked(tmp_path: Path) -> None:
    write_cell(tmp_path, "ssv2", n_evaluated=19_000, n_total=19_000)  # of 24,777
    write_cell(tmp_path, "diving48", n_evaluated=1_900, n_total=1_900)  # of 1,970
    assert [row.name for row in read_report(tmp_path).partial()] == ["ssv2"]


def test_cited_numbers_keep_to_their_source() -> None:
    """The numbers are those of the paper's tables and of the README of the released weights."""
    one = cited_of(find_benchmark("kinetics400"), "top1", from_catalog=True)
    assert one.paper == {"VideoPrism-B": 84.2, "VideoPrism-g": 87.2} and one.paper_base == 84.2
    assert one.released == {"VideoPrism-B": 82.9, "VideoPrism-L": 85.0} and one.released_base == 82.9
    assert one.others["CLIP-B"] == 75.2
    captions = cited_of(find_benchmark("msrvtt-cap"), "cider", from_catalog=True)
    assert captions.paper_base == 40.3 and captions.released_base is None
    for name in catalog_names():
        benchmark = find_benchmark(name)
        cited = cited_of(benchmark, benchmark.metric, from_catalog=True)
        assert len(cited.paper) == 2, name
        for model, value in benchmark.published[benchmark.metric].items():
            kinds = [model.endswith(" (paper)"), model.endswith(" (public)")]
            assert (value in cited.paper.values()) or not kinds[0]
            assert (value in cited.released.values()) or not kinds[1]
            assert (model in cited.others) == (not any(kinds))


def test_differences_are_as_printed() -> None:
    assert difference(Score(0.855), 84.2) == pytest.approx(1.3)
    assert difference(Score(40.0, unit=""), 40.3) == pytest.approx(-0.3)
    assert difference(None, 84.2) is None and difference(Score(0.5), None) is None
    assert [signed(value) for value in (1.26, -0.34, 0.01, -0.01, None)] == ["+1.3", "\u22120.3", "0.0", "0.0", ""]


def test_the_videoglue_score_weighs_ways_by_what_they_train(tmp_path: Path) -> None:
    """Against the formula of the paper, written out."""
    costs = {"map_classifier": 10_000, "linear": 100}
    values = {"map_classifier": 0.6, "linear": 0.2}
    for adapter, parameters in costs.items():
        for name in VIDEOGLUE:
            step = 0.1 if name in ("kinetics400", "charades") else 0.0
            cost = replace(COST, parameters=parameters)
            write_cell(tmp_path, name, values[adapter] + step, adapter=adapter, cost=cost)
    (one,) = read_report(tmp_path).videoglue
    averages = {
        adapter: 100 * ((value + 0.05) + value + (value + 0.1) + value + value) / 5 for adapter, value in values.items()
    }
    assert {way.name: way.average for way in one.adaptations} == pytest.approx(averages)
    ease = {adapter: 1 / math.log10(count) for adapter, count in costs.items()}
    expected = sum(ease[adapter] * averages[adapter] for adapter in costs) / sum(ease.values())
    assert one.score == pytest.approx(expected) and one.score < sum(averages.values()) / 2
    write_cell(tmp_path, "ssv2", adapter="linear", cost=replace(COST, parameters=None))
    (one,) = read_report(tmp_path).videoglue
    assert one.score is None and one.reason == "linear: the size of its heads is not known"
