"""The training loop: what it reaches, and that nothing but its arguments decides what it ends with."""

from __future__ import annotations

import json
import logging
import math
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from adapters.context import Context
from adapters.features import Example, InMemoryFeatures
from adapters.kinds.map_classifier import MapClassifierConfig
from adapters.predictions import ClassScores, Truth
from adapters.training.candidate import learning_rate
from adapters.training.train_grid import TrainingResult, train
from adapters.training.training_config import TrainingConfig, TrainingDiverged, TrainingProgress
from adapters.training.training_loop import CHECKPOINT_FILE, read_split
from core_encoder.errors import InputError
from core_encoder.files.storage import read_tensors, write_tensors
from tests import ROOT
from tests.adapters.toy import LABELS, toy_features

QUICK = TrainingConfig(epochs=3, batch_size=8, lr=3e-3, accelerator="cpu")


class Accuracy:
    """A metric of one's own: nothing of torchmetrics is needed."""

    def __init__(self) -> None:
        self.right: dict[str, bool] = {}

    def update(self, predictions: Sequence[ClassScores], samples: Sequence[Truth]) -> None:
        for prediction, sample in zip(predictions, samples, strict=True):
            assert prediction.sample_id == sample.id
            assert sample.id not in self.right, "a sample was counted twice"
            self.right[sample.id] = int(prediction.scores.argmax()) == int(sample.target)

    def compute(self) -> float:
        return sum(self.right.values()) / len(self.right)


def run(folder: Path, **changes: Any) -> TrainingResult:
    options: dict[str, Any] = {
        "head": {"dropout": 0.3, "hidden": 16},
        "label_names": LABELS,
        "config": QUICK,
        "metric": Accuracy,
        "run_dir": folder,
    }
    sets = changes.pop("sets", None) or (toy_features(26), toy_features(13, seed=1))
    return train(changes.pop("kind", "map_classifier"), *sets, **(options | changes))


def same_weights(first: TrainingResult, second: TrainingResult) -> bool:
    a, b = first.best.state_dict(), second.best.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_it_learns_and_keeps_the_best_epoch(tmp_path: Path) -> None:
    train_set, val_set = toy_features(90), toy_features(45, seed=1)
    result = run(tmp_path, sets=(train_set, val_set), config=TrainingConfig(epochs=15, batch_size=16, lr=3e-3))
    assert result.score is not None and result.score > 0.9
    metric = Accuracy()
    answers = result.best.predict(val_set.features, mask=val_set.masks, ids=val_set.ids)
    metric.update(answers, [val_set[index].truth for index in range(len(val_set))])
    assert metric.compute() == result.score, "the weights kept are those of the epoch that scored best"
    assert result.settings[0].best_epoch == max(range(15), key=lambda e: (result.history[e]["val_score"], -e))
    assert result.best.info.training["lr"] == 3e-3 and result.best.info.config["dropout"] == 0.3


def test_attention_pooling_beats_mean_pooling_where_one_token_tells(tmp_path: Path) -> None:
    config = TrainingConfig(epochs=25, batch_size=16, lr=3e-3)
    sets = toy_features(150, noise=3.0), toy_features(90, seed=1, noise=3.0)
    clips = [toy_features(len(s), seed=i, kind="clip", noise=3.0) for i, s in enumerate(sets)]
    attention = run(tmp_path / "map", sets=sets, config=config, head={"dropout": 0.0})
    mean = run(tmp_path / "mean", kind="linear", sets=clips, config=config, head={})
    assert attention.score is not None and mean.score is not None
    assert attention.score > mean.score + 0.1


def test_a_setting_ends_the_same_alone_or_in_company(tmp_path: Path) -> None:
    setting = {"lr": 1e-3, "dropout": 0.5}
    alone = run(tmp_path / "alone", grid=[setting])
    others = [{"lr": 1e-5, "hidden": 8}, setting, {"lr": 1e-4, "dropout": 0.0}, {"weight_decay": 0.5, "lr": 1e-6}]
    company = run(tmp_path / "company", grid=others)
    name = "lr=0.001 dropout=0.5"
    assert [s.name for s in alone.settings] == [name]
    tensors = read_tensors(tmp_path / "company" / CHECKPOINT_FILE)
    own = read_tensors(tmp_path / "alone" / CHECKPOINT_FILE)
    assert all(torch.equal(tensors["1" + key[1:]], tensor) for key, tensor in own.items())
    assert [h for h in company.history if h["setting"] == name] == list(alone.history)
    scores = [s.score for s in company.settings]
    assert scores == sorted(scores, key=lambda s: -(s or 0)), "settings come best first"


