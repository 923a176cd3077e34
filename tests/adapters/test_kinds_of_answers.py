"""One contract for all kinds of answers: each toy trains in our loop and in Lightning's, is saved, and answers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from adapters.adapter import Adapter
from adapters.features import Batch, InMemoryFeatures, digest_of
from adapters.lightning_adapter import FeatureDataModule
from adapters.predicting import answer_batch
from adapters.predictions import Prediction, Truth
from adapters.registry import load_adapter, pull, register_adapter, save_to_registry
from adapters.training.train_grid import TrainingResult, train
from adapters.training.training_config import TrainingConfig
from core_encoder.errors import InputError
from tests.adapters.toy_kinds import (
    CAPTIONS,
    KINDS,
    QUESTIONS,
    ToyBoxes,
    ToyPairs,
    ToySegments,
    ToyText,
    as_json,
    context_of,
    data_of,
    is_right,
)

CONFIG = TrainingConfig(epochs=12, batch_size=8, lr=1e-2, accelerator="cpu")
each_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)


class ShareRight:
    """A metric as a task of the kind would bring it."""

    def __init__(self) -> None:
        self.right: list[bool] = []

    def update(self, predictions: Sequence[Prediction], samples: Sequence[Truth]) -> None:
        for prediction, known in zip(predictions, samples, strict=True):
            assert prediction.sample_id == known.id
            self.right.append(is_right(prediction, known))

    def compute(self) -> float:
        return sum(self.right) / len(self.right)


def metric_of(kind: type[Adapter]) -> type[ShareRight] | None:
    """None where an answer alone is neither right nor wrong: then the validation loss decides."""
    return None if issubclass(kind, ToyPairs) else ShareRight


def run(
    folder: Path, kind: type[Adapter], config: TrainingConfig = CONFIG, count: int = 27, **more: Any
) -> TrainingResult:
    from adapters.card import AdapterInfo

    context = context_of(kind)
    info = AdapterInfo(kind.kind, {}, context.dim, context.targets, grid=context.grid)
    sets = data_of(kind, count), data_of(kind, 13, seed=1)
    return train(kind, *sets, targets=context.targets, config=config, run_dir=folder, info=info, **more)


def answers_of(adapter: Adapter, count: int = 13) -> list[Prediction]:
    return answer_batch(adapter, adapter.collate(data_of(type(adapter), count, seed=2)))


@each_kind
def test_it_learns_in_our_loop(kind: type[Adapter], tmp_path: Path) -> None:
    result = run(tmp_path, kind, metric=metric_of(kind))
    losses = [epoch["val_loss"] for epoch in result.history]
    assert losses[-1] < 0.6 * losses[0]
    assert result.score is not None and (kind is ToyPairs or result.score > 0.9)
    truths = [example.truth for example in data_of(kind, 13, seed=2)]
    texts = result.best.embed_texts(CAPTIONS) if isinstance(result.best, ToyPairs) else None
    right = [is_right(*pair, texts) for pair in zip(answers_of(result.best), truths, strict=True)]
    assert sum(right) >= 12


@each_kind
def test_accumulated_parts_are_one_batch(kind: type[Adapter], tmp_path: Path) -> None:
    if kind is ToyPairs:
        pytest.skip("each part of a contrastive batch has its own negatives")
    short = replace(CONFIG, epochs=2, batch_size=9)
    one, three = (run(tmp_path / str(n), kind, replace(short, accumulate=n)) for n in (1, 3))
    for name, tensor in one.best.saved_state().items():
        torch.testing.assert_close(three.best.saved_state()[name], tensor, atol=1e-5, rtol=1e-4)
    for a, b in zip(one.history, three.history, strict=True):
        assert a["train_loss"] == pytest.approx(b["train_loss"], abs=1e-5)


@each_kind
def test_saving_keeps_the_answers(kind: type[Adapter], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adapters.registry._registered", {})
    register_adapter(kind)
    adapter = kind.build({}, context_of(kind), seed=5).eval()
    row = save_to_registry(adapter, "toy")
    loaded = load_adapter("toy")
    assert type(loaded) is kind and loaded.context.targets == adapter.context.targets
    assert [as_json(one) for one in answers_of(loaded)] == [as_json(one) for one in answers_of(adapter)]
    again = pull(str(row.path), "again")
    assert [as_json(one) for one in answers_of(load_adapter(again.ref))] == [
        as_json(one) for one in answers_of(adapter)
    ]
    card = (row.path / "README.md").read_text()
    assert "video-classification" not in card


@each_kind
def test_answers_are_json_and_tables(kind: type[Adapter]) -> None:
    adapter = kind.build({}, context_of(kind), seed=5)
    for one, example in zip(answers_of(adapter), data_of(kind, 13, seed=2), strict=True):
        assert isinstance(one, Prediction)
        record = json.loads(as_json(one))
        assert next(iter(record)) == "id" and record["id"] == one.sample_id == example.id
        assert all(len(row) == len(one.columns) for row in one.rows(all_scores=True))


@each_kind
def test_it_trains_under_lightning(kind: type[Adapter], tmp_path: Path) -> None:
    from lightning.pytorch import Trainer

    adapter = kind.build({}, context_of(kind), seed=1)
    data = FeatureDataModule(data_of(kind, 24), data_of(kind, 8, seed=1), data_of(kind, 5, seed=2), batch_size=8)
    module = adapter.lightning_module(metric=metric_of(kind), lr=1e-2)
    trainer = Trainer(
        max_epochs=8, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.validate(module, data, verbose=False)
    before = float(trainer.callback_metrics["val_loss"])
    trainer.fit(module, data)
    assert float(trainer.callback_metrics["val_loss"]) < 0.8 * before
    assert ("val_score" in trainer.callback_metrics) == (kind is not ToyPairs)
    predicted = [one for part in trainer.predict(module, data) for one in part]
    assert [one.sample_id for one in predicted] == [example.id for example in data_of(kind, 5, seed=2)]


@pytest.mark.slow
@each_kind
def test_two_processes_end_like_one(kind: type[Adapter], tmp_path: Path) -> None:
    """A contrastive loss sees the rows of both; other losses count by their weight, which differs between the two."""
    short = replace(CONFIG, epochs=2, batch_size=8)
    count = 24 if kind is ToyPairs else 27  # even shares leave out what cannot be shared
    one, two = (run(tmp_path / str(n), kind, replace(short, devices=n), count, metric=metric_of(kind)) for n in (1, 2))
    for name, tensor in one.best.saved_state().items():
        torch.testing.assert_close(two.best.saved_state()[name], tensor, atol=1e-4, rtol=1e-3)
    for a, b in zip(one.history, two.history, strict=True):
        assert a["train_loss"] == pytest.approx(b["train_loss"], abs=1e-4)
        assert a["val_score"] == pytest.approx(b["val_score"], abs=1e-4)


def test_windows_that_differ_in_number_go_into_one_batch() -> None:
    adapter = ToySegments.build({}, context_of(ToySegments))
    batch = adapter.collate(data_of(ToySegments, 8))
    assert batch.features.shape[:2] == (8, 6) and batch.mask.sum(1).tolist() == [3, 4, 5, 6] * 2
    more, none = torch.full((8, 2, 8), 9.0), torch.zeros(8, 2, dtype=torch.bool)
    features, mask = torch.cat([batch.features, more], 1), torch.cat([batch.mask, none], 1)
    longer = Batch(features, mask, batch.targets, batch.ids, times=batch.times)
    assert [as_json(one) for one in answer_batch(adapter, longer)] == [
        as_json(one) for one in answer_batch(adapter, batch)
    ]
    assert adapter.loss(longer).value == adapter.loss(batch).value and adapter.loss(batch).weight == 36


def test_the_loss_weighs_boxes_not_videos() -> None:
    adapter = ToyBoxes.build({}, context_of(ToyBoxes), seed=2)
    examples = data_of(ToyBoxes, 6)
    whole = adapter.loss(adapter.collate(examples))
    parts = [adapter.loss(adapter.collate(examples[i : i + 2])) for i in (0, 2, 4)]
    assert whole.weight == sum(part.weight for part in parts) == 8
    mean = sum(part.value * part.weight for part in parts) / whole.weight
    torch.testing.assert_close(mean, whole.value)


def test_boxes_need_the_grid_they_were_trained_on() -> None:
    adapter = ToyBoxes.build({}, replace(context_of(ToyBoxes), grid=(3, 3)))
    with pytest.raises(InputError, match="6 patches do not form a grid of 3 x 3"):
        answers_of(adapter)


def test_only_what_is_trained_is_saved_and_the_frozen_part_comes_from_its_own_files(tmp_path: Path) -> None:
    adapter = ToyText.build({}, context_of(ToyText), seed=5)
    assert "words.weight" not in adapter.saved_names() and "video.weight" in adapter.saved_names()
    torch.nn.init.normal_(adapter.words.weight)  # not what a seed gives: it must come from the asset
    folder = adapter.save_pretrained(tmp_path / "mine")
    assert sorted(adapter.info.assets) == ["lora/words.safetensors", "tokenizer.json"]
    loaded = ToyText.from_folder(folder)
    assert torch.equal(loaded.words.weight, adapter.words.weight)
    assert loaded.saved_names() == adapter.saved_names()
    before = loaded.words.weight.clone()
    trained = run(tmp_path / "run", ToyText).best
    assert "words.weight" not in trained.saved_state() and not torch.equal(before, trained.words.weight)


@pytest.mark.parametrize("change", ["altered", "missing", "listed twice"])
def test_a_changed_asset_is_refused(change: str, tmp_path: Path) -> None:
    folder = ToyText.build({}, context_of(ToyText)).save_pretrained(tmp_path / "mine")
    file, config = folder / "tokenizer.json", folder / "adapter_config.json"
    if change == "altered":
        file.write_text(file.read_text().replace("cat", "cow"))
        says = "tokenizer.json: not the file that was saved"
    elif change == "missing":
        file.unlink()
        says = "tokenizer.json: missing, though adapter_config.json lists it"
    else:
        config.write_text(config.read_text().replace('"tokenizer.json"', '"../tokenizer.json"'))
        says = "asset"
    with pytest.raises(InputError, match=says):
        ToyText.from_folder(folder)


def test_assets_that_could_be_run_are_refused(tmp_path: Path) -> None:
    class Runs(ToyText):
        kind = "toy_runs"

        def write_assets(self, folder: Path) -> None:
            (folder / "model.py").write_text("print()")

    with pytest.raises(InputError, match=r"asset 'model.py' is not allowed; assets end in \.safetensors"):
        Runs.build({}, context_of(ToyText)).save_pretrained(tmp_path / "mine")
    assert not (tmp_path / "mine").exists()


def test_an_interrupted_run_of_a_frozen_model_goes_on(tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    def stop(now: Any) -> None:
        if now.step == 20:
            raise Stop

    calm = run(tmp_path / "calm", ToyText)
    with pytest.raises(Stop):
        run(tmp_path / "run", ToyText, replace(CONFIG, checkpoint_every_s=0.0), progress=stop)
    again = run(tmp_path / "run", ToyText)
    for name, tensor in calm.best.saved_state().items():
        assert torch.equal(again.best.saved_state()[name], tensor), name


def test_targets_of_another_kind_are_refused() -> None:
    with pytest.raises(InputError, match="adapter 'toy_boxes' learns boxes, but the task has text"):
        ToyBoxes.build({}, context_of(ToyText))


def test_windows_are_not_joined_unless_the_kind_says_how() -> None:
    adapter = ToyText.build({}, context_of(ToyText))
    (one,) = answers_of(adapter, 1)
    assert adapter.merge([one], [None]) is one
    with pytest.raises(InputError, match="'toy_text' does not join the answers of several views"):
        adapter.merge([one, one], [None, None])


def test_what_is_given_beside_a_video_reaches_the_head(tmp_path: Path) -> None:
    adapter = run(tmp_path, ToyText).best
    examples = data_of(ToyText, 4, seed=2)
    features = torch.stack([example.features for example in examples])
    for asked, words in zip(QUESTIONS, (["cat", "dog", "cat", "dog"], ["runs", "runs", "sits", "sits"]), strict=True):
        assert [one.text for one in adapter.predict(features, given={"question": asked})] == words
    each = [{"question": QUESTIONS[place % 2]} for place in range(4)]
    assert [one.text for one in adapter.predict(features, given=each, batch_size=3)] == ["cat", "runs", "cat", "sits"]
    with pytest.raises(InputError, match="4 samples, 4 ids and 3 givens must be equally many"):
        adapter.predict(features, given=each[:3])
    with pytest.raises(InputError, match=r"the adapter wants 'question' beside each video: give it, as in predict\("):
        adapter.predict(features)


def test_lists_of_targets_have_digests() -> None:
    assert digest_of(data_of(ToySegments, 4)) != digest_of(data_of(ToySegments, 4, seed=1))


class Tied(ToyText):
    """The frozen table of words is tied to an output layer, and a trainable layer to itself: two names each."""

    kind = "toy_tied"

    def __init__(self, config: Any, context: Any) -> None:
        super().__init__(config, context)
        self.output = torch.nn.Linear(6, len(self.vocabulary), bias=False)
        self.output.weight = self.words.weight
        self.again = self.video


def test_tied_weights_are_saved_once_or_not_at_all(tmp_path: Path) -> None:
    trained = run(tmp_path / "run", Tied, replace(CONFIG, epochs=2)).best
    assert {name.partition(".")[0] for name in trained.saved_state()} == {"video", "both", "questions"}
    loaded = Tied.from_folder(trained.save_pretrained(tmp_path / "mine"))
    assert loaded.output.weight is loaded.words.weight and loaded.again.weight is loaded.video.weight  # type: ignore[attr-defined]
    assert [as_json(one) for one in answers_of(loaded)] == [as_json(one) for one in answers_of(trained)]


class OwnWords(ToyText):
    """Learns its vocabulary from the training set, and keeps it in its assets."""

    kind = "toy_own_words"
    found: tuple[str, ...] = ()

    def calibrate(self, dataset: Any) -> None:
        self.found = tuple(sorted({example.target for example in dataset}))

    def write_assets(self, folder: Path) -> None:
        super().write_assets(folder)
        (folder / "found.txt").write_text(" ".join(self.found))


def test_what_calibration_learns_is_there_at_the_end_and_when_read_back(tmp_path: Path) -> None:
    for _ in range(2):  # trained, then read back
        best = run(tmp_path / "run", OwnWords, replace(CONFIG, epochs=1)).best
        assert best.found == ("cat", "dog", "runs", "sits")  # type: ignore[attr-defined]


class Spare(ToyText):
    """Has a parameter that no loss uses."""

    kind = "toy_spare"

    def __init__(self, config: Any, context: Any) -> None:
        super().__init__(config, context)
        self.spare = torch.nn.Parameter(torch.ones(3))


@pytest.mark.slow
def test_a_parameter_that_the_loss_does_not_use_trains_on_two_devices_too(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    best = run(tmp_path / "run", Spare, replace(CONFIG, epochs=1, devices=2)).best
    assert torch.equal(best.spare, torch.ones(3))  # type: ignore[arg-type]
    run(tmp_path / "other", ToyText, replace(CONFIG, epochs=1, devices=2))
    assert "find_unused_parameters" not in capfd.readouterr().err


def test_a_head_with_nothing_to_train_is_one_line(tmp_path: Path) -> None:
    class Frozen(ToyText):
        kind = "toy_frozen"

        def __init__(self, config: Any, context: Any) -> None:
            super().__init__(config, context)
            self.requires_grad_(False)

    with pytest.raises(InputError, match="adapter 'toy_frozen' has no parameter to train"):
        run(tmp_path, Frozen)


def test_other_questions_are_another_data_set(tmp_path: Path) -> None:
    x, y = torch.zeros(2, 4), [0, 1]
    one, two = (InMemoryFeatures(x, y, inputs={"boxes": [torch.tensor([1.0]), b]}) for b in (torch.tensor([2.0]), None))
    assert digest_of(one) != digest_of(two) != digest_of(InMemoryFeatures(x, y))
    examples = data_of(ToyText, 2)
    asked = [replace(example, inputs={"question": "which animal"}) for example in examples]
    again = [replace(example, inputs={"question": "what does it do"}) for example in examples]
    assert digest_of(asked) != digest_of(again)
