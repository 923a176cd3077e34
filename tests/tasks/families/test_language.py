"""The language family: captions, answers and both, how they are judged, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from adapters.context import TargetSchema
from adapters.predictions import Text
from core_encoder.clip_plan import Clip
from core_encoder.errors import InputError
from tasks.families.language import LanguageTask
from tasks.own_data import evaluation_split, read_task
from tasks.readers.texts import TextSample
from tasks.sample import Sample
from tests.tasks.metrics.small_wordnet import write_wordnet

THINGS = ("a red dog runs left", "a blue cat sits here", "two green stars go up", "one man is waiting")


@pytest.fixture(autouse=True)
def no_wordnet(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine without WordNet."""
    monkeypatch.setattr("tasks.metrics.wordnet.find_wordnet", lambda: None)
    for module in ("tasks.families.language", "tasks.metrics.texts"):
        monkeypatch.setattr(f"{module}.find_wordnet", lambda: None)


def captions(count: int = 4, split: str | None = "test") -> list[TextSample]:
    return [TextSample(f"v{k}", Clip(f"{k}.mp4"), (), split, (THINGS[k % 4],)) for k in range(count)]


def questions(count: int = 4, split: str | None = "test") -> list[TextSample]:
    words = ("dog", "cat", "star", "man")
    return [TextSample(f"q{k}", Clip(f"{k}.mp4"), (), split, (words[k % 4],), "what is it?") for k in range(count)]


def test_captions_are_judged_by_cider_bleu_and_rouge() -> None:
    task = LanguageTask.from_samples(captions(), "texts")
    assert task.main_metric == "cider" and task.schema == TargetSchema("text")
    perfect = task.judge([Text(s.id, t[0]) for s, t in zip(captions(), task.targets(captions()), strict=True)])
    assert perfect.main.value == pytest.approx(1000) and perfect.values["bleu4"].value == pytest.approx(1)
    assert str(perfect.main) == "1000 [1000, 1000]" and str(perfect.values["rouge_l"]).startswith("100.0 [")
    swapped = task.judge([Text(s.id, THINGS[k - 1]) for k, s in enumerate(captions())])
    assert swapped.main.value < 100 and swapped.values["bleu1"].value < 0.5
    few = task.judge([Text("v0", THINGS[0]), Text("v1", THINGS[1])])
    assert (few.n_evaluated, few.n_total, few.missing) == (2, 4, ("v2", "v3"))


def test_answers_are_judged_by_exact_match_and_wups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = LanguageTask.from_samples(questions(), "texts")
    assert task.metrics == ("accuracy",) and task.warnings == [
        "no WordNet on this machine: WUPS is left out (docs/language.md)"
    ]
    said = [Text(s.id, word) for s, word in zip(questions(), ("Dog.", "puppy", "bar", "man"), strict=True)]
    assert task.judge(said).main.value == 0.5
    with pytest.raises(InputError, match="wups@0.9 needs WordNet.*wordnet-base"):
        task.check_metric("wups@0.9")
    folder = write_wordnet(tmp_path / "wordnet")
    for module in ("tasks.families.language", "tasks.metrics.texts"):
        monkeypatch.setattr(f"{module}.find_wordnet", lambda: folder)
    task = LanguageTask.from_samples(questions(), "texts")
    assert task.warnings == []
    scores = task.judge(said)
    near = 2 * 2 / (2 + 1 + 2 * 2)  # puppy and cat over animal
    assert scores.values["wups@0"].value == pytest.approx((1 + near + 0 + 1) / 4)
    assert scores.values["wups@0.9"].value == pytest.approx((1 + 0.1 * near + 0 + 1) / 4)


def test_both_at_once_each_by_its_own() -> None:
    task = LanguageTask.from_samples([*captions(), *questions()], "texts")
    assert task.main_metric == "accuracy" and "cider" in task.metrics
    assert [task.inputs(one)["question"] for one in (captions()[0], questions()[0])] == ["", "what is it?"]
    known = sorted([*captions(), *questions()], key=lambda one: one.id)
    answers = [Text(one.id, one.texts[0], question=one.question) for one in known]
    scores = task.judge(answers)
    assert scores.main.value == 1 and scores.values["cider"].value == pytest.approx(1000) and scores.n_evaluated == 8
    for name, expected in (("accuracy", 1.0), ("cider", 1000.0), ("bleu4", 1.0)):
        metric = task.metric(name)
        metric.update(answers, task.truths(task.samples("test")))
        assert metric.compute() == pytest.approx(expected)
    with pytest.raises(InputError, match="no score of metric 'accuracy'"):
        task.judge(answers[4:])