def test_a_batch_is_read_once_for_all_settings(tmp_path: Path) -> None:
    class Counting(InMemoryFeatures):
        reads = 0

        def __getitem__(self, index: int) -> Example:
            Counting.reads += 1
            return super().__getitem__(index)

    def reads_with(grid: list[dict[str, float]], folder: Path) -> int:
        data = toy_features(20)
        Counting.reads = 0
        run(folder, sets=(Counting(data.features, data.targets, data.masks), None), grid=grid, metric=None)
        return Counting.reads

    one = reads_with([{}], tmp_path / "one")
    calibration = 20  # of every setting before the first step, and of the head that is kept at the end
    assert one == 2 + 2 * calibration + 3 * 20, "the first example is looked at twice before"
    assert reads_with([{"lr": 1e-3}, {"lr": 1e-4}, {"lr": 1e-5}], tmp_path / "three") == one + 2 * calibration


class Crash(Exception):
    pass


@pytest.mark.parametrize(
    ("phase", "crash_at"),
    [("train", 1), ("train", 3), ("train", 4), ("validate", 4), ("train", 5), ("validate", 8), ("train", 12)],
)
def test_an_interrupted_run_goes_on_exactly(tmp_path: Path, phase: str, crash_at: int) -> None:
    """26 samples in batches of 8 are 4 steps an epoch: mid-epoch, at its end, and during validation."""
    grid = [{"lr": 3e-3}, {"lr": 1e-3, "dropout": 0.0}]
    config = TrainingConfig(epochs=3, batch_size=8, checkpoint_every_s=0.0)
    whole = run(tmp_path / "whole", config=config, grid=grid)

    def crash(progress: TrainingProgress) -> None:
        if (progress.phase, progress.step) == (phase, crash_at):
            raise Crash

    with pytest.raises(Crash):
        run(tmp_path / "killed", config=config, grid=grid, progress=crash)
    (tmp_path / "killed" / "metrics.jsonl").open("a").write('{"step": 999, "half a li')
    resumed_steps: list[int] = []
    again = run(tmp_path / "killed", config=config, grid=grid, progress=lambda p: resumed_steps.append(p.step))
    assert resumed_steps[0] == crash_at, "only what the crash cut off is repeated"
    assert same_weights(whole, again) and again.history == whole.history and again.settings == whole.settings
    lines = [json.loads(line) for line in (tmp_path / "killed" / "metrics.jsonl").read_text().splitlines()]
    expected = [json.loads(line) for line in (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()]
    assert lines == expected


CHILD = """
import sys, time
from pathlib import Path
from adapters.features import InMemoryFeatures
from adapters.training.train_grid import train
from adapters.training.training_config import TrainingConfig
from tests.adapters.toy import LABELS, toy_features
config = TrainingConfig(epochs=6, batch_size=4, checkpoint_every_s=0.0, accelerator="cpu")
def slow(progress):
    print(progress.step, flush=True)
    time.sleep(float(sys.argv[2]))
train("map_classifier", toy_features(26), toy_features(13, seed=1), head={"hidden": 16}, label_names=LABELS,
      config=config, run_dir=sys.argv[1], grid=[{"lr": 3e-3}, {"lr": 1e-3}], progress=slow)
"""


@pytest.mark.slow
def test_kill_9_and_the_same_command_again(tmp_path: Path) -> None:
    def start(folder: Path, pause: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", CHILD, str(folder), pause]
        return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env={**os.environ})

    whole = start(tmp_path / "whole", "0")
    dice = random.Random(0)
    for _ in range(2):
        child = start(tmp_path / "killed", "0.01")
        assert child.stdout is not None
        child.stdout.readline()  # it trains
        time.sleep(dice.uniform(0, 0.4))
        child.send_signal(signal.SIGKILL)
        child.wait()
        leftovers = [p.name for p in (tmp_path / "killed").glob("*.safetensors")]
        assert leftovers in ([], [CHECKPOINT_FILE])
    assert start(tmp_path / "killed", "0").wait() == 0 and whole.wait() == 0
    first, second = (read_tensors(tmp_path / name / CHECKPOINT_FILE) for name in ("whole", "killed"))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_finished_run_is_read_back(tmp_path: Path) -> None:
    first = run(tmp_path)
    steps: list[TrainingProgress] = []
    second = run(tmp_path, progress=steps.append)
    assert not steps and same_weights(first, second) and first.settings == second.settings


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"config": TrainingConfig(epochs=3, batch_size=8, lr=1e-2)}, "lr was 0.003, now 0.01"),
        ({"head": {"dropout": 0.1, "hidden": 16}}, "dropout was 0.3, now 0.1"),
        ({"sets": (toy_features(25), toy_features(13, seed=1))}, "another train_set"),
        ({"sets": (toy_features(26), toy_features(12, seed=1))}, "another val_set"),
        ({"label_names": ("ant", "bee", "cow")}, "another label_names"),
        ({"kind": "linear", "head": {}}, r"another kind \(was 'map_classifier', now 'linear'\)"),
        ({"grid": [{}, {"lr": 1e-4}]}, r"another grid \(was 'default', now 'default; lr=0.0001'\)"),
    ],
)
def test_a_folder_of_another_run_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    run(tmp_path, config=QUICK)
    with pytest.raises(InputError, match=message) as caught:
        run(tmp_path, **changes)
    assert "\n" not in str(caught.value)
    assert run(tmp_path, **changes, restart=True).history, "restart drops the old run"


