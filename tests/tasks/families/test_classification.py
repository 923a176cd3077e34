"""A classification task: targets, judging by name, views, missing samples, foreign classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from adapters.predictions import ClassScores
from core_encoder.clip_plan import Clip
from core_encoder.errors import InputError
from tasks.families.classification import ClassificationTask
from tasks.metrics.classification import MultiLabelMAP
from tasks.sample import Sample


def task_of(labels: list[tuple[str, ...]], **options: Any) -> ClassificationTask:
    """A task whose samples, `0`, `1`, ..., are all in test."""
    samples = [Sample(str(i), Clip(f"{i}.mp4"), label, "test") for i, label in enumerate(labels)]
    return ClassificationTask.from_samples(samples, "letters", **options)


def answers(rows: dict[str, list[float]], names: tuple[str, ...] = ("a", "b", "c")) -> list[ClassScores]:
    return [ClassScores(one, torch.tensor(row), names) for one, row in rows.items()]


def test_judging_single_labels() -> None:
    task = task_of([("a",), ("b",), ("c",), ("a",)])
    assert task.metrics == ("top1", "mean_class_accuracy", "macro_accuracy")
    predictions = answers(
        {"0": [0.8, 0.1, 0.1], "1": [0.2, 0.7, 0.1], "2": [0.3, 0.6, 0.1], "3": [0.1, 0.8, 0.1]},
    )
    scores = task.judge(predictions)
    assert scores.main is scores.values["top1"]
    assert scores.main.value == 0.5
    assert scores.values["mean_class_accuracy"].value == pytest.approx(0.5)
    assert 0 <= scores.main.low < 0.5 < scores.main.high <= 1
    assert (scores.n_evaluated, scores.n_total, scores.missing) == (4, 4, ())
    assert task.judge(predictions[::-1]) == scores
    assert task.confusion(predictions).tolist() == [[1, 1, 0], [0, 1, 0], [0, 1, 0]]
    assert str(scores).startswith("top1 50.0 [")
    assert str(scores).endswith("on 4 of 4")


def test_classes_are_matched_by_name_not_by_place() -> None:
    task = task_of([("a",), ("b",)])
    predictions = answers({"0": [0.1, 0.2, 0.7], "1": [0.1, 0.8, 0.1]}, names=("z", "b", "a"))
    assert task.judge(predictions).main.value == 1.0
    assert task.confusion(predictions).tolist() == [[0, 0, 0], [0, 1, 0], [0, 0, 1]]
    wrong = answers({"0": [0.9, 0.0, 0.1], "1": [0.1, 0.8, 0.1]}, names=("z", "b", "a"))
    assert task.judge(wrong).main.value == 0.5


def test_views_of_a_sample_are_averaged() -> None:
    task = task_of([("a",), ("b",)])
    predictions = [
        *answers({"0": [0.9, 0.1, 0.0], "1": [0.1, 0.9, 0.0]}),
        *answers({"0": [0.4, 0.6, 0.0], "1": [0.3, 0.7, 0.0]}),
    ]
    scores = task.judge(predictions)
    assert scores.main.value == 1.0
    assert scores.n_evaluated == 2


def test_missing_samples_are_named_not_guessed() -> None:
    task = task_of([("a",), ("b",), ("c",)])
    scores = task.judge(answers({"2": [0.1, 0.1, 0.8]}))
    assert (scores.main.value, scores.n_evaluated, scores.n_total, scores.missing) == (1.0, 1, 3, ("0", "1"))


def test_several_labels_are_judged_by_map() -> None:
    task = task_of([("a", "b"), (), ("b",), ("c",)])
    assert (task.multi_label, task.metrics, task.main_metric) == (True, ("map",), "map")
    rows = {str(i): np.random.default_rng(i).random(3).tolist() for i in range(4)}
    targets = task.targets(task.samples("test"))
    assert targets.tolist() == [[1, 1, 0], [0, 0, 0], [0, 1, 0], [0, 0, 1]]
    metric = task.metric()
    official = MultiLabelMAP(3)
    for one in (metric, official):
        one.update(answers(rows), task.truths(task.samples("test")))
    assert task.judge(answers(rows)).main.value == metric.compute() == pytest.approx(float(official.compute()))
    with pytest.raises(InputError, match="one label a clip"):
        task.confusion(answers(rows))
    with pytest.raises(InputError, match="map: the metric is not defined: no class has ground truth"):
        task.judge(answers({"1": [0.1, 0.2, 0.3]}))


def test_top5_is_left_out_where_it_says_nothing() -> None:
    assert "top5" not in task_of([(letter,) for letter in "abcde"]).metrics
    task = task_of([(letter,) for letter in "abcdef"])
    assert task.metrics[:2] == ("top1", "top5")
    names = tuple("abcdef")
    scores = task.judge(answers({"0": [0.1, 0.1, 0.2, 0.2, 0.2, 0.2], "1": [0.1, 0.3, 0.2, 0.2, 0.2, 0.0]}, names))
    assert scores.values["top5"].value == 0.5  # of "a" and the tied "b", five classes score as high
    assert task.metric("top5").name == "top5"


@pytest.mark.parametrize(
    ("predictions", "words"),
    [
        ([], "none of the 2 samples of 'test' was predicted"),
        (answers({"9": [1.0, 0.0, 0.0]}), "'9' is no sample of 'test'"),
        (answers({"0": [0.5, float("nan"), 0.0]}), "0: the adapter's scores are not finite"),
        (answers({"0": [1.0, 0.0]}, ("a", "bb")), "class 'b' is unknown to the adapter; did you mean 'bb'"),
        (
            [*answers({"0": [1.0, 0.0, 0.0]}), *answers({"1": [1.0, 0.0, 0.0]}, ("b", "a", "c"))],
            "1: predicted with another class list",
        ),
    ],
)
def test_predictions_that_cannot_be_judged(predictions: list[ClassScores], words: str) -> None:
    with pytest.raises(InputError, match=words):
        task_of([("a",), ("b",)]).judge(predictions)


def test_declarations_that_contradict_themselves() -> None:
    with pytest.raises(InputError, match="no 'train' split; known: 'test'"):
        task_of([("a",)]).samples("train")
    with pytest.raises(InputError, match="1: has 2 labels in a task of one label a clip"):
        task_of([("a",), ("a", "b")], multi_label=False)
    with pytest.raises(InputError, match="label 'd' is not in the class list"):
        task_of([("d",)], classes=("a", "b"))
    with pytest.raises(InputError, match="no sample has a label"):
        task_of([()])
    fields: dict[str, Any] = {"name": "x", "splits": {}, "label_names": ("a",), "protocol": "p"}
    with pytest.raises(InputError, match="no metric 'top_1' for these labels; did you mean 'top1'"):
        ClassificationTask(metrics=("top_1",), main_metric="top_1", **fields)
    with pytest.raises(InputError, match="no metric 'map' for these labels"):
        ClassificationTask(metrics=("map",), main_metric="map", **fields)
    with pytest.raises(InputError, match="no metric 'top1'; did you mean 'top5'"):
        ClassificationTask(metrics=("top5",), main_metric="top1", **fields)
    sample = Sample("0", Clip("0.mp4"), ("b",))
    with pytest.raises(InputError, match="0: label 'b' is not a class"):
        ClassificationTask(metrics=("top1",), main_metric="top1", **fields | {"splits": {"test": (sample,)}})


def test_reading_a_folder(tmp_path: Path) -> None:
    for name in ("walk/1", "walk/2", "walk/3", "run/1", "run/2", "fall/1"):
        (tmp_path / "my videos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "my videos" / f"{name}.mp4").touch()
    task = ClassificationTask.read(tmp_path / "my videos")
    assert (task.name, task.label_names) == ("my videos", ("fall", "run", "walk"))
    assert {split: len(samples) for split, samples in task.splits.items()} == {"train": 3, "val": 2, "test": 1}
    assert [warning.split(":")[0] for warning in task.warnings] == [
        "1 of 3 classes have no val sample",
        "2 of 3 classes have no test sample",
    ]
    assert repr(task) == "ClassificationTask('my videos': 3 classes; train 3, val 2, test 1; top1)"
    other = ClassificationTask.read(tmp_path / "my videos", classes=("walk", "run", "fall", "jump"))
    assert other.targets(other.samples("train")).tolist() == [2, 1, 0]


def test_the_digest_tells_data_apart() -> None:
    task = task_of([("a",), ("b",)])
    assert task.digest("test") == task_of([("a",), ("b",)]).digest("test")
    assert len({task.digest("test"), task_of([("a",), ("a",)], classes=("a", "b")).digest("test")}) == 2
    assert task.digest("test") != task_of([("a",), ("b",)], classes=("a", "b", "c")).digest("test")
    assert task.digest("test") != task_of([("a",), ("b",), ("b",)]).digest("test")
