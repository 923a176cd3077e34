"""The report as text: Markdown that GitHub reads as one table, CSV that gives the same numbers back."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import replace
from pathlib import Path

import pytest

from adapters.scores import Score
from benchmarks.report.comparison import compare_folders
from benchmarks.report.matrix_report import read_report
from benchmarks.report.tables import (
    comparison_notes,
    comparison_table,
    csv_text,
    markdown,
    matrix_table,
    notes,
    reasons,
)
from prismhub.progress import SILENT
from tests.benchmarks.report.test_comparison import judged_cell
from tests.benchmarks.report.written_results import write_cell


def test_cited_numbers_stand_apart_and_are_marked(tmp_path: Path) -> None:
    write_cell(tmp_path, "kinetics400", 0.5)
    write_cell(tmp_path, "msrvtt-qa", 0.25, adapter="llm_decoder")
    report = read_report(tmp_path)
    header, rows = matrix_table(report)
    assert header[3:] == [
        *("nano", "Δ paper¹", "Δ released²"),
        *("VideoPrism-B, paper¹", "VideoPrism-g, paper¹", "VideoPrism-B, released²", "VideoPrism-L, released²"),
    ]
    by_name = {row[1]: row for row in rows}
    mark = "†"  # 100 samples are not Kinetics-400
    assert by_name["kinetics400"][3:] == [
        *(f"50.0 [40.0, 60.0]{mark}", f"\u221234.2{mark}", f"\u221232.9{mark}", "84.2", "87.2", "82.9", "85.0")
    ]
    assert by_name["msrvtt-qa"][4:] == [
        f"\u22123.5{mark}",
        "",
        "28.5 (B w/ PaLM-2-1B, zero-shot, 2 text examples)",
        "32.0 (B w/ PaLM-2-8B, zero-shot, 2 text examples)",
        "",
        "",
    ]
    assert by_name["ssv2"][3] == "not run" and by_name["ssv2"][4:6] == ["", ""]
    assert [row[3] for row in rows if row[1] == "average"] == ["1 of 8", "1 of 3"]
    cited = notes(report)[0]
    assert (
        "¹ cited: VideoPrism, Zhao et al. 2024, arXiv:2402.13217v3" in cited and "google-deepmind/videoprism" in cited
    )
    assert notes(report)[1].startswith("† judged on clearly fewer samples than the benchmark declares (2 of 11 benchm")


def test_markdown_is_a_table_whatever_the_names_hold(tmp_path: Path) -> None:
    write_cell(tmp_path, "kinetics400", encoder="a|b_<c>*`", reason="no | file\nof <that> name", state="no data")
    write_cell(tmp_path, "ssv2", encoder="a|b_<c>*`")
    text = markdown(read_report(tmp_path))
    rows = [line for line in text.splitlines() if line.startswith("|")]
    widths = {len(re.findall(r"(?<!\\)\|", row)) for row in rows}
    assert widths == {10} and len(rows) == 2 + 8 + 1
    assert r"a\|b\_\<c\>\*\`" in rows[0] and rows[1] == "| --- | --- |" + " ---: |" * 7
    assert r"- kinetics400, a\|b\_\<c\>\*\`, map\_classifier: no data: no \| file\\nof \<that\> name" in text


def test_csv_gives_the_numbers_back(tmp_path: Path) -> None:
    cell = write_cell(tmp_path, "ssv2", 0.29, skipped=[], n_evaluated=100)
    scores = {"top1": Score(0.29, 0.2, 0.4), "top5": Score(0.57), "cider": Score(3.25, 1, 5, unit="")}
    replace(cell.result, scores=scores).write(cell.path)
    write_cell(tmp_path, "diving48", state="failed", reason='out of "memory",\nagain')
    broken, done = csv.DictReader(io.StringIO(csv_text(read_report(tmp_path))))
    assert done["task"] == "ssv2" and done["protocol"] == cell.result.protocol
    assert done["encoder_fingerprint"] == cell.result.encoder_fingerprint and done["suite"] == "videoglue"
    numbers = ("score", "score_low", "score_high", "top1", "top1_low", "top5", "top5_low", "cider", "cider_high")
    assert [done[name] for name in numbers] == ["29", "20", "40", "29", "20", "57", "", "3.25", "5"]
    assert (done["cited_paper_base"], done["cited_released_base"]) == ("63.6", "62.2")
    assert (done["minus_paper"], done["minus_released"]) == ("-34.6", "-33.2")
    assert (done["n_evaluated"], done["n_total"], done["n_declared"]) == ("100", "100", "24777")
    assert (broken["state"], broken["reason"], broken["score"]) == ("failed", r'out of "memory",\nagain', "")


@pytest.mark.parametrize("old_hits", [{"a": False, "b": False, "c": False, "d": True}, {"a": True, "b": True}])
def test_a_comparison_is_in_every_text(old_hits: dict[str, bool], tmp_path: Path) -> None:
    judged_cell(tmp_path / "new", {"a": True, "b": True, "c": True, "d": True})
    write_cell(tmp_path / "new", "kabr")
    judged_cell(tmp_path / "old", old_hits)
    write_cell(tmp_path / "old", "diving48")
    report = read_report(tmp_path / "new")
    report = replace(report, comparison=compare_folders(report.cells, tmp_path / "old", SILENT))
    (row,) = comparison_table(report)
    (one,) = (pair for pair in report.comparison.pairs if pair.change)  # type: ignore[union-attr]
    assert one.change is not None and one.change.interval is not None
    change = 100 * one.change.value
    assert row[:4] == ["ssv2", "nano", "map_classifier", "top1"] and row[5] == "100.0"
    assert row[6].startswith("+75.0 [" if len(old_hits) == 4 else "0.0 [") and row[6].endswith("*") == one.clear
    assert row[7] == ("4 in 4 videos" if len(old_hits) == 4 else "2 in 2 videos (2 only new, 0 only old)")
    lines = comparison_notes(report)
    assert f"diving48, nano, map_classifier: only in {tmp_path / 'old'}" in lines and any(
        "kabr" in one for one in lines
    )
    assert "## Against " in markdown(report) and row[5] in markdown(report)
    records = {record["task"]: record for record in csv.DictReader(io.StringIO(csv_text(report)))}
    assert float(records["ssv2"]["change"]) == pytest.approx(change)
    assert float(records["ssv2"]["change_low"]) == pytest.approx(100 * one.change.interval[0])
    assert records["kabr"]["not_compared"] == "only here" and records["diving48"]["not_compared"].startswith("only in ")
    assert reasons(report) == []
