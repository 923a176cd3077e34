"""The script that times hubs, on a small encoder and a tiny language model: it asks all kinds, and compares answers."""

from __future__ import annotations

from pathlib import Path

from benchmarks.speed.hub_adapters import SPOKEN, measure, one_of_each_kind
from core_encoder.encoder import load_encoder
from tests.adapters.every_kind import ROWS
from tests.language_models import tiny_llm


def test_all_five_kinds_are_timed_and_answer_as_each_alone(tmp_path: Path) -> None:
    nano, llm = load_encoder("nano"), str(tiny_llm(tmp_path / "llm"))
    report = measure(nano, classifiers=2, llm=llm, rounds=1)
    ours = {row.kind().target_kind for row in ROWS if not row.name.startswith("toy")}
    assert {one.target_kind for one in one_of_each_kind(nano, llm).values()} == ours
    assert SPOKEN in report.timings.seconds and "5 kinds" in report.timings.seconds
    ratios = [row["what"] for row in report.rows if row["must_be"] in ("<= 1.1", "<= 1.25")]
    assert len(ratios) == 2 and SPOKEN in ratios[1]
    assert all(row["ok"] for row in report.rows if "difference" in row["what"]), report.rows
