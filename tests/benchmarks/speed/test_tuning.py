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
    top1, more = tuning.row_of(better, frozen)
    assert top1.value == pytest.approx(62.5) and more.value == pytest.approx(25.0)
    assert more.low < 25 < more.high and tuning.row_of(frozen, frozen)[1].value == 0
    lines = tuning.markdown(
        {"frozen": tuning.row_of(frozen, frozen), "lora": (top1, more)}, {"frozen": 1.2, "lora": 30}
    )
    assert lines[2].startswith("| frozen | 37.5") and lines[2].endswith(" |  | 1 |")
    assert lines[3].startswith("| lora | 62.5") and lines[3].endswith("| 30 |")


@pytest.mark.slow
def test_the_script_trains_and_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tuning, "CLIPS", {"train": 1, "val": 1, "test": 1})
    words = ["tuning", "--epochs", "1", "--seeds", "1", "--threads", "1", "--ways", "frozen,lora"]
    monkeypatch.setattr(sys, "argv", [*words, "--json", str(tmp_path / "out.json")])
    tuning.main()
    assert "| lora |" in capsys.readouterr().out
    written = json.loads((tmp_path / "out.json").read_text())
    assert set(written["ways"]) == {"frozen", "lora"} and 0 <= written["ways"]["lora"]["top1"]["value"] <= 100