def test_how_it_runs_may_change_between_a_run_and_its_continuation(tmp_path: Path) -> None:
    run(tmp_path)
    run(tmp_path, config=TrainingConfig(epochs=3, batch_size=8, lr=3e-3, accelerator="auto", checkpoint_every_s=1))


def with_nan(start: int) -> InMemoryFeatures:
    """Features that are finite where the scale is measured and NaN in one sample after `start` reads."""

    class Poisoned(InMemoryFeatures):
        reads = 0

        def __getitem__(self, index: int) -> Example:
            Poisoned.reads += 1
            sample = super().__getitem__(index)
            features = sample.features * math.nan if Poisoned.reads == start else sample.features
            return Example(features, sample.mask, sample.target, sample.id)

    data = toy_features(26)
    return Poisoned(data.features, data.targets, data.masks)


def test_nan_stops_and_says_where(tmp_path: Path) -> None:
    calibration = 1 + 26
    poisoned = with_nan(calibration + 26 + 9)  # the second batch of the second epoch
    with pytest.raises(TrainingDiverged) as caught:
        run(tmp_path, sets=(poisoned, None), metric=None)
    assert str(caught.value).startswith(
        "setting 'default': the loss became nan at step 6 (epoch 2, batch 2 of 4); lower the learning rate"
    )


