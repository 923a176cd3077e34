"""`llm_decoder`: it learns captions and answers, what is saved of it, and what it refuses."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from adapters import load_adapter
from adapters.adapter import Adapter
from adapters.context import Context, TargetSchema
from adapters.features import Batch, InMemoryFeatures, read_batch
from adapters.kinds.llm_decoder import LlmDecoder
from adapters.lightning_adapter import FeatureDataModule
from adapters.predicting import answer_batch
from adapters.predictions import Text, likeliest_text
from adapters.registry import save_to_registry
from adapters.training.train_grid import TrainingResult, train
from adapters.training.training_config import TrainingConfig
from core_encoder.clip_plan import ClipPlan
from core_encoder.errors import InputError
from core_encoder.features.feature_spec import FeatureSpec
from core_encoder.preprocessing import Preprocessing
from tests.language_models import taught_llm, tiny_llm

DIM, FRAMES, PATCHES = 16, 3, 4
COLOURS, SHAPES = ("red", "blue", "green", "white"), ("circle", "star", "bar")
CONFIG = TrainingConfig(epochs=20, batch_size=12, lr=1e-2, accelerator="cpu")
QUESTIONS = ("", "what object is it ?", "what way is it moving ?")


def texts_of(count: int, seed: int = 0, questions: bool = False) -> InMemoryFeatures:
    """The tokens of a clip show its colour and its shape; every second example, of each thing, may be a question."""
    colours, shapes = torch.randn(7, DIM, generator=torch.Generator().manual_seed(99)).split([4, 3])
    source = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 12
    tokens = torch.randn(count, FRAMES, PATCHES, DIM, generator=source)
    tokens += (colours[labels % 4] + shapes[labels // 4])[:, None, None]
    masks = torch.ones(count, FRAMES, dtype=torch.bool)
    masks[::2, -1] = False
    things = [(COLOURS[k % 4], SHAPES[k // 4]) for k in labels.tolist()]
    asked = [QUESTIONS[1] if questions and (i + i // 12) % 2 else "" for i in range(count)]
    said = [(shape,) if q else (f"a {colour} {shape}",) for q, (colour, shape) in zip(asked, things, strict=True)]
    return InMemoryFeatures(tokens.half(), said, masks, [f"{seed}-{k}" for k in range(count)], {"question": asked})


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny language model with a chat template that can be led; read only."""
    return str(taught_llm(tmp_path_factory.mktemp("llms") / "tiny"))


def built(llm: str, questions: bool = False, **head: Any) -> LlmDecoder:
    adapter = LlmDecoder.build({"llm": llm} | head, Context(DIM, TargetSchema("text")), seed=1)
    adapter.calibrate(texts_of(24, questions=questions))
    return adapter.eval()


def run(
    folder: Path, llm: str, config: TrainingConfig = CONFIG, questions: bool = False, count: int = 48, **head: Any
) -> TrainingResult:
    """The validation loss decides."""
    sets = texts_of(count, questions=questions), texts_of(12, seed=1, questions=questions)
    options = {"llm": llm, "max_new_tokens": 6} | head
    return train("llm_decoder", *sets, targets=TargetSchema("text"), head=options, config=config, run_dir=folder)


def batch_of(count: int = 8, seed: int = 2, **options: Any) -> Batch:
    return read_batch(texts_of(count, seed, **options), range(count))


def said(adapter: Adapter, batch: Batch) -> list[Text]:
    return [one for one in answer_batch(adapter, batch) if isinstance(one, Text)]


