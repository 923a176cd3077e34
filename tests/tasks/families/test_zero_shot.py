"""Zero-shot classification: clips ranked by one class at a time, and scores among some of the classes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from adapters.predictions import ClassScores
from core_encoder.clip_plan import Clip
from core_encoder.errors import InputError
from tasks.families.zero_shot import ZeroShotTask
from tasks.sample import Sample

NAMES = ("a", "b", "c", "d")
RNG = np.random.default_rng(0)
LABELS = RNG.integers(4, size=40)
SCORES = RNG.random((40, 4)) + 0.4 * np.eye(4)[LABELS]


def task(**options: Any) -> ZeroShotTask:
    samples = tuple(Sample(str(k), Clip(f"{k}.mp4"), (NAMES[label],)) for k, label in enumerate(LABELS))
    fields: dict[str, Any] = {"metrics": ("top1",), "main_metric": "top1"} | options
    return ZeroShotTask("zs", {"test": samples}, NAMES, protocol="p", **fields)


def answers(order: tuple[int, ...] = (0, 1, 2, 3)) -> list[ClassScores]:
    names = tuple(NAMES[k] for k in order)
    return [ClassScores(str(k), torch.tensor(row[list(order)]), names) for k, row in enumerate(SCORES)]


def average_precision(scores: np.ndarray, right: np.ndarray) -> float:
    """The mean, over the clips of a class, of the share of its clips among those ranked as high."""
    ranked = right[np.argsort(-scores)]
    return float(np.mean([ranked[: place + 1].mean() for place in np.flatnonzero(ranked)]))


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (2, 0, 3, 1)])
def test_each_class_ranks_all_clips(order: tuple[int, ...]) -> None:
    judged = task(metrics=("top1", "map"))
    assert judged.ranks_clips and not task().ranks_clips
    scores = judged.judge(answers(order), num_draws=20)
    wanted = np.mean([average_precision(SCORES[:, k], k == LABELS) for k in range(4)])
    assert scores.values["map"].value == pytest.approx(wanted)
    assert scores.main.value == pytest.approx(np.mean(SCORES.argmax(1) == LABELS))


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (2, 0, 3, 1)])
def test_scores_among_the_classes_of_each_set(order: tuple[int, ...]) -> None:
    sets = (("a", "b", "c"), ("d", "b"), ("c", "a", "no class of this task"))
    judged = task(metrics=("top1", "top1@sets", "top1@sets_sd"), class_sets=sets)
    scores = judged.judge(answers(order), num_draws=20)
    each = []
    for names in sets:
        own = [k for k, name in enumerate(NAMES) if name in names]
        hits = [own[int(SCORES[n, own].argmax())] == label for n, label in enumerate(LABELS) if label in own]
        each.append(np.mean(hits))
    assert scores.values["top1@sets"].value == pytest.approx(np.mean(each))
    assert scores.values["top1@sets_sd"].value == pytest.approx(np.std(each))
    assert scores.values["top1@sets"].value > scores.main.value  # there are fewer to confuse


def test_what_a_set_lacks_in_a_draw_does_not_count() -> None:
    """Few clips: a bootstrap draw may hold none of a set's."""
    few = task(metrics=("top1@sets",), main_metric="top1@sets", class_sets=(("a",), ("b", "c", "d")))
    samples = tuple(Sample(str(k), Clip(f"{k}.mp4"), (NAMES[k],)) for k in range(4))
    few = replace(few, splits={"test": samples})
    scores = few.judge(answers()[:4], num_draws=50)
    assert 0 <= scores.main.low <= scores.main.high <= 1  # type: ignore[operator]


def test_provenance_and_what_is_refused() -> None:
    assert task().record["templates"] == "clip-kinetics-v1" and len(task().record["templates_sha256"]) == 64
    assert task(templates="{}").record["templates"] == "given"
    with pytest.raises(InputError, match="template 'a video' has no {}"):
        task(templates="a video")
    with pytest.raises(InputError, match="class set 2 holds none of the 4 classes"):
        task(class_sets=(("a",), ("x",)))
    with pytest.raises(InputError, match="no metric 'top1@sets' for these labels"):
        task(metrics=("top1@sets",), main_metric="top1@sets")
    with pytest.raises(InputError, match="map is only judged at the end"):
        task(metrics=("top1", "map")).metric("map")
    assert task().metric().name == "top1"