def test_a_diverged_setting_does_not_stop_the_others(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        config = TrainingConfig(epochs=12, batch_size=8, clip_grad_norm=0.0, warmup_fraction=0.0)
        result = run(tmp_path, grid=[{"lr": 1e30}, {"lr": 1e-3}], config=config)
    assert result.settings[0].name == "lr=0.001" and result.settings[0].epochs == 12
    assert "became" in result.settings[1].stopped and result.settings[1].epochs < 12
    assert "setting 'lr=1e+30'" in caplog.text and "the other settings go on" in caplog.text


def test_early_stop(tmp_path: Path) -> None:
    config = TrainingConfig(epochs=40, batch_size=16, lr=3e-3, patience=2)
    result = run(tmp_path, sets=(toy_features(60), toy_features(30, seed=1)), config=config)
    ended = result.settings[0]
    assert ended.epochs == ended.best_epoch + 3 < 40 and ended.stopped == "no better score for 2 epochs"


@pytest.mark.parametrize("changes", [{"devices": "auto"}, {"precision": "bf16-mixed"}])
def test_other_ways_to_run(tmp_path: Path, changes: dict[str, Any]) -> None:
    plain = run(tmp_path / "plain")
    other = run(
        tmp_path / "other", config=TrainingConfig(epochs=3, batch_size=8, lr=3e-3, accelerator="cpu", **changes)
    )
    for a, b in zip(plain.history, other.history, strict=True):
        assert a["train_loss"] == pytest.approx(b["train_loss"], rel=0.02)


def test_without_validation_the_last_epoch_counts(tmp_path: Path) -> None:
    result = run(tmp_path, sets=(toy_features(26), None), metric=None)
    assert result.score is None and result.settings[0].best_epoch == 2
    tensors = read_tensors(tmp_path / CHECKPOINT_FILE)
    assert all(torch.equal(tensors[f"0/model/{name}"], t) for name, t in result.best.state_dict().items())


def test_without_a_metric_the_validation_loss_counts(tmp_path: Path) -> None:
    result = run(tmp_path, metric=None)
    assert result.score == -min(record["val_loss"] for record in result.history)


def test_nan_in_the_validation_features_is_an_error(tmp_path: Path) -> None:
    broken = toy_features(13, seed=1)
    broken.features[5] = math.nan
    with pytest.raises(InputError, match="validation features hold NaN"):
        run(tmp_path, sets=(toy_features(26), broken), metric=None)


def test_a_metric_without_a_value_is_an_error(tmp_path: Path) -> None:
    class Empty(Accuracy):
        def compute(self) -> float:
            return math.nan

    with pytest.raises(InputError, match="validation metric is NaN"):
        run(tmp_path, metric=Empty)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"grid": [{"batch_size": 4}]}, "'batch_size' cannot vary between settings"),
        ({"grid": [{"layers": (1,)}]}, "'layers' cannot vary"),
        ({"grid": [{"dropuot": 0.1}]}, "unknown option 'dropuot'; did you mean 'dropout'"),
        ({"grid": [{"lr": 1e-3}, {"lr": "0.001"}]}, "setting 'lr=0.001' comes twice"),
        ({"kind": "map_clasifier"}, "unknown adapter kind 'map_clasifier'; did you mean 'map_classifier'"),
        ({"sets": ((), None)}, "no sample to train on"),
        ({"config": TrainingConfig(accelerator="warp")}, "option 'accelerator' cannot be 'warp'"),
        ({"config": TrainingConfig(accelerator="mps", devices=2)}, "accelerator 'mps' with devices 2: "),
    ],
)
def test_bad_requests(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        run(tmp_path, **changes)


def test_schedule() -> None:
    config = TrainingConfig(lr=1.0, warmup_fraction=0.1)
    rates = [learning_rate(config, step, 100) for step in range(100)]
    assert rates[0] == pytest.approx(0.1) and rates[9] == pytest.approx(1.0) and max(rates) == rates[10] == 1.0
    assert rates[10:] == sorted(rates[10:], reverse=True) and rates[-1] < 1e-3
    assert rates[55] == pytest.approx(0.5)


def test_norms_biases_and_queries_do_not_decay() -> None:
    from adapters.kinds.map_classifier import MapClassifier
    from fit.parameter_groups import parameter_groups

    adapter = MapClassifier.build(MapClassifierConfig(positions=True), Context.of_classes(16, LABELS))
    decayed = {id(p) for p in parameter_groups(adapter, 0.1)[0]["params"]}
    names = {name for name, p in adapter.named_parameters() if id(p) in decayed}
    layers = ("q", "k", "v", "o", "fc1", "fc2")
    assert names == {"classifier.weight", *(f"rounds.0.{layer}.weight" for layer in layers)}


def test_progress_and_logs(tmp_path: Path) -> None:
    seen: list[TrainingProgress] = []
    run(tmp_path, progress=seen.append, config=TrainingConfig(epochs=3, batch_size=2, lr=1e-3))
    trained = [p for p in seen if p.phase == "train"]
    assert [p.step for p in trained] == list(range(1, 40)) and {p.steps for p in seen} == {39}
    assert trained[-1].losses.keys() == {"default"} and trained[-1].samples_per_s > 0 and trained[-1].eta_s == 0
    assert seen[-1].epoch == 3 and "default" in seen[-1].scores
    records = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [r["epoch"] for r in records if "epoch" in r] == [0, 1, 2]
    assert [r["step"] for r in records if "lr" in r] == [10, 20, 30]
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [e.step for e in events.Scalars("val_score/default")] == [13, 26, 39]


def test_a_random_state_outside_is_left_alone(tmp_path: Path) -> None:
    torch.manual_seed(7)
    before = torch.get_rng_state()
    run(tmp_path)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path: Path) -> None:
    """Uneven batches and an uneven validation set: 27 samples in batches of 8, 13 validation samples."""
    sets = toy_features(27), toy_features(13, seed=1)
    head = {"dropout": 0.0, "class_weights": "balanced"}
    grid = [{"lr": 3e-3}, {"lr": 1e-3}]
    results = []
    for devices in (1, 2):
        config = TrainingConfig(epochs=3, batch_size=8, accelerator="cpu", devices=devices)
        results.append(run(tmp_path / str(devices), sets=sets, head=head, grid=grid, config=config))
    one, two = results
    for a, b in zip(one.history, two.history, strict=True):
        assert a["train_loss"] == pytest.approx(b["train_loss"], abs=1e-5)
        assert a["val_loss"] == pytest.approx(b["val_loss"], abs=1e-5) and a["val_score"] == b["val_score"]
    for name, tensor in one.best.state_dict().items():
        torch.testing.assert_close(two.best.state_dict()[name], tensor, atol=1e-4, rtol=1e-3)


@pytest.mark.slow
def test_divergence_in_two_processes_is_one_error(tmp_path: Path) -> None:
    config = TrainingConfig(epochs=9, batch_size=8, lr=1e30, clip_grad_norm=0, accelerator="cpu", devices=2)
    with pytest.raises(TrainingDiverged, match="setting 'default': the"):
        run(tmp_path, config=config)


def test_a_checkpoint_of_something_else_is_refused(tmp_path: Path) -> None:
    tensors = {"0/model/x": torch.ones(1), "1/optimizer/x/step": torch.ones(1)}
    file = write_tensors(tmp_path / "checkpoint.safetensors", tensors)
    assert read_split(file, 2) == [{"model/x": torch.ones(1)}, {"optimizer/x/step": torch.ones(1)}]
    for count, name in ((1, "1/model/x"), (2, "../../x"), (2, "0/evil/x"), (2, "x")):
        write_tensors(file, {name: torch.ones(1)})
        with pytest.raises(InputError, match=r"checkpoint.safetensors: not the checkpoint of a run of adapters \('"):
            read_split(file, count)
