"""The speed scripts of pretraining run, and compare steps that differ in nothing but what they claim."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from functools import partialmethod
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.speed import stage1_dropping, stage2_student, stage2_utilisation, world_feeding
from benchmarks.speed.pretraining_steps import RECIPES, training_step
from pretrain.recipe import Recipe


@pytest.mark.parametrize(
    ("script", "rows"),
    [
        (stage1_dropping, {"time of the step with half of the tokens": "<= 0.6"}),
        (stage2_student, {"time of the masked student": "<= 0.5"}),
        (world_feeding, {"times faster than stage 1": ">= 2", "times faster than stage 2": ">= 2"}),
    ],
    ids=lambda value: value.__name__.rpartition(".")[2] if isinstance(value, ModuleType) else "",
)
def test_scripts_run_and_state_their_bounds(
    script: ModuleType, rows: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    out = tmp_path / "out.json"
    threads = torch.get_num_threads()
    monkeypatch.setattr(sys, "argv", ["script", "--clips", "4", "--rounds", "1", "--threads", "1", "--json", str(out)])
    script.main()
    torch.set_num_threads(threads)
    written = {row["what"]: row["must_be"] for row in json.loads(out.read_text())["results"]}
    assert rows.items() <= written.items()


@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_the_counted_arithmetic_is_that_of_the_step(
    compiled: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, threads = tmp_path / "out.json", torch.get_num_threads()
    options = ["--recipe", "ablation", "--clips", "2", "--side", "64", "--rounds", "1", "--threads", "1", "--bf16"]
    monkeypatch.setattr(sys, "argv", ["script", *options, "--json", str(out), *(["--compile"] if compiled else [])])
    # Traced and taken apart as for a compiler, without its code: tests/pretrain/run/test_part_loop.py has it written.
    monkeypatch.setattr(torch.nn.Module, "compile", partialmethod(torch.nn.Module.compile, backend="aot_eager"))
    stage2_utilisation.main()
    torch.set_num_threads(threads)
    written = json.loads(out.read_text())
    rows = {row["what"]: row["value"] for row in written["results"]}
    assert written["settings"]["compiled"] is compiled
    counted = rows["TFLOP/s of the step"] * 1e12 * written["times"]["step of stage 2"]["median_s"]
    recipe = Recipe.load(RECIPES / "ablation.yaml")
    assert recipe.stage2 is not None
    step = training_step(recipe, recipe.stage2, clips=2)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:  # it knows no fused attention
        step()
    assert counted == pytest.approx(counter.get_total_flops(), rel=0.1)


def test_dropping_half_of_the_tokens_halves_the_arithmetic() -> None:
    recipe = Recipe.load(RECIPES / "nano.yaml")
    assert recipe.stage1 is not None
    counts = []
    for drop in (0.0, 0.5):
        step = training_step(recipe, replace(recipe.stage1, drop=drop), clips=2)
        with FlopCounterMode(display=False) as counter:
            step()
        counts.append(counter.get_total_flops())
    assert 0.45 < counts[1] / counts[0] < 0.55
