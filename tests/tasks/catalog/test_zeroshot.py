"""The zero-shot benchmarks over their miniatures, each judged against a plain computation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from adapters.predictions import ClassScores
from tasks.catalog import SUITES
from tasks.families.multiple_choice import MultipleChoiceTask
from tasks.families.zero_shot import ZeroShotTask
from tasks.registry import find_benchmark
from tests.tasks.miniatures import charades, charades_sta, kinetics, next_qa, videocon

SOME_OF_600 = ("abseiling", "arguing", "sleeping", "yarn spinning", "tai chi", "zumba", "weaving fabric")
WRITERS: dict[str, Callable[[Path], Path]] = {
    "kinetics400": kinetics.write,
    "kinetics600": lambda folder: kinetics.write(folder, SOME_OF_600, train=0, val=2),
    "ssv2": videocon.write,
    "nextqa": next_qa.write,
    "charades": charades_sta.write,
}


def opened(name: str, folder: Path) -> Any:
    benchmark = find_benchmark(name)
    assert benchmark.zero_shot and benchmark.suite == "zeroshot"
    return benchmark.open(WRITERS[benchmark.folder](folder))


def answers(task: ZeroShotTask) -> tuple[np.ndarray, list[ClassScores]]:
    samples = task.samples("test")
    scores = np.random.default_rng(3).random((len(samples), len(task.label_names)))
    return scores, [ClassScores(s.id, torch.tensor(r), task.label_names) for s, r in zip(samples, scores, strict=True)]


def top(scores: np.ndarray, targets: np.ndarray, k: int) -> float:
    return float(np.mean([target in np.argsort(-row)[:k] for row, target in zip(scores, targets, strict=True)]))


def mean_precision(scores: np.ndarray, right: np.ndarray) -> float:
    """mAP: for every class the mean, over its videos, of the precision at their rank."""
    each = []
    for column, wanted in zip(scores.T, right.T, strict=True):
        ranked = wanted[np.argsort(-column)]
        each.append(np.mean([ranked[: place + 1].mean() for place in np.flatnonzero(ranked)]))
    return float(np.mean(each))


@pytest.mark.parametrize("name", ["kinetics400-zs", "kinetics600-zs", "ssv2-temporal", "ssv2-events"])
def test_one_class_a_video(name: str, tmp_path: Path) -> None:
    task = opened(name, tmp_path)
    scores, given = answers(task)
    judged = task.judge(given, num_draws=20).values
    targets = np.array([task.label_names.index(sample.labels[0]) for sample in task.samples("test")])
    assert judged["top1"].value == pytest.approx(top(scores, targets, 1))
    if "top5" in judged:
        assert judged["top5"].value == pytest.approx(top(scores, targets, 5))
    if name.startswith("ssv2"):
        assert task.ranks_clips
        assert judged["map"].value == pytest.approx(mean_precision(scores, np.eye(len(task.label_names))[targets]))


def test_kinetics600_among_three_draws_of_unseen_classes(tmp_path: Path) -> None:
    task = opened("kinetics600-zs", tmp_path)
    assert [len(names) for names in task.class_sets] == [160, 160, 160]
    assert len({name for names in task.class_sets for name in names}) == 217 == len(set().union(*task.class_sets))
    assert all(tuple(sorted(names)) == names for names in task.class_sets)
    scores, given = answers(task)
    targets = np.array([task.label_names.index(sample.labels[0]) for sample in task.samples("test")])
    each = []
    for names in task.class_sets:
        own = [k for k, label in enumerate(task.label_names) if label in names]
        rows = [n for n, target in enumerate(targets) if target in own]
        each.append(top(scores[np.ix_(rows, own)], np.array([own.index(targets[n]) for n in rows]), 1))
    judged = task.judge(given, num_draws=20).values
    assert judged["top1@sets"].value == pytest.approx(np.mean(each))
    assert judged["top1@sets_sd"].value == pytest.approx(np.std(each)) and len(set(each)) > 1


def test_charades_by_its_own_rule(tmp_path: Path) -> None:
    task = opened("charades-zs", tmp_path)
    assert [sample.id for sample in task.samples("test")] == ["YSKX3", "2AN3Q"]  # nothing is done in the third
    assert task.multi_label and task.ranks_clips and task.label_names == charades.CLASSES
    scores, given = answers(task)
    right = np.array([[name in sample.labels for name in task.label_names] for sample in task.samples("test")])
    assert task.judge(given, num_draws=20).main.value == pytest.approx(mean_precision(scores, right))


@pytest.mark.parametrize("name", ["nextqa-atp-hard", "charades-sta-mc"])
def test_multiple_choice(name: str, tmp_path: Path) -> None:
    task = opened(name, tmp_path)
    assert isinstance(task, MultipleChoiceTask)
    rng, given, hits = np.random.default_rng(1), [], {}
    for sample in task.samples("test"):
        texts = task.inputs(sample)["candidates"]
        row = rng.random(len(texts))
        given.append(ClassScores(sample.id, torch.tensor(row), texts))
        hits[sample.id] = texts[int(row.argmax())].endswith(sample.answer)  # type: ignore[attr-defined]
    judged = task.judge(given, num_draws=20).values
    assert judged["accuracy"].value == pytest.approx(np.mean(list(hits.values())))
    kinds = {sample.id: sample.kind for sample in task.samples("test")}  # type: ignore[attr-defined]
    for metric, score in judged.items():
        own = [hit for one, hit in hits.items() if kinds[one].startswith(metric.partition("@")[2])]
        assert score.value == pytest.approx(np.mean(own))
    if name == "charades-sta-mc":
        assert judged["accuracy"].value > judged["accuracy@several"].value
        assert task.inputs(task.samples("test")[0])["candidates"][0] == "a person opens a door."
    else:
        assert set(judged) == {"accuracy", *(f"accuracy@{kind}" for kind in ("C", "CW", "CH", "T", "TN"))}


def test_every_benchmark_of_the_suite_is_here() -> None:
    assert {find_benchmark(name).folder for name in SUITES["zeroshot"]} == set(WRITERS)
