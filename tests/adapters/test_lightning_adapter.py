"""Heads under Lightning's own Trainer: calibrated, validated, asked, and equal to the hub's own loop."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from adapters.context import Context
from adapters.kinds.map_classifier import MapClassifier
from adapters.lightning_adapter import FeatureDataModule
from adapters.predictions import ClassScores, Truth
from adapters.registry import load_adapter
from adapters.training.train_grid import train
from adapters.training.training_config import TrainingConfig
from core_encoder.errors import InputError
from tasks.metrics.classification import TopKAccuracy
from tests.adapters.toy import DIM, LABELS, toy_features
from tests.adapters.toy_kinds import ToyPairs, context_of

HEAD = {"dropout": 0.0, "hidden": 16, "class_weights": "balanced"}


def trainer(folder: Path, epochs: int) -> Any:
    from lightning.pytorch import Trainer

    return Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=folder,
    )


def test_the_trainer_ends_where_our_own_loop_ends(tmp_path: Path) -> None:
    train_set, val_set = toy_features(26), toy_features(13, seed=1)
    config = TrainingConfig(epochs=4, batch_size=8, lr=3e-3, accelerator="cpu")
    ours = train(
        "map_classifier", train_set, val_set, label_names=LABELS, head=HEAD, config=config, run_dir=tmp_path / "run",
        metric=lambda: TopKAccuracy(len(LABELS)),
    )  # fmt: skip
    adapter = MapClassifier.build(HEAD, Context.of_classes(DIM, LABELS), seed=0)
    module = adapter.lightning_module(lr=3e-3, metric=lambda: TopKAccuracy(len(LABELS)))
    theirs = trainer(tmp_path, 4)
    theirs.fit(module, FeatureDataModule(train_set, val_set, batch_size=8))
    last = ours.history[-1]
    assert float(theirs.callback_metrics["val_loss"]) == pytest.approx(last["val_loss"], rel=1e-4)
    assert float(theirs.callback_metrics["val_score"]) == last["val_score"]
    from core_encoder.files.storage import read_tensors

    tensors = read_tensors(tmp_path / "run" / "checkpoint.safetensors")
    for name, tensor in adapter.state_dict().items():
        torch.testing.assert_close(tensor, tensors[f"0/model/{name}"], atol=1e-5, rtol=1e-3)


def test_it_is_calibrated_before_the_first_step(tmp_path: Path) -> None:
    data = toy_features(20)
    adapter = MapClassifier.build(HEAD, Context.of_classes(DIM, LABELS))
    trainer(tmp_path, 1).fit(adapter.lightning_module(), FeatureDataModule(data, batch_size=8))
    scale = adapter.rounds[0].scale
    assert scale.mean.abs().max() > 1, "the toy's features lie around 7"
    assert not torch.equal(adapter.criterion.weight, torch.ones(3)), "balanced weights come of the class counts"


def test_predictions_and_saving(tmp_path: Path) -> None:
    data = toy_features(20)
    adapter = MapClassifier.build(HEAD, Context.of_classes(DIM, LABELS))
    module = adapter.lightning_module()
    one = trainer(tmp_path, 1)
    module_data = FeatureDataModule(data, predict_set=data, batch_size=8)
    one.fit(module, module_data)
    batches = one.predict(module, module_data)
    answers = [answer for batch in batches for answer in batch]
    assert [answer.sample_id for answer in answers] == list(data.ids)
    assert all(isinstance(answer, ClassScores) for answer in answers)
    loaded = load_adapter(adapter.save_pretrained(tmp_path / "mine"))
    again = loaded.predict(data.features, mask=data.masks, ids=data.ids, batch_size=8)
    for first, second in zip(answers, again, strict=True):
        torch.testing.assert_close(first.scores, second.scores)


def test_wrong_options_are_named() -> None:
    adapter = MapClassifier.build(HEAD, Context.of_classes(DIM, LABELS))
    with pytest.raises(InputError, match="unknown option 'lrr'; did you mean 'lr'"):
        adapter.lightning_module(lrr=1)
    with pytest.raises(InputError, match="no sample to train on"):
        FeatureDataModule([])


def test_options_of_the_trainer_are_refused() -> None:
    adapter = MapClassifier.build(HEAD, Context.of_classes(DIM, LABELS))
    for name, value in (("epochs", 9), ("accumulate", 4), ("batch_size", 3), ("devices", 2), ("patience", 1)):
        with pytest.raises(InputError, match=f"option '{name}' is for Lightning's Trainer or the data module"):
            adapter.lightning_module(**{name: value})


def test_a_loss_over_the_whole_batch_wants_one_process(tmp_path: Path) -> None:
    from lightning.pytorch import Trainer

    module = ToyPairs.build({}, context_of(ToyPairs)).lightning_module()
    module.trainer = Trainer(accelerator="cpu", devices=2, logger=False, default_root_dir=tmp_path)
    with pytest.raises(InputError, match="needs the batch of all processes, which a Trainer does not gather"):
        module.setup("fit")


class Confidence:
    """The mean probability of the true class: it sees every view that is left out or counted twice."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def update(self, predictions: Sequence[ClassScores], samples: Sequence[Truth]) -> None:
        self.seen += [float(one.scores[int(known.target)]) for one, known in zip(predictions, samples, strict=True)]

    def compute(self) -> float:
        return sum(self.seen) / len(self.seen)


@pytest.mark.slow
@pytest.mark.parametrize("views", [1, 2])
def test_the_score_of_two_processes_is_that_of_one(views: int, tmp_path: Path) -> None:
    """Five batches in two shares: a distributed sampler repeats one of them; views of one sample must all count."""
    val_set = toy_features(18, seed=1, ids=[str(i // views) for i in range(18)])
    val_set.targets = torch.arange(18) // views % len(LABELS)
    from lightning.pytorch import Trainer

    found = {}
    for devices, strategy in ((1, "auto"), (2, "ddp_spawn")):
        adapter = MapClassifier.build(HEAD, Context.of_classes(DIM, LABELS), seed=0)
        module = adapter.lightning_module(metric=Confidence)
        one = Trainer(
            accelerator="cpu", devices=devices, strategy=strategy, logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, default_root_dir=tmp_path,
        )  # fmt: skip
        one.validate(module, FeatureDataModule(toy_features(8), val_set, batch_size=4), verbose=False)
        found[devices] = float(one.callback_metrics["val_score"])
    assert found[2] == pytest.approx(found[1], abs=1e-6)
