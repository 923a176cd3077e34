"""Sharded weights (FSDP2) train as whole ones do: in every process, from any step, saved and loaded."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.fabric import Fabric
from lightning.fabric.plugins.environments import LightningEnvironment
from torch import Tensor
from torch.distributed.tensor import DTensor

from adapters.context import Context, TargetSchema
from adapters.kinds.map_classifier import MapClassifier
from adapters.registry import load_adapter
from adapters.training.grid import resolve_settings
from adapters.training.training_config import TrainingConfig
from adapters.training.training_loop import CHECKPOINT_FILE, TrainingRun, equal_parts, read_state
from adapters.tuning.tuned_adapter import TunedAdapter, fsdp_of_tuned
from core_encoder.encoder import load_encoder
from core_encoder.errors import InputError
from core_encoder.files.storage import read_tensors
from fit.device import OneDevice
from fit.fsdp import fsdp
from fit.launch import work_here
from tests import ROOT
from tests.adapters.tuning.frames import NAMES, features_of, frames_of, head_on, spec_of, tuning_on, write_clips
from tests.adapters.tuning.two_processes import CLIPS, WAYS, tuned
from tests.core_encoder.foreign_models import foreign_folder


def kept(folder: Path) -> dict[str, Tensor]:
    """All tensors of the last checkpoint: weights, best weights, optimizer states."""
    return read_tensors(folder / CHECKPOINT_FILE)


def assert_close(ours: dict[str, Tensor], theirs: dict[str, Tensor], atol: float) -> None:
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        torch.testing.assert_close(ours[name], tensor, rtol=0, atol=atol, msg=lambda text, name=name: f"{name}: {text}")


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Any], Fabric]]:
    """Makes the fabric of a strategy for this process, which shards weights over itself."""
    monkeypatch.setenv("LOCAL_RANK", "0")  # so that Lightning starts nobody
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)

    def fabric(strategy: Any) -> Fabric:
        made = Fabric(accelerator="cpu", devices=1, strategy=strategy, plugins=LightningEnvironment())
        made.launch()
        return made

    yield fabric
    torch.distributed.destroy_process_group()


def test_one_process_trains_sharded_weights_as_whole_ones(alone: Any, tmp_path: Path) -> None:
    """And a checkpoint of one goes on as the other: it holds all of every tensor."""
    nano = load_encoder("nano")
    spec = spec_of(nano)
    sets = [
        frames_of(features_of(write_clips(tmp_path / split, count), nano, spec, tmp_path / "features"), spec, "crop")
        for split, count in (("train", 4), ("val", 2))
    ]
    context = Context(nano.dim, TargetSchema("classes", NAMES), spec, encoder_source="nano")

    def sharding() -> Fabric:
        return alone(fsdp_of_tuned("32-true", 1))

    def train(name: str, fabric: Any) -> dict[str, Tensor]:
        config = TrainingConfig(epochs=1, batch_size=2, accumulate=2, accelerator="cpu")
        settings = resolve_settings(MapClassifier, {"hidden": 24}, config, [{}])
        made = tuning_on(spec, tune="full", encoder_lr=1.0, recompute=True)
        run = TrainingRun(MapClassifier, settings, context, config, sets[0], sets[1], None, tmp_path / name, made)
        (tmp_path / name).mkdir(exist_ok=True)
        work_here(fabric, run, lambda now: None)
        return kept(tmp_path / name)

    whole = train("whole", OneDevice("cpu", "32-true"))
    assert any("/optimizer/encoder." in one for one in whole) and any("/optimizer/head." in one for one in whole)
    sharded = train("sharded", sharding())
    assert_close(sharded, whole, atol=1e-6)
    for name, fabric, before in (("whole", sharding(), whole), ("sharded", OneDevice("cpu", "32-true"), sharded)):
        assert_close(train(name, fabric), before, atol=0)  # nothing is left to do but to read and write it


@pytest.mark.parametrize("tune", ["lora", "full"])
def test_all_that_trains_is_shared_out_and_so_are_frozen_layers(alone: Any, tune: str) -> None:
    nano = load_encoder("nano")
    spec = spec_of(nano)
    adapter = TunedAdapter.around(head_on(spec, nano.dim), tuning_on(spec, tune=tune), seed=0)
    trained = {name for name, one in adapter.named_parameters() if one.requires_grad}
    alone(fsdp_of_tuned("32-true", 1)).setup_module(adapter)
    sharded = {name for name, one in adapter.named_parameters() if isinstance(one, DTensor)}
    assert sharded >= trained
    of_layers = {name for name, _ in adapter.named_parameters() if ".vision." in name and "_layers." in name}
    assert sharded - trained == (of_layers - trained if tune == "lora" else set()) != of_layers


def test_single_numbers_are_refused(alone: Any) -> None:
    module = torch.nn.Linear(2, 2)
    module.scale = torch.nn.Parameter(torch.ones(()))
    with pytest.raises(InputError, match="strategy fsdp: scale is a single number, which cannot be shared out"):
        alone(fsdp("32-true", 1, lambda given: ())).setup_module(module)


def test_all_processes_take_a_batch_in_as_many_parts() -> None:
    for size in range(2, 30):
        for world in range(1, size // 2 + 1):
            shares = [list(range(size))[rank::world] for rank in range(world)]
            for count in (1, 2, 3, 4, 7):
                parts = [equal_parts(share, count, len(shares[0]), len(shares[-1])) for share in shares]
                assert len({len(one) for one in parts}) == 1 and len(parts[0]) <= count
                assert [[*chain(*one)] for one in parts] == shares and all(map(all, parts)), (size, world, count)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folders `full`, `lora` and `padded`, each with `-ddp` and `-fsdp`; `stopped` and `with-one`."""
    folder = tmp_path_factory.mktemp("two")
    for split, count in CLIPS.items():
        write_clips(folder / split, count)
    foreign_folder("videomae", folder / "videomae")
    script = ROOT / "tests" / "adapters" / "tuning" / "two_processes.py"
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {name: value for name, value in os.environ.items() if name != "LOCAL_RANK"} | {"OMP_NUM_THREADS": "1"}
    words = [*torchrun, str(script), str(folder)]
    done = subprocess.run(words, capture_output=True, text=True, env=environment, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_two_processes_share_weights_and_train_as_with_whole_ones(runs: Path, way: str) -> None:
    assert_close(kept(runs / f"{way}-fsdp"), kept(runs / f"{way}-ddp"), atol=1e-5)
    sharded, whole = (tuned(runs, f"{way}-{strategy}", way, "ddp", devices=1) for strategy in ("fsdp", "ddp"))
    for ours, theirs in zip(sharded.history, whole.history, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-5)
    videos = [str(runs / "val" / f"{i}.mp4") for i in range(CLIPS["val"])]
    answers, wanted = (one.best.eval().predict(videos) for one in (sharded, whole))
    for one, other in zip(answers, wanted, strict=True):
        torch.testing.assert_close(one.scores, other.scores, atol=1e-4, rtol=0)
    loaded = load_adapter(sharded.best.save_pretrained(runs / f"{way}-saved"))
    again = loaded.predict(videos)
    assert all(torch.equal(one.scores, other.scores) for one, other in zip(again, answers, strict=True))


@pytest.mark.slow
def test_sharded_training_goes_on_from_where_it_was_stopped(runs: Path) -> None:
    assert_close(kept(runs / "stopped"), kept(runs / "full-fsdp"), atol=0)
    state = read_state(runs / "with-one")
    assert state is not None and (state.epoch, state.step, state.done) == (0, 1, False)
    tuned(runs, "with-one", "full", "ddp", devices=1)  # what two processes began
    assert_close(kept(runs / "with-one"), kept(runs / "full-fsdp"), atol=1e-4)
