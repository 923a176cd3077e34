"""The one training loop with an encoder that trains: exact to go on with, shared by processes, refused elsewhere."""

from __future__ import annotations

import math
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from adapters.card import AdapterInfo
from adapters.context import TargetSchema
from adapters.training.train_grid import TrainingResult, train
from adapters.training.training_config import TrainingConfig, TrainingProgress
from adapters.training.training_loop import read_state
from adapters.tuning.encoder_lora import EncoderLora
from adapters.tuning.epoch_cost import epoch_cost
from core_encoder.encoder import load_encoder
from core_encoder.errors import InputError
from core_encoder.files.storage import read_tensors
from tests.adapters.tuning.frames import NAMES, features_of, frames_of, head_on, spec_of, tuning_on, write_clips


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("clips")
    return write_clips(folder / "train", 8), write_clips(folder / "val", 4), folder / "store"


def run(clips: Any, folder: Path, tuned: dict[str, Any] | None = None, **options: Any) -> TrainingResult:
    nano = load_encoder("nano")
    spec = spec_of(nano)
    train_clips, val_clips, store = clips
    config = {"epochs": 2, "batch_size": 4, "lr": 2e-3, "accelerator": "cpu", "checkpoint_every_s": 1e9}
    config |= options.pop("config", {})
    names = ("crop", "flip", "colour", "randaugment")
    sets = (frames_of(features_of(some, nano, spec, store), spec, *names) for some in (train_clips, val_clips))
    return train(
        "map_classifier",
        *sets,
        targets=TargetSchema("classes", NAMES),
        head={"hidden": 24},
        config=TrainingConfig(**config),
        run_dir=folder,
        info=AdapterInfo(features=spec, encoder_source="nano"),
        tuning=tuning_on(spec, **(tuned or {"tune": "lora", "lora_rank": 2, "augment": (*names, "mixup")})),
        **options,
    )


def weights_of(result: TrainingResult) -> dict[str, torch.Tensor]:
    lora = result.best.tuning
    assert isinstance(lora, EncoderLora)
    pairs = {f"{name} {place}": one for name, pair in lora.pairs.items() for place, one in enumerate(pair)}
    return {**result.best.state_dict(), **pairs}


@pytest.mark.usefixtures("heeds_ctrl_c")
@pytest.mark.parametrize("step", [3, *(pytest.param(step, marks=pytest.mark.slow) for step in (1, 2))])
def test_a_run_that_goes_on_equals_one_that_was_never_stopped(clips: Any, tmp_path: Path, step: int) -> None:
    def interrupt(now: TrainingProgress) -> None:
        if (now.step, now.phase) == (step, "train"):
            os.kill(os.getpid(), signal.SIGINT)

    calm = run(clips, tmp_path / "calm")
    with pytest.raises(KeyboardInterrupt):
        run(clips, tmp_path / "out", progress=interrupt)
    state = read_state(tmp_path / "out")
    assert state is not None and state.epoch * 2 + state.step == step and not state.done
    again = run(clips, tmp_path / "out")
    assert again.history == calm.history
    ours, theirs = weights_of(again), weights_of(calm)
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], one) for name, one in theirs.items())
    kept = read_tensors(tmp_path / "out" / "checkpoint.safetensors")
    assert not any("base_layer" in name for name in kept)  # what is frozen is in no checkpoint
    found = run(clips, tmp_path / "out")  # finished: read back, with the same encoder
    assert found.best.find_encoder().fingerprint == again.best.find_encoder().fingerprint


@pytest.mark.slow
def test_settings_train_side_by_side_as_alone(clips: Any, tmp_path: Path) -> None:
    grid = run(clips, tmp_path / "grid", grid=[{"lr": 2e-3}, {"lr": 1e-4}])
    alone = run(clips, tmp_path / "alone", config={"lr": 1e-4})
    scores = {setting.overrides["lr"]: setting.score for setting in grid.settings}
    assert scores[1e-4] == alone.score and len(set(scores.values())) == 2


def test_other_options_are_another_run(clips: Any, tmp_path: Path) -> None:
    run(clips, tmp_path, {"tune": "lora", "lora_rank": 2})
    with pytest.raises(InputError, match="another tuning.*rank was 2, now 3"):
        run(clips, tmp_path, {"tune": "lora", "lora_rank": 3})
    run(clips, tmp_path, {"tune": "lora", "lora_rank": 2, "recompute": True})  # changes no value


