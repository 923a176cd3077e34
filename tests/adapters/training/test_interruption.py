"""Ctrl-C keeps the step it interrupts, in one process and in two, and the same call goes on from there."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from adapters.context import Context
from adapters.kinds.map_classifier import MapClassifier
from adapters.training.grid import resolve_settings
from adapters.training.train_grid import TrainingResult, train
from adapters.training.training_config import TrainingConfig, TrainingProgress
from adapters.training.training_loop import TrainingRun, read_state
from fit.device import OneDevice
from fit.launch import work_here
from tests.adapters.toy import DIM, LABELS, toy_features

PATIENT = TrainingConfig(epochs=3, batch_size=8, lr=3e-3, accelerator="cpu", checkpoint_every_s=1e9)  # 4 steps an epoch


def run(folder: Path, devices: int = 1, **options: Any) -> TrainingResult:
    config = TrainingConfig(**(vars(PATIENT) | {"devices": devices}))
    sets = toy_features(26), toy_features(13, seed=1)
    head = {"dropout": 0.0, "hidden": 16}
    return train("map_classifier", *sets, label_names=LABELS, head=head, config=config, run_dir=folder, **options)


def interrupted_at(step: int, phase: str) -> Any:
    def interrupt(now: TrainingProgress) -> None:
        if (now.step, now.phase) == (step, phase):
            os.kill(os.getpid(), signal.SIGINT)

    return interrupt


@pytest.mark.usefixtures("heeds_ctrl_c")
@pytest.mark.parametrize(("step", "phase"), [(6, "train"), (4, "train"), (8, "validate"), (12, "validate")])
def test_ctrl_c_keeps_the_step_it_interrupts(tmp_path: Path, step: int, phase: str) -> None:
    calm = run(tmp_path / "calm")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "out", progress=interrupted_at(step, phase))
    state = read_state(tmp_path / "out")
    assert state is not None and state.epoch * 4 + state.step == step and not state.done
    seen: list[TrainingProgress] = []
    again = run(tmp_path / "out", progress=seen.append)
    assert min((now.step for now in seen if now.phase == "train"), default=step + 1) == step + 1
    assert again.history == calm.history
    weights = again.best.state_dict()
    assert all(torch.equal(weights[name], tensor) for name, tensor in calm.best.state_dict().items())


def test_all_processes_keep_a_step_when_one_finds_it_time(tmp_path: Path) -> None:
    """Each has a clock of its own, and sharded weights are gathered by all of them or by none."""

    class BesideAnother(OneDevice):
        def all_reduce(self, value: Tensor, reduce_op: str = "mean") -> Tensor:
            return value + torch.tensor([1.0, 0.0])  # the other one's clock, and nobody was asked to stop

    settings = resolve_settings(MapClassifier, {"hidden": 16}, PATIENT, [{}])
    context = Context.of_classes(DIM, LABELS)
    sets = toy_features(26), toy_features(13, seed=1)
    kept: list[int] = []

    def look(now: TrainingProgress) -> None:
        state = read_state(tmp_path)
        kept.append(-1 if state is None else state.epoch * 4 + state.step)

    run = TrainingRun(MapClassifier, settings, context, replace(PATIENT, epochs=1), *sets, None, tmp_path)
    work_here(BesideAnother("cpu", "32-true"), run, look)
    assert kept[:4] == [-1, 1, 2, 3]


@pytest.mark.slow
@pytest.mark.usefixtures("heeds_ctrl_c")
def test_two_processes_tell_and_stop_at_the_same_step(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "out", devices=2, progress=interrupted_at(2, "train"))
    state = read_state(tmp_path / "out")
    assert state is not None and 2 <= state.epoch * 4 + state.step < 12 and not state.done
    again = run(tmp_path / "out")
    calm = run(tmp_path / "calm")
    for ours, theirs in zip(again.history, calm.history, strict=True):
        assert ours["train_loss"] == pytest.approx(theirs["train_loss"], abs=1e-4)
