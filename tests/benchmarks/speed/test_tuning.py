"""The comparison of frozen and tuned encoders: its numbers, and that it runs."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.speed import tuning


def test_a_row_is_of_seeds_and_clips() -> None:
    frozen = np.array([[1.0, 0.0, 1.0, 0.0] * 5, [1.0, 0.0, 0.0, 0.0] * 5])
    better = np.maximum(frozen, [[0.0, 0.0, 0.0, 1.0] * 5] * 2)
    ways = {"frozen": frozen, "lora": better}
    first, other = (tuning.Row.of("motion", way, hits, frozen, 30) for way, hits in ways.items())
    assert other.top1.value == pytest.approx(62.5) and other.more.value == pytest.approx(25.0)
    assert other.more.low < 25 < other.more.high and first.more.value == 0
    lines = tuning.markdown([first, other])
    assert lines[2].startswith("| motion | frozen | 37.5") and lines[2].endswith(" |  | 30 |")
    assert lines[3].startswith("| motion | lora | 62.5") and "25.0 [" in lines[3]


@pytest.mark.slow
def test_the_script_trains_and_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tuning, "CLIPS", {"train": 1, "val": 1, "test": 1})
    words = [
        "tuning",
        "--epochs",
        "1",
        "--seeds",
        "1",
        "--threads",
        "1",
        "--ways",
        "frozen,lora",
        "--questions",
        "shape",
    ]
    monkeypatch.setattr(sys, "argv", [*words, "--json", str(tmp_path / "out.json")])
    tuning.main()
    assert "| lora |" in capsys.readouterr().out
    written = json.loads((tmp_path / "out.json").read_text())
    assert [row["way"] for row in written["rows"]] == ["frozen", "lora"]
    assert 0 <= written["rows"][1]["top1"]["value"] <= 100
