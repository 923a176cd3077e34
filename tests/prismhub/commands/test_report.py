"""`prismhub report` from the command line and from Python: what it writes, and what it refuses in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import prismhub
from core_encoder.errors import InputError
from prismhub.cli import run
from tests.benchmarks.report.test_comparison import judged_cell
from tests.benchmarks.report.written_results import write_cell


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A cell with predictions, one that failed, and one without data."""
    judged_cell(tmp_path / "results", {"a": True, "b": False})
    write_cell(tmp_path / "results", "diving48", state="failed", reason="out of memory")
    write_cell(tmp_path / "results", "kabr", state="no data", reason="kabr: no such folder")
    return tmp_path / "results"


def test_a_table_and_all_files(results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = {name: tmp_path / "out" / f"report.{name}" for name in ("html", "markdown", "csv")}
    words = [word for name, path in files.items() for word in (f"--{name}", str(path))]
    assert run(["report", str(results), *words, "--quiet"]) == 0
    shown = capsys.readouterr().out
    for said in ("50.0 [0.0, 100.0]", "1 of 8", "0 of 6", "not run", "no data", "84.2", "¹ cited: VideoPrism"):
        assert said in shown
    assert "diving48, nano, map_classifier: failed: out of memory" in shown
    assert "kabr, nano, map_classifier: no data: kabr: no such folder" in shown
    for path in files.values():
        assert f"written to {path}" in shown and "ssv2" in path.read_text("utf-8")


def test_two_folders(results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    judged_cell(tmp_path / "old", {"a": False, "b": False})
    assert run(["report", str(results), "--against", str(tmp_path / "old"), "--quiet"]) == 0
    shown = capsys.readouterr().out
    assert (
        "+50.0 [0.0, +100.0]" in shown and "2 in 2 videos" in shown and "kabr, nano, map_classifier: only here" in shown
    )
    assert run(["report", str(results), "--against", str(tmp_path / "old"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    (pair,) = found["comparison"]["pairs"]
    assert pair["change"]["value"] == 0.5 and pair["shared"] == 2 and len(found["comparison"]["only_new"]) == 2
    assert found["cited"]["ssv2"]["paper"]["VideoPrism-B"] == 63.6 and len(found["cells"]) == 3


def test_from_python(results: Path, tmp_path: Path) -> None:
    done = prismhub.report(results=results, csv=tmp_path / "x.csv", markdown=tmp_path / "x.md")
    assert done.files == (tmp_path / "x.md", tmp_path / "x.csv")
    assert (tmp_path / "x.csv").read_text("utf-8") == done.csv() and (tmp_path / "x.md").read_text() == done.markdown()
    header, rows = done.table()
    assert header[:3] == ["suite", "benchmark", "metric"] and len(rows) == 8 + 6 + 2
    with pytest.raises(InputError, match="no such folder"):
        prismhub.report(results=tmp_path / "none")


def test_what_is_wrong_is_said_in_one_line(results: Path, tmp_path: Path, says: Callable[..., str]) -> None:
    page = str(tmp_path / "x.html")
    assert "none: no such folder; give the folder of the results" in says(2, "report", str(tmp_path / "none"))
    (tmp_path / "empty").mkdir()
    assert "holds no results of `prismhub bench`" in says(2, "report", str(tmp_path / "empty"))
    assert "empty: is a folder; name a file" in says(2, "report", str(results), "--html", str(tmp_path / "empty"))
    assert "is named for two formats" in says(2, "report", str(results), "--html", page, "--csv", page)
    assert "holds no results" in says(2, "report", str(results), "--against", str(tmp_path / "empty"))
    predictions = next(results.rglob("*.predictions.jsonl"))
    predictions.write_text(predictions.read_text()[:-30])
    said = says(2, "report", str(results), "--html", page)
    assert "predictions.jsonl: line 2: not JSON" in said and "run `prismhub bench` again" in said
    assert not Path(page).exists() and "50.0" in says(0, "report", str(results))  # the table needs no predictions
    written = next(results.rglob("ssv2/*.json"))
    written.write_text(written.read_text()[:99])
    assert "not valid JSON" in says(2, "report", str(results))