def test_a_whole_encoder_trains_and_moves(clips: Any, tmp_path: Path) -> None:
    result = run(clips, tmp_path, {"tune": "full", "encoder_lr": 1.0})
    assert all(math.isfinite(line["train_loss"]) for line in result.history)
    ours, theirs = (dict(one.model.named_parameters()) for one in (result.best.find_encoder(), load_encoder("nano")))
    moved = {name for name, one in theirs.items() if not torch.equal(ours[name], one)}
    assert moved == {name for name in theirs if name.startswith("vision.")}


@pytest.mark.slow
def test_two_processes_train_as_one(clips: Any, tmp_path: Path) -> None:
    """Without chance in the loss (dropout, MixUp), which each process draws for its own rows."""
    how: dict[str, Any] = {"tuned": {"tune": "lora", "lora_rank": 2, "augment": ("crop", "flip")}}
    quiet = {"head": {"hidden": 24, "dropout": 0.0}}
    one, two = (
        _without_chance(clips, tmp_path / str(devices), how["tuned"], quiet["head"], devices) for devices in (1, 2)
    )
    for ours, theirs in zip(two.history, one.history, strict=True):
        assert ours["train_loss"] == pytest.approx(theirs["train_loss"], abs=1e-4)
        assert ours["val_loss"] == pytest.approx(theirs["val_loss"], abs=1e-4)
    ours, theirs = weights_of(two), weights_of(one)
    assert all(torch.allclose(ours[name], tensor, atol=1e-4) for name, tensor in theirs.items())


def _without_chance(clips: Any, folder: Path, tuned: dict[str, Any], head: dict[str, Any], devices: int) -> Any:
    nano = load_encoder("nano")
    spec = spec_of(nano)
    sets = (frames_of(features_of(some, nano, spec, clips[2]), spec, "crop", "flip") for some in clips[:2])
    return train(
        "map_classifier",
        *sets,
        targets=TargetSchema("classes", NAMES),
        head=head,
        config=TrainingConfig(epochs=2, batch_size=4, lr=1e-3, accelerator="cpu", devices=devices),
        run_dir=folder,
        info=AdapterInfo(features=spec, encoder_source="nano"),
        tuning=tuning_on(spec, **tuned),
    )


def test_a_validation_clip_that_breaks_is_not_judged(clips: Any, tmp_path: Path) -> None:
    """The rest of its batch are judged as themselves."""
    nano = load_encoder("nano")
    spec = spec_of(nano)
    some = write_clips(tmp_path / "val", 4)
    val = frames_of(features_of(some, nano, spec, tmp_path / "store"), spec, most=1)
    Path(some[1].path).unlink()
    judged: list[list[str]] = []

    class Judge:
        def update(self, answers: Any, truths: Any) -> None:
            judged.append([one.sample_id for one in answers])
            assert [one.id for one in truths] == judged[-1]

        def compute(self) -> float:
            return 1.0

    train(
        "map_classifier",
        frames_of(features_of(clips[0], nano, spec, clips[2]), spec),
        val,
        targets=TargetSchema("classes", NAMES),
        head={"hidden": 24},
        config=TrainingConfig(epochs=1, batch_size=4, accelerator="cpu"),
        run_dir=tmp_path / "run",
        metric=Judge,
        info=AdapterInfo(features=spec, encoder_source="nano"),
        tuning=tuning_on(spec, tune="lora", lora_rank=2),
    )
    assert judged == [["clip 0", "clip 2", "clip 3"]]


def test_the_cost_of_an_epoch_is_measured(clips: Any) -> None:
    nano = load_encoder("nano")
    spec = spec_of(nano)
    frames = frames_of(features_of(clips[0], nano, spec, clips[2]), spec, "crop")
    heads = [head_on(spec, nano.dim) for _ in range(2)]
    cost = epoch_cost(heads, tuning_on(spec, tune="lora"), frames, 4, torch.device("cpu"), "32-true")
    assert cost.clips == 12 and cost.decode_s > 0 and cost.step_s > cost.judge_s > 0
    assert cost.epoch_s == pytest.approx(12 * cost.decode_s + 8 * cost.step_s + 4 * cost.judge_s)
    assert str(cost).startswith("every epoch decodes and encodes 12 clips anew, about ")
