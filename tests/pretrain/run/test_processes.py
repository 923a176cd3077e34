"""Two processes do what one does: started here or by torchrun, with whole or sharded weights; and how they fail."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
import torch

from core_encoder.errors import InputError
from core_encoder.files.storage import read_json
from pretrain.recipe import ComputeConfig
from pretrain.run.checkpoint import checkpoints
from pretrain.run.processes import Processes
from pretrain.run.progress import PartProgress, PretrainingStopped
from pretrain.training import pretrain
from tests import ROOT
from tests.pretrain.corpora import clip_corpus
from tests.pretrain.tiny_runs import contrast, cut_back, losses, part, recipe, records, weights, write_world
from tests.pretrain.two_processes import STAGES, STEPS, staged

TWO = {"devices": 2}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folders `one`, `ddp`, `fsdp` and `begun_by_one` of the same recipe."""
    folder = tmp_path_factory.mktemp("two")
    write_world(folder)
    pretrain(staged(folder), folder / "one")
    shutil.copytree(folder / "one" / "stage1", folder / "begun_by_one" / "stage1")
    shutil.copy(folder / "one" / "tokenizer.json", folder / "begun_by_one")
    cut_back(folder / "begun_by_one", "stage1", 2)
    script = ROOT / "tests" / "pretrain" / "two_processes.py"
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {name: value for name, value in os.environ.items() if name != "LOCAL_RANK"}
    done = subprocess.run(
        [*torchrun, str(script), str(folder)], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def assert_close(one: list[tuple[int, float]], other: list[tuple[int, float]]) -> None:
    assert [step for step, _ in one] == [step for step, _ in other] == list(range(1, STEPS + 1))
    assert [loss for _, loss in one] == pytest.approx([loss for _, loss in other], abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_processes_give_the_losses_of_one(runs: Path, strategy: str) -> None:
    for name in STAGES:
        assert_close(losses(runs / strategy, name), losses(runs / "one", name))
        alone, together = weights(runs / "one", name), weights(runs / strategy, name)
        for key, value in alone.items():
            torch.testing.assert_close(together[key], value, rtol=1e-3, atol=1e-4)
    made = json.loads((runs / strategy / "encoder" / "pretraining.json").read_text())["parts"]
    assert made["stage2"]["processes"] == 2


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_processes_go_on_exactly_from_every_step(runs: Path, strategy: str) -> None:
    seen = json.loads((runs / f"{strategy}.json").read_text())
    assert len(seen) == 1 + len(STAGES) * (STEPS - 1)
    # stage 2 was not refused after stage 1 had been run again: its encoder had come out the same to the last bit
    assert all(found == seen["whole"] for found in seen.values())


@pytest.mark.slow
def test_a_run_goes_on_with_more_and_with_fewer_processes(runs: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert_close(losses(runs / "begun_by_one"), losses(runs / "one"))
    cut_back(runs / "ddp", "stage1", 1)
    with caplog.at_level(logging.WARNING):
        pretrain(staged(runs), runs / "ddp", ["stage1"])
    assert "begun by 2 processes, goes on with 1: the same batches" in caplog.text
    assert_close(losses(runs / "ddp"), losses(runs / "one"))


@pytest.mark.slow
def test_started_processes_do_the_same_and_stay_quiet(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    made = contrast(tmp_path, steps=3, checkpoint_every=1)
    pretrain(made, tmp_path / "one")
    told: list[PartProgress] = []
    pretrain(made.with_compute(**TWO), tmp_path / "two", progress=told.append)
    assert [now.step for now in told] == [1, 2, 3]
    assert_close(losses(tmp_path / "two"), losses(tmp_path / "one"))
    shown = capfd.readouterr()
    assert "distributed" not in shown.out + shown.err and "Traceback" not in shown.err
    assert "texts longer than" in caplog.text  # what the first process warns of comes back


@pytest.mark.slow
def test_failures_of_a_started_process_come_back(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    broken = clip_corpus(tmp_path, 8, broken=range(8))
    with pytest.raises(InputError, match="clips in a row could not be read") as refused:
        pretrain(recipe(tmp_path, broken, compute=TWO, stage2=None), tmp_path / "unreadable")
    assert "\n" not in str(refused.value)

    wild = part(lr=1e30, warmup_steps=0, schedule="constant", clip_grad_norm=0)
    with pytest.raises(PretrainingStopped, match="NaN or infinite at step 2 of .*there is no good checkpoint yet"):
        pretrain(recipe(tmp_path, compute=TWO, stage1=wild, stage2=None), tmp_path / "wild")

    def kill(now: PartProgress) -> None:
        for process in multiprocessing.active_children():
            if process.pid is not None and now.step == 2:
                os.kill(process.pid, signal.SIGKILL)

    long = recipe(tmp_path, compute=TWO, stage1=part(steps=10_000), stage2=None)
    with pytest.raises(RuntimeError, match="ended by SIGKILL; memory may have run out; the same command goes on"):
        pretrain(long, tmp_path / "killed", progress=kill)
    assert checkpoints(tmp_path / "killed" / "stage1")
    assert not multiprocessing.active_children()
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.slow
@pytest.mark.usefixtures("heeds_ctrl_c")
def test_ctrl_c_keeps_the_step_of_started_processes(tmp_path: Path) -> None:
    calm = contrast(tmp_path, steps=30, checkpoint_every=100)
    pretrain(calm, tmp_path / "calm")
    made = calm.with_compute(**TWO)

    def interrupt(now: PartProgress) -> None:
        if now.step == 1:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        pretrain(made, tmp_path / "out", progress=interrupt)
    kept = checkpoints(tmp_path / "out" / "stage1")
    assert len(kept) == 1
    pretrain(calm, tmp_path / "out")
    ours, theirs = losses(tmp_path / "out"), losses(tmp_path / "calm")
    assert [loss for _, loss in ours] == pytest.approx([loss for _, loss in theirs], abs=1e-3)


def test_processes_share_batches_evenly(caplog: pytest.LogCaptureFixture) -> None:
    from pretrain.run.processes import _fitting

    on_cpu = {"accelerator": "cpu"}
    assert [_fitting(ComputeConfig(**on_cpu, devices=4), batch) for batch in (8, 6, 5)] == [4, 3, 1]
    assert Processes(ComputeConfig(**on_cpu, devices=4)).world(6) == 3
    assert "3 processes share batches of 6 clips evenly, 4 would not" in caplog.text
    assert 1 <= _fitting(ComputeConfig(**on_cpu), 7) <= (os.cpu_count() or 1)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity here")
def test_no_more_processes_than_this_one_has_cores() -> None:
    from pretrain.run.processes import _fitting

    given = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(given)})
        assert _fitting(ComputeConfig(accelerator="cpu"), 64) == 1
    finally:
        os.sched_setaffinity(0, given)


def test_processes_wait_for_the_index_of_a_large_corpus(monkeypatch: pytest.MonkeyPatch) -> None:
    from pretrain.run.processes import _fabric

    monkeypatch.setenv("LOCAL_RANK", "0")
    for strategy in ("ddp", "fsdp"):
        fabric = _fabric(ComputeConfig(accelerator="cpu", strategy=strategy), 2, 1)
        assert fabric.strategy._timeout >= timedelta(hours=4), "618 M rows at 50,000 a second"


def test_several_machines_need_torchrun() -> None:
    with pytest.raises(InputError, match="torchrun"):
        Processes(ComputeConfig(num_nodes=2))


@pytest.mark.slow
def test_sharded_weights_train_in_bf16_as_whole_ones_do(tmp_path: Path) -> None:
    write_world(tmp_path)
    steps = part(steps=8, warmup_steps=0, schedule="constant", lr=3e-3)
    temperatures = {}
    for strategy in ("ddp", "fsdp"):
        compute = {"devices": 2, "strategy": strategy, "precision": "bf16-mixed"}
        made = recipe(tmp_path, tmp_path / "world.yaml", stage1=steps, stage2=None, compute=compute)
        pretrain(made, tmp_path / strategy)
        temperatures[strategy] = [line["temperature"] for line in records(tmp_path / strategy) if "loss" in line]
    whole, sharded = ([loss for _, loss in losses(tmp_path / name)] for name in ("ddp", "fsdp"))
    assert sharded == pytest.approx(whole, abs=0.02)
    assert temperatures["fsdp"] == pytest.approx(temperatures["ddp"], rel=2e-3)
    assert len(set(temperatures["fsdp"])) == 8, "small steps are not rounded away"


@pytest.mark.slow
def test_sharded_weights_are_judged_in_every_process(tmp_path: Path) -> None:
    """Whole weights are gathered by all processes together: none may be judged once more than another."""
    held_out = {"held_out": str(write_world(tmp_path)), "held_out_clips": 8}
    compute = {"devices": 2, "strategy": "fsdp"}
    made = recipe(tmp_path, stage1=part(steps=1), stage2=None, compute=compute, **held_out)
    about = read_json(pretrain(made, tmp_path / "out") / "pretraining.json")
    assert "recall@1/text" in about["parts"]["stage1"]["scores"]
