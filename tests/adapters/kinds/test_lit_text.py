"""`lit_text`: it learns, on every way of tuning, what is saved of it, and which pairs are no negatives."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from adapters import load_adapter
from adapters.adapter import Adapter
from adapters.card import AdapterInfo
from adapters.context import Context, TargetSchema
from adapters.features import Batch, InMemoryFeatures, read_batch
from adapters.kinds.lit_text import LitText
from adapters.lightning_adapter import FeatureDataModule
from adapters.predicting import answer_batch
from adapters.predictions import ClassScores, Embedding, mean_embedding
from adapters.registry import save_to_registry
from adapters.training.candidate import build_optimizer, learning_rate
from adapters.training.train_grid import TrainingResult, train
from adapters.training.training_config import TrainingConfig
from core_encoder.errors import InputError
from tasks.metrics.retrieval import RetrievalMetric
from tests.text_models import minilm, tiny_bert

DIM, FRAMES, PATCHES = 16, 3, 4
WORDS = ("red circle", "blue star", "green bar", "white ring", "orange cross", "purple heart")
CONFIG = TrainingConfig(epochs=12, batch_size=12, lr=3e-3, accelerator="cpu")
TUNES = ("tower", "lora", "projection")
each_tune = pytest.mark.parametrize("tune", TUNES)


def pairs_of(count: int, seed: int = 0, several: bool = False) -> InMemoryFeatures:
    """One token of each clip shows which object its caption names; the last frame of every second clip is padding."""
    shown = 4 * torch.randn(len(WORDS), DIM, generator=torch.Generator().manual_seed(99))
    source = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % len(WORDS)
    tokens = torch.randn(count, FRAMES, PATCHES, DIM, generator=source)
    tokens[torch.arange(count), 1, labels % PATCHES] += shown[labels]
    masks = torch.ones(count, FRAMES, dtype=torch.bool)
    masks[::2, -1] = False
    captions = [
        (f"a {WORDS[k]}", *([f"there is a {WORDS[k]}"] if several and i % 2 else ())) for i, k in enumerate(labels)
    ]
    ids = [f"{seed}-{k}" for k in range(count)]
    return InMemoryFeatures(tokens.half(), captions, masks, ids, {"captions": captions})


def built(seed: int = 1, **head: Any) -> LitText:
    adapter = LitText.build({"text_tower": "nano"} | head, Context(DIM, TargetSchema("pairs")), seed=seed)
    adapter.calibrate(pairs_of(24))
    return adapter.eval()


def run(folder: Path, config: TrainingConfig = CONFIG, count: int = 48, **head: Any) -> TrainingResult:
    """The validation loss decides."""
    return train(
        "lit_text",
        pairs_of(count),
        pairs_of(len(WORDS), seed=1),
        targets=TargetSchema("pairs"),
        head={"text_tower": "nano", "hidden": 24} | head,
        config=config,
        run_dir=folder,
    )


def batch_of(count: int = 8, seed: int = 2, **options: Any) -> Batch:
    return read_batch(pairs_of(count, seed, **options), range(count))


def vectors(adapter: Adapter, batch: Batch) -> Tensor:
    return torch.stack([one.values for one in answer_batch(adapter, batch)])


@pytest.mark.parametrize(
    "head",
    [
        {"tune": "tower"},
        {"tune": "projection"},
        pytest.param({"tune": "lora"}, marks=pytest.mark.slow),
        pytest.param({"loss": "sigmoid"}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_it_learns_and_the_saved_adapter_answers_alike(head: dict[str, Any], tmp_path: Path) -> None:
    result = run(tmp_path / "run", **head)
    losses = [epoch["val_loss"] for epoch in result.history]
    assert losses[-1] < 0.5 * losses[0]
    save_to_registry(result.best, "pairs")
    loaded = load_adapter("pairs")
    assert isinstance(loaded, LitText) and torch.equal(vectors(loaded, batch_of()), vectors(result.best, batch_of()))
    texts = ["a red circle", "something else entirely"]
    assert torch.equal(loaded.embed_text(texts), result.best.embed_text(texts))
    assert loaded.embed_text([]).shape == (0, loaded.embed_text(texts).shape[1])
    found = loaded.embed_text([f"a {word}" for word in WORDS]) @ vectors(loaded, batch_of(12, seed=3)).T  # (6, 12)
    assert (found.argmax(0) == torch.arange(12) % len(WORDS)).float().mean() > 0.8


def test_the_real_minilm_learns_by_its_projection_alone(tmp_path: Path) -> None:
    result = run(tmp_path / "run", text_tower=str(minilm()), tune="projection", width=32)
    assert result.history[-1]["val_loss"] < 0.5 * result.history[0]["val_loss"]
    folder = result.best.save_pretrained(tmp_path / "mine")
    assert (folder / "adapter_model.safetensors").stat().st_size < 1_000_000  # the tower of 91 MB is not in it
    assert torch.equal(LitText.from_folder(folder).embed_text(WORDS), result.best.embed_text(WORDS))


@each_tune
def test_what_trains_and_what_is_saved(tune: str, tmp_path: Path) -> None:
    adapter = built(tune=tune)
    before = {name: tensor.clone() for name, tensor in adapter.tower.state_dict().items()}
    trainable = {name for name, one in adapter.named_parameters() if one.requires_grad and name.startswith("tower.")}
    loss = adapter.train().loss(batch_of())
    loss.value.backward()
    for name, parameter in adapter.named_parameters():
        assert (parameter.grad is not None) == (not name.startswith("tower.") or name in trainable), name
    optimizer = build_optimizer(adapter, CONFIG)
    rates = {id(one): group["lr"] for group in optimizer.param_groups for one in group["params"]}
    slow = {name for name, one in adapter.named_parameters() if rates.get(id(one)) == pytest.approx(0.1 * CONFIG.lr)}
    optimizer.step()
    changed = {name for name, tensor in adapter.tower.state_dict().items() if not torch.equal(tensor, before[name])}
    folder = adapter.save_pretrained(tmp_path / "mine")
    assets = set(adapter.info.assets)
    if tune == "tower":
        assert slow == trainable and len(trainable) == 28 and changed
        assert assets == {"text_tower.json", "text_tower/text_encoder.json", "text_tower/tokenizer.json"}
    elif tune == "lora":
        assert not slow and changed and all(".lora_" in name for name in trainable | changed)
        assert assets >= {"text_tower.json", "lora/adapter_config.json", "lora/adapter_model.safetensors"}
        assert adapter.names_in_assets() == trainable
    else:
        assert not trainable and not changed and assets == {"text_tower.json"}
    known = json.loads((folder / "text_tower.json").read_text())
    assert known["source"] == "nano" and len(known["fingerprint"]) == 64
    assert "NaN" not in (folder / "README.md").read_text()


def test_lora_is_read_by_peft(tmp_path: Path) -> None:
    from peft import PeftModel

    from core_encoder.text_encoder import load_text_encoder

    adapter = built(tune="lora", lora_rank=3)
    with torch.no_grad():
        for name, parameter in adapter.named_parameters():
            if ".lora_B" in name:
                parameter.normal_(std=0.1)
    folder = adapter.save_pretrained(tmp_path / "mine")
    tower = load_text_encoder("nano").eval()
    without = tower(["a red circle"])
    tower.model = PeftModel.from_pretrained(tower.model, str(folder / "lora"))
    with torch.no_grad():
        torch.testing.assert_close(tower(["a red circle"]), adapter.tower(["a red circle"]))
        assert not torch.allclose(tower(["a red circle"]), without)


def test_order_padding_and_precision_do_not_matter() -> None:
    adapter, batch = built(), batch_of()
    expected = vectors(adapter, batch)
    order = torch.arange(8).flip(0)
    turned = Batch(batch.features[order], batch.mask[order], None, [batch.ids[k] for k in order])
    torch.testing.assert_close(vectors(adapter, turned), expected[order], atol=1e-6, rtol=0)
    spoiled = batch.features.clone()
    spoiled[~batch.mask] = 900.0
    assert torch.equal(vectors(adapter, Batch(spoiled, batch.mask, None, batch.ids)), expected)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(vectors(adapter, batch), expected, atol=0.03, rtol=0)
    texts = ["a red circle", "a very much longer text about a blue star and other things"]
    torch.testing.assert_close(adapter.embed_text(texts)[:1], adapter.embed_text(texts[:1]), atol=1e-6, rtol=0)
    assert torch.allclose(expected.norm(dim=1), torch.ones(8)) and torch.allclose(
        adapter.embed_text(texts).norm(dim=1), torch.ones(2)
    )
    assert torch.equal(adapter.embed_video(batch.features, batch.mask), expected)


def test_equal_captions_are_no_negatives() -> None:
    """Were they, the least loss of two clips of one caption would be log 2; a text in other letters counts as equal."""
    adapter, whole = built(), batch_of(2)
    batch = Batch(whole.features, whole.mask, [("a cat",), ("A cat!",)], whole.ids)
    assert adapter.loss(batch).value.item() < 1e-6
    several = Batch(whole.features, whole.mask, [("a cat", "a pet"), ("a pet",)], whole.ids)
    other = Batch(whole.features, whole.mask, [("a cat",), ("a pet",)], whole.ids)
    assert 0 < adapter.loss(several).value.item() < adapter.loss(other).value.item()


def test_a_step_draws_one_of_several_captions() -> None:
    adapter = built(tune="projection").train()
    batch = batch_of(4)
    torch.manual_seed(0)
    batch.targets = [("a cat", "a red circle"), ("a green bar",), ("a white ring",), ("a dog",)]
    values = {round(adapter.loss(batch).value.item(), 5) for _ in range(20)}
    assert len(values) == 2  # the first has two captions
    assert len({adapter.eval().loss(batch).value.item() for _ in range(5)}) == 1


def test_answers_bring_the_vectors_of_captions_and_choose_among_candidates() -> None:
    adapter, batch = built(), batch_of(5, several=True)
    answers = [one for one in answer_batch(adapter, batch) if isinstance(one, Embedding)]
    assert [len(one.texts) for one in answers if one.texts is not None] == [1, 2, 1, 2, 1]
    torch.testing.assert_close(answers[1].texts, adapter.embed_text(batch.inputs["captions"][1]), atol=1e-6, rtol=0)
    candidates = [("a cat", "a dog")] * 4 + [("a cat", "a dog", "a bird")]
    batch.inputs["candidates"] = candidates
    for scores, embedding, texts in zip(answer_batch(adapter, batch), answers, candidates, strict=True):
        assert isinstance(scores, ClassScores) and scores.label_names == texts
        logits = 10 * adapter.embed_text(texts) @ embedding.values
        torch.testing.assert_close(scores.scores, logits.softmax(0), atol=1e-5, rtol=0)
    batch.inputs["candidates"] = [("a cat",)] * 5
    alone = answer_batch(adapter, batch)  # benchmarks have questions with one option
    assert all(isinstance(one, ClassScores) and one.scores.tolist() == [1.0] for one in alone)
    for wrong in ((), ("a cat", "a cat")):
        batch.inputs["candidates"] = [wrong] * 5
        with pytest.raises(InputError, match="candidates must be different texts"):
            answer_batch(adapter, batch)


def test_views_become_one_unit_vector() -> None:
    views = [Embedding("a", torch.tensor([1.0, 0.0])), Embedding("a", torch.tensor([0.0, 1.0]))]
    assert torch.allclose(mean_embedding(views).values, torch.tensor([0.5, 0.5]).sqrt())
    assert isinstance(built().merge(views, [None, None]), Embedding)
    scores = [
        ClassScores("a", torch.tensor([1.0, 0.0]), ("x", "y")),
        ClassScores("a", torch.tensor([0.0, 1.0]), ("x", "y")),
    ]
    assert built().merge(scores, [None, None]).scores.tolist() == [0.5, 0.5]  # type: ignore[attr-defined]


def test_the_scale_begins_and_ends_where_it_should() -> None:
    assert float(built().similarity_scale.detach()) == pytest.approx(10)
    adapter = built(scale=1 / 0.07)
    assert float(adapter.similarity_scale.detach()) == pytest.approx(14.2857, abs=1e-3)
    with torch.no_grad():
        adapter.log_scale.fill_(9.0)
    adapter.train().loss(batch_of())
    assert float(adapter.log_scale.detach().exp()) == pytest.approx(100)  # and it can come back from there
    assert float(built(loss="sigmoid").bias.detach()) == -10  # type: ignore[union-attr]


def test_the_warm_up_is_long_enough() -> None:
    """The larger of 3 % and 100 steps, but never more than half of all."""

    def steps_of(total: int, config: TrainingConfig = CONFIG, kind: type[Adapter] = LitText) -> int:
        rates = [learning_rate(config, step, total, kind) for step in range(total)]
        return rates.index(max(rates))

    assert (steps_of(1000), steps_of(60), steps_of(10_000)) == (99, 29, 299)
    assert steps_of(10_000, replace(CONFIG, warmup_fraction=0.05)) == 499
    assert steps_of(1000, kind=Adapter) == 49


def test_a_killed_run_ends_like_one_that_was_not(tmp_path: Path) -> None:
    short = replace(CONFIG, epochs=3, checkpoint_every_s=0)
    whole = run(tmp_path / "whole", short, tune="lora").best
    seen = 0

    def stop(now: Any) -> None:
        nonlocal seen
        seen += 1
        if seen == 7:
            raise KeyboardInterrupt

    again: dict[str, Any] = {
        "targets": TargetSchema("pairs"),
        "head": {"text_tower": "nano", "hidden": 24, "tune": "lora"},
        "config": short,
        "run_dir": tmp_path / "cut",
    }
    with pytest.raises(KeyboardInterrupt):
        train("lit_text", pairs_of(48), pairs_of(6, seed=1), progress=stop, **again)
    continued = train("lit_text", pairs_of(48), pairs_of(6, seed=1), **again).best
    for name, tensor in whole.saved_state().items():
        assert torch.equal(continued.saved_state()[name], tensor), name


@pytest.mark.slow
def test_two_processes_end_like_one(tmp_path: Path) -> None:
    short = replace(CONFIG, epochs=2, batch_size=12)
    one, two = (run(tmp_path / str(n), replace(short, devices=n)) for n in (1, 2))
    for name, tensor in one.best.saved_state().items():
        torch.testing.assert_close(two.best.saved_state()[name], tensor, atol=1e-4, rtol=1e-3)
    for a, b in zip(one.history, two.history, strict=True):
        assert a["train_loss"] == pytest.approx(b["train_loss"], abs=1e-4)


def test_it_trains_under_lightning(tmp_path: Path) -> None:
    from lightning.pytorch import Trainer

    adapter = LitText.build({"text_tower": "nano", "tune": "projection"}, Context(DIM, TargetSchema("pairs")), seed=1)
    data = FeatureDataModule(pairs_of(48), pairs_of(6, seed=1), batch_size=12)
    module = adapter.lightning_module(metric=lambda: RetrievalMetric("t2v_r1"), lr=3e-3)
    trainer = Trainer(
        max_epochs=8, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.fit(module, data)
    assert float(trainer.callback_metrics["val_score"]) > 0.6


def test_a_tower_that_does_not_train_is_checked_when_it_is_loaded(tmp_path: Path) -> None:
    bert = tiny_bert(tmp_path / "bert")
    folder = built(text_tower=str(bert), tune="projection").save_pretrained(tmp_path / "mine")
    assert LitText.from_folder(folder).tower.dim == 16
    bert.rename(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="no such file or folder; say where it lies now with text_tower"):
        LitText.from_folder(folder)
    moved = {"text_tower": str(tmp_path / "elsewhere")}
    assert LitText.from_folder(folder, moved).tower.dim == load_adapter(folder, moved=moved).tower.dim == 16
    assert load_adapter(folder, moved=moved).info.config["text_tower"] == str(bert), "what is recorded stays"
    with pytest.raises(InputError, match="unknown option 'text_towr'; did you mean 'text_tower'"):
        load_adapter(folder, moved={"text_towr": "nano"})
    tiny_bert(tmp_path / "bert", seed=1)
    with pytest.raises(InputError, match="is not the one that the adapter was trained with"):
        LitText.from_folder(folder)
    tuned = built(text_tower=str(tmp_path / "elsewhere")).save_pretrained(tmp_path / "tuned")
    (tmp_path / "elsewhere").rename(tmp_path / "gone")
    assert LitText.from_folder(tuned).embed_text(["a"]).shape == (1, 16)  # a tuned one is whole


def test_the_encoder_brings_its_own_tower(tmp_path: Path) -> None:
    result = train(
        "lit_text",
        pairs_of(24),
        targets=TargetSchema("pairs"),
        head={"tune": "projection"},
        config=replace(CONFIG, epochs=1),
        run_dir=tmp_path,
        info=AdapterInfo(encoder_source="nano"),
    )
    assert isinstance(result.best, LitText) and result.best.began_as["source"] == "nano"


@pytest.mark.parametrize(
    ("head", "message"),
    [
        ({"text_tower": None}, "lit_text needs a text tower: name an encoder, folder or Hub id with text_tower"),
        ({"text_tower": "nanno"}, "did you mean 'nano'.*; name another with text_tower"),
        ({"tune": "everything"}, "option 'tune' cannot be 'everything'"),
        ({"loss": "hinge"}, "option 'loss' cannot be 'hinge'"),
        ({"scale": 101}, "scale must be at most 100"),
        ({"width": 0}, "width must be at least 1"),
        ({"tower_rate": 0}, "tower_rate must be above 0"),
        ({"heads": 5}, "heads 5 do not divide the hidden width 16"),
        ({"dropout": 1}, "dropout must be at least 0 and below 1"),
        ({"tun": "lora"}, "unknown option 'tun'; did you mean 'tune'"),
    ],
)
def test_options_that_make_no_sense(head: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        built(**head)


def test_features_and_targets_that_do_not_fit() -> None:
    adapter = built()
    with pytest.raises(InputError, match=r"lit_text wants features \(B, T, N, 16\), not \(2, 3, 16\)"):
        adapter.embed_video(torch.zeros(2, 3, 16))
    with pytest.raises(ValueError, match="give a list of texts"):
        adapter.embed_text("a cat")
    for target in ((), ("",), ("a", " "), 3, None):
        with pytest.raises(InputError, match="a target of lit_text is a caption or several, none of them empty"):
            adapter.calibrate(InMemoryFeatures(torch.zeros(1, 3, 4, DIM), [target]))
    with pytest.raises(InputError, match="have width 8, not 16"):
        adapter.calibrate(InMemoryFeatures(torch.zeros(1, 3, 4, 8), [("a",)]))
    with pytest.raises(InputError, match="hold NaN or infinity"):
        adapter.calibrate(InMemoryFeatures(torch.full((1, 3, 4, DIM), torch.nan), [("a",)]))
    with pytest.raises(InputError, match="learns pairs, but the task has classes"):
        LitText.build({"text_tower": "nano"}, Context.of_classes(DIM, ("a", "b")))
