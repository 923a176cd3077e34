"""Multiple choice: which option was chosen, by the kind of question, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from adapters.predictions import ClassScores, Text, Truth
from core_encoder.clip_plan import Clip
from core_encoder.errors import InputError
from tasks.families.multiple_choice import MultipleChoiceTask
from tasks.sample import ChoiceSample, Sample

SAMPLES = (
    ChoiceSample("0", Clip("0.mp4"), (), "test", ("to eat", "to run"), "to run", "why does it move", "CW"),
    ChoiceSample("1", Clip("0.mp4"), (), "test", ("he ran", "he ate", "he ran"), "he ran", "what did he do", "CH"),
    ChoiceSample("2", Clip("1.mp4"), (), "test", ("left", "right"), "left", "where", "TN"),
    ChoiceSample("3", Clip("2.mp4"), (), "test", ("alone",), "alone", "", "TC"),
)
METRICS = ("accuracy", "accuracy@C", "accuracy@CW", "accuracy@T", "accuracy@D")


def task(samples: tuple[Sample, ...] = SAMPLES, **options: Any) -> MultipleChoiceTask:
    fields: dict[str, Any] = {"metrics": METRICS, "main_metric": "accuracy"} | options
    return MultipleChoiceTask("mc", {"test": samples}, (), protocol="p", **fields)


def choose(asked: MultipleChoiceTask, rows: list[list[float]]) -> list[ClassScores]:
    samples = asked.samples("test")
    texts = [asked.inputs(sample)["candidates"] for sample in samples]
    return [ClassScores(s.id, torch.tensor(row), own) for s, row, own in zip(samples, rows, texts, strict=True)]


def test_a_question_and_an_option_are_one_text() -> None:
    assert task().inputs(SAMPLES[0])["candidates"] == ("why does it move to eat", "why does it move to run")
    assert task().inputs(SAMPLES[1])["candidates"] == ("what did he do he ran", "what did he do he ate")
    assert task().inputs(SAMPLES[3])["candidates"] == ("alone",)
    bare = task(wording="{option}")
    assert bare.inputs(SAMPLES[0])["candidates"] == ("to eat", "to run") and bare.targets(SAMPLES[:1]) == [("to run",)]
    assert task().schema.kind == "pairs" and task().describe_target(SAMPLES[0]) == "to run"
    assert task().digest("test") != bare.digest("test")


def test_accuracy_by_kind_of_question() -> None:
    asked = task()
    scores = asked.judge(choose(asked, [[0.1, 0.9], [0.4, 0.6], [0.7, 0.3], [1.0]]))
    assert {name: score.value for name, score in scores.values.items()} == {
        "accuracy": 0.75,
        "accuracy@C": 0.5,
        "accuracy@CW": 1.0,
        "accuracy@T": 1.0,
    }  # and none of a kind that does not occur
    assert scores.n_evaluated == 4 and scores.main.low <= 0.75 <= scores.main.high  # type: ignore[operator]


def test_a_tie_counts_against_the_answer() -> None:
    asked = task(SAMPLES[:1])
    assert asked.judge(choose(asked, [[0.5, 0.5]])).main.value == 0.0


def test_texts_chosen_by_a_language_model_count_too() -> None:
    asked = task(SAMPLES[:2])
    right, wrong = asked.inputs(SAMPLES[0])["candidates"][::-1]
    chosen = Text("0", right, -1.0, "", ((right, -1.0), (wrong, -2.0)))
    free = Text("1", "what did he do he ran", -1.0)
    assert asked.judge([chosen, free]).values["accuracy"].value == 0.5  # what was made freely chose nothing


def test_what_is_missing_or_strange() -> None:
    asked = task()
    given = choose(asked, [[0.1, 0.9], [0.4, 0.6], [0.7, 0.3], [1.0]])
    assert asked.judge(given[:2]).missing == ("2", "3")
    with pytest.raises(InputError, match="0: 'x' was chosen from, which is not one of its options"):
        asked.judge([ClassScores("0", torch.tensor([0.5, 0.5]), ("x", "why does it move to run"))])
    with pytest.raises(InputError, match="no metric 'top1' of multiple choice"):
        task(metrics=("top1",), main_metric="top1")
    with pytest.raises(InputError, match="has no {option}"):
        task(wording="{question}")
    with pytest.raises(InputError, match="9: its answer is not one of its options"):
        task((ChoiceSample("9", Clip("0.mp4"), (), "test", ("a",), "b"),))
    with pytest.raises(InputError, match="9: its answer"):
        task((Sample("9", Clip("0.mp4"), ()),))


def test_while_training() -> None:
    asked, metric = task(), task().metric()
    assert metric.compute() != metric.compute()  # nan
    given = choose(asked, [[0.1, 0.9], [0.4, 0.6], [0.7, 0.3], [1.0]])
    truths = [Truth(s.id, target) for s, target in zip(SAMPLES, asked.targets(SAMPLES), strict=True)]
    metric.update(given, truths)
    metric.update(given[:1], truths[:1])
    assert metric.compute() == 0.75
    with pytest.raises(InputError, match="accuracy@C is only judged at the end"):
        asked.metric("accuracy@C")
