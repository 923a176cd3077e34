"""Results: written whole, read back equal, refused when they contradict themselves."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import benchmarks.results
from adapters.predictions import ClassScores
from adapters.scores import Score, Scores
from benchmarks.results import Blind, Provenance, Result, Skipped, table_rows, write_predictions
from core_encoder.errors import InputError
from tests import ROOT


def result(**changes: Any) -> Result:
    scores = Scores({"top1": Score(0.75, 0.5, 0.9), "top5": Score(1, 1, 1)}, "top1", 4, 6, "test", ("x.mp4", "y z.mp4"))
    about: dict[str, Any] = {
        "task": "my videos",
        "split": "test",
        "protocol": "classification-v1",
        "data_digest": "ab12",
        "label_names": ["walk", "stürzen"],
        "adapter": "mine@1",
        "encoder": "nano",
        "encoder_fingerprint": "cd34",
        "provenance": Provenance.collect(decoder="pyav-18.1.0", device="cpu", precision="32-true", seed=0),
        "clip_plan": {"num_frames": 16, "sampling": "uniform", "fps": None},
        "config": {"lr": 1e-3},
        "command": "prismhub evaluate ...",
    }
    return Result.of(scores, reasons={"x.mp4": "truncated"}, **about | changes)


def test_a_result_is_read_back_equal(tmp_path: Path) -> None:
    written = result()
    assert written.skipped == [Skipped("x.mp4", "truncated"), Skipped("y z.mp4", "no prediction")]
    assert written.scores["top1"] == Score(0.75, 0.5, 0.9)
    path = written.write(tmp_path / "deep" / "result.json")
    assert Result.read(path) == written
    assert [one.name for one in path.parent.iterdir()] == ["result.json"]


def test_a_result_of_the_first_schema_is_still_read(tmp_path: Path) -> None:
    path = result().write(tmp_path / "result.json")
    record = json.loads(path.read_text()) | {"schema_version": 1}
    record["scores"] = {
        "top1": {"value": 0.75, "low": 0.5, "high": 0.9},
        "top5": {"value": 1.0, "low": 1.0, "high": 1.0},
    }
    path.write_text(json.dumps(record))
    assert Result.read(path).scores == result().scores


def test_a_blind_adapter_stands_beside_its_own(tmp_path: Path) -> None:
    written = result(blind=Blind("mine-blind@v1", {"top1": Score(0.25, 0.1, 0.4), "cider": Score(3.5, unit="")}))
    assert Result.read(written.write(tmp_path / "result.json")) == written
    header, rows = table_rows([written, result()])
    assert [row[2] for row in rows] == ["mine@1", "mine-blind@v1 (blind)", "mine@1"]
    assert rows[1][header.index("top1")] == "25.0 [10.0, 40.0]" and rows[1][header.index("top5")] == "-"


def test_scores_have_a_unit_and_may_lack_an_interval() -> None:
    assert str(Score(0.403, unit="")) == "0.403" and str(Score(3.5, 2.0, 5.0, "rank")) == "3.5 [2, 5] (rank)"
    assert str(Score(0.5)) == "50.0" and Score(0.5).interval is None
    with pytest.raises(ValueError, match="two ends"):
        Score(0.5, low=0.1)


def test_provenance_says_what_ran() -> None:
    provenance = result().provenance
    assert provenance.versions["python"] == ".".join(map(str, sys.version_info[:3]))
    assert provenance.versions["torch"] == torch.__version__
    assert {"transformers", "lightning", "torchmetrics", "av"} <= set(provenance.versions)
    assert provenance.created_utc.endswith("+00:00")
    assert (provenance.decoder, provenance.device, provenance.precision, provenance.seed) == (
        "pyav-18.1.0",
        "cpu",
        "32-true",
        0,
    )


def test_the_commit_is_that_of_the_source_and_not_of_a_folder_around_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def git(*words: str) -> str:
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
        call = ["git", "-C", str(tmp_path), *identity, *words]
        return subprocess.run(call, check=True, capture_output=True, text=True).stdout.strip()

    source = tmp_path / "benchmarks" / "results.py"
    source.parent.mkdir()
    source.write_text("one")
    git("init", "-q")
    git("add", "benchmarks")
    git("commit", "-q", "-m", "one")
    monkeypatch.setattr(benchmarks.results, "__file__", str(source))
    head = git("rev-parse", "HEAD")
    assert Provenance.collect().commit == head
    source.write_text("two")
    assert Provenance.collect().commit == f"{head}+changes"
    inside = tmp_path / "site-packages" / "benchmarks" / "results.py"
    monkeypatch.setattr(benchmarks.results, "__file__", str(inside))
    assert Provenance.collect().commit is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"schema_version": 3}, "result schema 3, this version reads 2"),
        ({"n_evaluated": "4"}, "n_evaluated: "),
        ({"n_evaluated": 5}, "5 evaluated and 2 skipped of 6"),
        ({"n_total": -1}, "n_total: "),
        ({"main_metric": "map"}, "main metric 'map' is not among the scores"),
        ({"scores": {"top1": {"value": 0.5, "low": 0.4}}}, "scores.top1: Value error, an interval has two ends"),
        ({"surprise": 1}, "surprise: Unexpected"),
        ({"skipped": [{"id": 3, "reason": ""}]}, "skipped.0.id: "),
    ],
)
def test_a_broken_result_is_refused_in_one_line(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    path = result().write(tmp_path / "result.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(InputError, match=words) as caught:
        Result.read(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_files_that_are_no_result(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    with pytest.raises(InputError, match="no such file"):
        Result.read(path)
    path.write_text('{"task": ')
    with pytest.raises(InputError, match="not valid JSON"):
        Result.read(path)
    path.write_text("[]")
    with pytest.raises(InputError, match="result schema None"):
        Result.read(path)
    record = json.loads(result().write(path).read_text())
    del record["task"]
    path.write_text(json.dumps(record))
    with pytest.raises(InputError, match="task: Field required"):
        Result.read(path)


def test_numbers_json_has_no_word_for_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a score must be finite, not nan"):
        Score(math.nan, 0.0, 1.0)
    broken = replace(result(), config={"lr": math.nan})
    with pytest.raises(ValueError, match="JSON"):
        broken.write(tmp_path / "result.json")
    assert list(tmp_path.iterdir()) == []


def test_table_rows() -> None:
    other = replace(result(), adapter="other", scores={"map": Score(0.123, 0.1, 0.2)}, main_metric="map")
    header, rows = table_rows([result(), other])
    assert header == ["task", "split", "adapter", "encoder", "top1", "top5", "map", "evaluated"]
    assert rows == [
        ["my videos", "test", "mine@1", "nano", "75.0 [50.0, 90.0]", "100.0 [100.0, 100.0]", "-", "4 of 6"],
        ["my videos", "test", "other", "nano", "-", "-", "12.3 [10.0, 20.0]", "4 of 6"],
    ]
    assert table_rows([]) == (["task", "split", "adapter", "encoder", "evaluated"], [])


def test_every_prediction_is_kept(tmp_path: Path) -> None:
    predictions = [ClassScores(f"{i} é.mp4", torch.tensor([0.25, 0.75]), ("walk", "stürzen")) for i in range(2)]
    path = write_predictions(tmp_path / "predictions.jsonl", predictions, {"0 é.mp4": ("walk",), "1 é.mp4": ()})
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert records == [
        {
            "id": f"{i} é.mp4",
            "label": "stürzen",
            "score": 0.75,
            "target": target,
            "scores": {"walk": 0.25, "stürzen": 0.75},
        }
        for i, target in enumerate((["walk"], []))
    ]
    assert "target" not in write_predictions(tmp_path / "p.jsonl", predictions).read_text()


def test_results_need_no_torch() -> None:
    code = "import sys, benchmarks.results; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
