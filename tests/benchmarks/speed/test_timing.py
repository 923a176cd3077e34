"""The stopwatch, the report, and that the speed scripts compare like with like."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import VideoPrismVisionConfig, VideoPrismVisionModel

from benchmarks.speed import map_pooling
from benchmarks.speed.encoder_forward import matrix_products
from benchmarks.speed.timing import Report, Timings, take_turns
from core_encoder.models.model_configs import ViViTConfig


def test_candidates_take_turns_in_alternating_order() -> None:
    calls: list[str] = []
    timings = take_turns({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, rounds=3)
    assert "".join(calls) == "ab" + "ab" + "ba" + "ab"
    assert [len(values) for values in timings.seconds.values()] == [3, 3]
    with pytest.raises(ValueError, match="round"):
        take_turns({}, rounds=0)


def test_ratio_pairs_the_rounds() -> None:
    """A machine that halves its speed for one round doubles both times and leaves the ratio alone."""
    timings = Timings({"slow": (2.0, 4.0, 2.2), "fast": (1.0, 2.0, 1.0)})
    assert timings.ratio("slow", "fast") == 2.0
    assert timings.median_s("slow") == 2.2


def test_report_says_what_was_met(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = Report("demo", Timings({"ours": (1.0,), "theirs": (1.5,)}), {"size": 3})
    report.at_least("times faster", 1.5, 1.35)
    report.at_most("difference", 2e-4, 1e-4)
    report.note("share", 0.5)
    report.publish(tmp_path / "out.json")
    text = capsys.readouterr().out
    assert "met" in text and "MISSED" in text
    written = json.loads((tmp_path / "out.json").read_text())
    assert [row["ok"] for row in written["results"]] == [True, False, True]
    assert written["times"]["theirs"]["median_s"] == 1.5 and written["machine"]["torch"] == torch.__version__
    assert json.loads(text[text.index("{") :]) == written


def test_the_matrix_products_are_those_of_the_encoder() -> None:
    config = VideoPrismVisionConfig(
        image_size=36,
        num_frames=3,
        hidden_size=24,
        num_attention_heads=3,
        intermediate_size=40,
        num_spatial_layers=2,
        num_temporal_layers=1,
    )
    config._attn_implementation = "eager"
    ours = ViViTConfig(
        width=24, heads=3, mlp_dim=40, spatial_layers=2, temporal_layers=1, patch_size=18, image_size=36, num_frames=3
    )
    run, multiply_adds = matrix_products(ours)
    counts = []
    model, video = VideoPrismVisionModel(config).eval(), torch.rand(1, 3, 3, 36, 36)
    for work in (run, lambda: model(video)):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            work()
        counts.append(counter.get_total_flops())
    assert counts[0] == counts[1] == round(2e9 * multiply_adds)


def test_map_pooling_script_agrees_with_the_textbook(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.json"
    options = ["--clips", "2", "--tokens", "32", "--rounds", "1", "--threads", "1", "--json", str(out)]
    monkeypatch.setattr(sys, "argv", ["map_pooling", *options])
    map_pooling.main()
    rows = {row["what"]: row for row in json.loads(out.read_text())["results"]}
    assert rows["largest difference of the outputs"]["ok"] and rows["largest difference of all gradients"]["ok"]
    assert "times faster than the textbook" in capsys.readouterr().out