@pytest.mark.parametrize(
    ("head", "least"),  # of twelve; by chance one is right
    [
        ({"bridge": "resampler", "heads": 2}, 11),
        pytest.param({"bridge": "pool"}, 5, marks=pytest.mark.slow),
        pytest.param({"bridge": "pool", "tune": "lora"}, 8, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_it_learns_and_the_saved_adapter_answers_alike(
    head: dict[str, Any], least: int, llm: str, tmp_path: Path
) -> None:
    count = 48 if head["bridge"] == "resampler" else 96  # pooled cells mix what they see: they need more examples
    result = run(tmp_path / "run", llm, count=count, **head)
    losses = [epoch["val_loss"] for epoch in result.history]
    assert min(losses) < 0.5 * losses[0]
    save_to_registry(result.best, "words")
    loaded, batch = load_adapter("words"), batch_of(12)
    assert isinstance(loaded, LlmDecoder) and said(loaded, batch) == said(result.best, batch)
    answers = said(loaded, batch)
    right = [one.text == target[0] for one, target in zip(answers, batch.targets, strict=True)]
    assert sum(right) >= least, [one.text for one in answers]
    blind = run(tmp_path / "blind", llm, replace(CONFIG, epochs=6), count=count, blind=True, **head)
    assert len({one.text for one in said(blind.best, batch)}) == 1
    assert min(losses) < 0.5 * min(epoch["val_loss"] for epoch in blind.history)


def test_one_adapter_learns_captions_and_answers(llm: str, tmp_path: Path) -> None:
    best = run(tmp_path / "run", llm, questions=True).best
    batch = batch_of(12, questions=True)
    answers = said(best, batch)
    assert [one.question for one in answers] == batch.inputs["question"]
    assert sum(one.text == target[0] for one, target in zip(answers, batch.targets, strict=True)) >= 9
    features = best.predict(batch.features, mask=batch.mask, given={"question": QUESTIONS[1]})
    assert {one.text for one in features} <= {*SHAPES, *COLOURS, *(f"a {c} {s}" for c in COLOURS for s in SHAPES)}
    plain = best.predict(batch.features[:1], mask=batch.mask[:1])[0]
    assert list(plain.describe()) == ["id", "caption", "log_likelihood"]


def test_what_trains_and_what_is_saved(llm: str, tmp_path: Path) -> None:
    for tune in ("bridge", "lora"):
        adapter = built(llm, tune=tune)
        adapter.train().loss(batch_of()).value.backward()
        assert not adapter.llm.training
        for name, parameter in adapter.named_parameters():
            trains = name.startswith("bridge.") or ".lora_" in name
            assert parameter.requires_grad == trains and (parameter.grad is not None) == trains, name
        folder = adapter.save_pretrained(tmp_path / tune)
        lora = {"lora/README.md", "lora/adapter_config.json", "lora/adapter_model.safetensors"}
        assert set(adapter.info.assets) == {"language_model.json"} | (lora if tune == "lora" else set())
        known = json.loads((folder / "language_model.json").read_text())
        assert known["llm"] == Path(llm).name and len(known["fingerprint"]) == 64 and known["width"] == 32
        tensors = sum(one.numel() for one in adapter.bridge.state_dict().values())
        assert (folder / "adapter_model.safetensors").stat().st_size < 4 * tensors + 4000  # nothing but the bridge


def test_the_loss_of_the_words_is_added_in_training_alone(llm: str, tmp_path: Path) -> None:
    batch = batch_of(questions=True)
    with_words, without = built(llm, questions=True, word_loss=0.5), built(llm, questions=True, word_loss=0.0)
    assert with_words.saved_names() == without.saved_names()
    plain = float(without.train().loss(batch).value)
    assert float(with_words.loss(batch).value) == pytest.approx(plain, abs=1e-5), "in evaluation mode"
    assert with_words.word_loss is not None and without.word_loss is None
    assert built(llm, blind=True, word_loss=0.5).word_loss is None
    ids = [with_words.prompts.answer_ids(target[0])[:-1] for target in batch.targets]
    with torch.no_grad():
        words = with_words.word_loss(*with_words(batch.features, batch.mask), ids).sum()
    count = sum(len(one) + 1 for one in ids)
    assert float(with_words.train().loss(batch).value) == pytest.approx(plain + 0.5 * float(words) / count, abs=1e-4)
    loaded = LlmDecoder.from_folder(with_words.save_pretrained(tmp_path / "mine"))
    assert said(loaded, batch) == said(with_words.eval(), batch)


def test_lora_is_read_by_peft(llm: str, tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    adapter = built(llm, tune="lora", lora_rank=3)
    with torch.no_grad():
        for name, parameter in adapter.named_parameters():
            if ".lora_B" in name:
                parameter.normal_(std=0.1)
    folder = adapter.save_pretrained(tmp_path / "mine")
    plain, ids = AutoModelForCausalLM.from_pretrained(llm), torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        without = plain(ids).logits
        by_peft = PeftModel.from_pretrained(plain, str(folder / "lora"))(ids).logits
        torch.testing.assert_close(by_peft, adapter.llm.model(ids).logits)
    assert not torch.allclose(by_peft, without)


@pytest.mark.parametrize("bridge", ["pool", "resampler"])
def test_order_padding_and_precision_do_not_matter(bridge: str, llm: str) -> None:
    adapter, batch = built(llm, bridge=bridge), batch_of(questions=True)
    expected, loss = said(adapter, batch), adapter.loss(batch)
    order = list(reversed(range(8)))
    inputs = {"question": [batch.inputs["question"][k] for k in order]}
    targets, ids = [batch.targets[k] for k in order], [batch.ids[k] for k in order]
    turned = Batch(batch.features[order], batch.mask[order], targets, ids, inputs)
    for one, other in zip(said(adapter, turned), reversed(expected), strict=True):
        assert one.text == other.text and one.score == pytest.approx(other.score, abs=1e-3)
    assert float(adapter.loss(turned).value) == pytest.approx(float(loss.value), abs=1e-4)
    spoiled = batch.features.clone()
    spoiled[~batch.mask] = 900.0
    again = Batch(spoiled, batch.mask, batch.targets, batch.ids, batch.inputs)
    assert said(adapter, again) == expected
    parts = [adapter.loss(read_batch(texts_of(8, 2, questions=True), part)) for part in (range(3), range(3, 8))]
    assert sum(part.weight for part in parts) == loss.weight
    mean = sum(float(part.value) * part.weight for part in parts) / loss.weight
    assert mean == pytest.approx(float(loss.value), abs=1e-4)
    with torch.autocast("cpu", torch.bfloat16):
        assert float(adapter.loss(batch).value) == pytest.approx(float(loss.value), abs=0.1)
    half = built(llm, bridge=bridge, llm_dtype="bf16")
    assert float(half.loss(batch).value) == pytest.approx(float(loss.value), abs=0.1)


def test_candidates_are_ranked_by_their_likelihood(llm: str) -> None:
    adapter, batch = built(llm), batch_of(3)
    texts = ["a red star", "a blue bar", "a green"]
    batch.inputs["candidates"] = [texts, None, texts[:2]]
    answers = said(adapter, batch)
    assert [len(one.ranked) for one in answers] == [3, 0, 2]
    with torch.no_grad():
        vectors, real = adapter(batch.features, batch.mask)
    for text, score in answers[0].ranked:
        ids = adapter.prompts.answer_ids(text)
        expected = -adapter.llm.nll(vectors[:1], real[:1], [adapter.prompts.prompt_ids("")], [ids])
        assert score == pytest.approx(float(expected), abs=1e-4)
    assert answers[0].text == answers[0].ranked[0][0] and answers[0].score == max(s for _, s in answers[0].ranked)
    record = answers[0].describe(all_scores=True)
    assert [one["caption"] for one in record["candidates"]] == [text for text, _ in answers[0].ranked]
    assert (
        len(answers[0].rows(top=2)) == 2 and len(answers[0].rows()) == 1 and "candidates" not in answers[0].describe()
    )
    batch.inputs["candidates"] = [["a red star"]] * 3
    with pytest.raises(InputError, match="2-0: candidates must be at least two different texts"):
        said(adapter, batch)


def test_examples_and_the_vocabulary_are_those_of_the_training_set(llm: str, tmp_path: Path) -> None:
    adapter = built(llm, questions=True, shots=2, vocabulary=3)
    assert adapter.vocabulary == ("circle", "star", "bar")
    assert adapter.examples == ((QUESTIONS[1], "circle"), (QUESTIONS[1], "star"))
    batch = batch_of(4, questions=True)
    answers = said(adapter, batch)
    assert [len(one.ranked) for one in answers] == [0, 3, 0, 3]  # captions are free
    loaded = LlmDecoder.from_folder(adapter.save_pretrained(tmp_path / "mine"))
    assert said(loaded, batch) == answers and loaded.examples == adapter.examples
    plain = built(llm, questions=True)
    batch.inputs["examples"] = [adapter.examples] * 4
    assert [one.question for one in said(plain, batch)] == batch.inputs["question"]
    given = plain.predict(
        batch.features, mask=batch.mask, given={"question": "who ?", "examples": [["what ?", "star"]]}
    )
    without = plain.predict(batch.features, mask=batch.mask, given={"question": "who ?"})
    assert [one.score for one in given] != [one.score for one in without]
    with pytest.raises(InputError, match="examples are pairs of a question and its answer"):
        plain.predict(batch.features, given={"question": "who ?", "examples": ["what ?"]})
    with pytest.raises(InputError, match="taken from training questions, and there is none"):
        built(llm, shots=2)


def test_views_become_one_text() -> None:
    made = [Text("a", "x", -2.0), Text("a", "y", -1.0)]
    assert likeliest_text(made) == made[1]
    ranked = [
        Text("a", "x", -1.0, "q", (("x", -1.0), ("y", -4.0))),
        Text("a", "y", -2.0, "q", (("y", -2.0), ("x", -6.0))),
    ]
    assert likeliest_text(ranked) == Text("a", "y", -3.0, "q", (("y", -3.0), ("x", -3.5)))
    with pytest.raises(ValueError, match="different candidates"):
        likeliest_text([made[0], ranked[0]])


def test_a_killed_run_ends_like_one_that_was_not(llm: str, tmp_path: Path) -> None:
    short = replace(CONFIG, epochs=2, checkpoint_every_s=0)
    head = {"bridge": "pool", "tune": "lora"}
    whole = run(tmp_path / "whole", llm, short, **head).best
    seen = 0

    def stop(now: Any) -> None:
        nonlocal seen
        seen += 1
        if seen == 4:
            raise KeyboardInterrupt

    again: dict[str, Any] = {"targets": TargetSchema("text"), "head": {"llm": llm, "max_new_tokens": 6} | head}
    sets = texts_of(48), texts_of(12, seed=1)
    with pytest.raises(KeyboardInterrupt):
        train("llm_decoder", *sets, config=short, run_dir=tmp_path / "cut", progress=stop, **again)
    continued = train("llm_decoder", *sets, config=short, run_dir=tmp_path / "cut", **again).best
    for name, tensor in whole.saved_state().items():
        assert torch.equal(continued.saved_state()[name], tensor), name


@pytest.mark.slow
def test_two_processes_end_like_one(llm: str, tmp_path: Path) -> None:
    short = replace(CONFIG, epochs=2)
    one, two = (run(tmp_path / str(n), llm, replace(short, devices=n), bridge="pool") for n in (1, 2))
    for name, tensor in one.best.saved_state().items():
        torch.testing.assert_close(two.best.saved_state()[name], tensor, atol=1e-4, rtol=1e-3)


def test_it_trains_under_lightning(llm: str, tmp_path: Path) -> None:
    from lightning.pytorch import Trainer

    adapter = LlmDecoder.build({"llm": llm, "bridge": "pool"}, Context(DIM, TargetSchema("text")), seed=1)
    module = adapter.lightning_module(lr=1e-2)
    trainer = Trainer(
        max_epochs=4, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=tmp_path,
    )  # fmt: skip
    data = FeatureDataModule(texts_of(48), texts_of(12, seed=1), batch_size=12)
    trainer.validate(module, data, verbose=False)
    before = float(trainer.callback_metrics["val_loss"])
    trainer.fit(module, data)
    assert float(trainer.callback_metrics["val_loss"]) < 0.8 * before


def test_the_language_model_must_be_the_one_of_the_training(tmp_path: Path) -> None:
    own = tiny_llm(tmp_path / "llm", hidden=32)
    folder = built(str(own)).save_pretrained(tmp_path / "mine")
    own.rename(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="is no known name, folder or Hub id.*; say where it lies now with llm"):
        LlmDecoder.from_folder(folder)
    tiny_llm(own, seed=1, hidden=32)
    with pytest.raises(InputError, match=r"llm' \(\w{12}\) is not the one that the adapter was trained with"):
        LlmDecoder.from_folder(folder)
    shutil.rmtree(own)
    tiny_llm(own, hidden=24)
    with pytest.raises(InputError, match="has the hidden size 24, but the adapter was trained for 32"):
        LlmDecoder.from_folder(folder)


def test_the_number_of_queries_follows_the_clip(llm: str) -> None:
    def queries(frames: int, grid: tuple[int, int]) -> int:
        spec = FeatureSpec("x", "ab" * 32, ClipPlan(frames), Preprocessing(48), "pyav-1", "tokens", grid=grid)
        context = Context(DIM, TargetSchema("text"), spec)
        return LlmDecoder.build({"llm": llm}, context).bridge.queries.shape[0]  # type: ignore[attr-defined]

    assert [queries(16, (16, 16)), queries(8, (6, 6)), queries(64, (16, 16)), queries(1, (6, 6))] == [256, 18, 256, 8]
    assert built(llm, queries=3).bridge.queries.shape == (3, 32)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (
            {"llm": "smollm3"},
            "'smollm3' is no known name, folder or Hub id; did you mean 'smollm2'.; name another with",
        ),
        ({"bridge": "mlp"}, "option 'bridge' cannot be 'mlp'"),
        ({"tune": "tower"}, "option 'tune' cannot be 'tower'"),
        ({"queries": 0}, "queries must be at least 1"),
        ({"heads": 3}, "heads 3 do not divide the language model's width 32"),
        ({"shots": -1}, "shots must not be negative"),
        ({"word_loss": -1}, "word_loss must not be negative"),
        ({"vocabulary": 1}, "vocabulary must be at least 2 answers"),
        ({"mlp_ratio": 0}, "mlp_ratio must be above 0"),
        ({"beans": 2}, "unknown option 'beans'; did you mean 'beams'"),
    ],
)
def test_options_that_make_no_sense(head: dict[str, Any], message: str, llm: str) -> None:
    with pytest.raises(InputError, match=message):
        built(**({"llm": llm} | head))


def test_features_and_targets_that_do_not_fit(llm: str) -> None:
    adapter = built(llm)
    with pytest.raises(InputError, match=r"'llm_decoder' reads tokens, \(T, N, D\) .* of shape \(3, 16\)"):
        adapter.predict(torch.zeros(2, 3, 16))
    for target in ((), ("",), ("a", " "), 3, None):
        with pytest.raises(InputError, match="a target of llm_decoder is a text or several, none of them empty"):
            adapter.calibrate(InMemoryFeatures(torch.zeros(1, 3, 4, DIM), [target]))
    with pytest.raises(InputError, match="have width 8, not 16"):
        adapter.calibrate(InMemoryFeatures(torch.zeros(1, 3, 4, 8), [("a",)]))
    with pytest.raises(InputError, match="given: no adapter reads 'qestion'; did you mean 'question'"):
        adapter.predict(batch_of(1).features, given={"qestion": "who?"})
    with pytest.raises(InputError, match="a question is a text, not 3"):
        adapter.predict(batch_of(1).features, given={"question": 3})
    with pytest.raises(InputError, match="learns text, but the task has classes"):
        LlmDecoder.build({"llm": llm}, Context.of_classes(DIM, ("a", "b")))