def test_a_closed_vocabulary_and_examples_stand_beside_every_question() -> None:
    own = replace(questions(1)[0], id="own", candidates=("star", "bar"))
    plain = LanguageTask("x", {"test": (*captions(1), *questions(2), own)}, (), ("accuracy",), "accuracy", "p")
    closed = replace(plain, label_names=("dog", "man"), examples=(("who talks?", "man"), ("what is it?", "dog")))
    assert plain.inputs(questions()[0]) == {"question": "what is it?", "candidates": ()}
    given = [closed.inputs(sample) for sample in closed.samples("test")]
    assert [one["candidates"] for one in given] == [(), ("dog", "man"), ("dog", "man"), ("star", "bar")]
    assert [len(one["examples"]) for one in given] == [0, 2, 2, 2]
    said = [Text("q0", "dog"), Text("q1", "man"), Text("own", "dog")]
    assert closed.judge(said).main.value == pytest.approx(2 / 3)  # a cat cannot be said, and is wrong
    assert closed.digest("test") != plain.digest("test")
    assert replace(plain, examples=closed.examples).digest("test") == plain.digest("test")


def test_a_language_model_is_given_both(tmp_path: Path) -> None:
    """It answers with a word of the vocabulary, and what stands before a question changes how likely each is."""
    import torch

    from adapters.context import Context
    from adapters.features import InMemoryFeatures, read_batch
    from adapters.kinds.llm_decoder import LlmDecoder
    from adapters.predicting import answer_batch
    from tests.language_models import tiny_llm

    plain = LanguageTask("x", {"test": tuple(questions(2))}, (), ("accuracy",), "accuracy", "p")
    closed = replace(plain, label_names=("red", "man"))
    primed = replace(closed, examples=(("who is it?", "man"), ("what is it?", "man")))
    context = Context(8, TargetSchema("text"))
    adapter = LlmDecoder.build({"llm": str(tiny_llm(tmp_path / "llm")), "max_new_tokens": 3}, context, seed=1)

    def answers(task: LanguageTask) -> list[Text]:
        samples = task.samples("test")
        inputs = [task.inputs(sample) for sample in samples]
        columns = {name: [one[name] for one in inputs] for name in inputs[0]}
        known = [task.targets(samples), None, [sample.id for sample in samples], columns]
        features = InMemoryFeatures(torch.ones(2, 3, 4, 8), *known)
        adapter.calibrate(features)
        return [one for one in answer_batch(adapter, read_batch(features, range(2))) if isinstance(one, Text)]

    free, chosen, led = answers(plain), answers(closed), answers(primed)
    assert all(not one.ranked for one in free)
    assert all({text for text, _ in one.ranked} == {"red", "man"} for one in (*chosen, *led))
    assert [one.score for one in chosen] != [one.score for one in led]


def test_what_is_right_is_part_of_the_data() -> None:
    task = LanguageTask.from_samples(captions(), "a")
    other = LanguageTask.from_samples([TextSample("v0", Clip("0.mp4"), (), "test", ("x",)), *captions()[1:]], "a")
    assert task.digest("test") != other.digest("test") and task.describe_target(captions()[0]) == [THINGS[0]]


def test_what_does_not_fit() -> None:
    with pytest.raises(InputError, match="v: has no caption and no answer"):
        LanguageTask.from_samples([Sample("v", Clip("v.mp4"), ("label",), "test")])
    with pytest.raises(InputError, match="unknown metric 'cidre'; did you mean 'cider'"):
        LanguageTask.from_samples(captions()).check_metric("cidre")
    with pytest.raises(InputError, match="unknown metric 'accuracy'; did you mean|unknown metric 'accuracy'"):
        LanguageTask.from_samples(captions()).check_metric("accuracy")
    mixed = [*captions(4, "train"), *questions(4, "train"), *captions(2, "val"), *captions(2, "test")]
    unique = [TextSample(f"{s.split}-{s.id}", s.clip, (), s.split, s.texts, s.question) for s in mixed]
    with pytest.raises(InputError, match="accuracy needs a question in the val split, and there is none"):
        LanguageTask.from_samples(unique).check_targets()


def test_own_data(tmp_path: Path) -> None:
    for k in range(8):
        (tmp_path / f"{k}.mp4").touch()
    (tmp_path / "list.csv").write_text("video,caption\n" + "".join(f"{k}.mp4,text {k}\n" for k in range(8)))
    task = read_task(tmp_path / "list.csv", "text", val_fraction=0.25, test_fraction=0.25, seed=0)
    assert isinstance(task, LanguageTask) and len(task.samples("val")) == 2
    record = {"split_seed": 0, "val_fraction": 0.25, "test_fraction": 0.25, "data_digest": task.digest("train")}
    chosen = evaluation_split(tmp_path / "list.csv", TargetSchema("text"), record)
    assert chosen.split == "test" and chosen.task.digest("test") == task.digest("test")
