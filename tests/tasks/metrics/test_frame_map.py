"""Frame mAP against a plain restatement of the official AVA evaluation, one detection at a time."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.boxes import BoxScores, overlaps
from adapters.predictions import Box, Truth
from core_encoder.errors import InputError
from tasks.metrics.frame_map import MOST_ROWS, FrameMAP, RankedBoxes, frame_map, ranked_boxes

LABELS = ("run", "sit", "walk")
Answers = list[tuple[str, list[tuple[float, float, float, float]], list[list[float]]]]


def iou(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0.0) * max(height, 0.0)
    area = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return shared / (area - shared)


def official(answers: list[BoxScores], truths: list[list[Box]]) -> float:
    """`get_ava_performance.py` and the PASCAL evaluator behind it, restated."""
    per_class: dict[str, list[tuple[float, bool]]] = defaultdict(list)
    counts: dict[str, int] = defaultdict(int)
    for answer, target in zip(answers, truths, strict=True):
        rows = [
            (float(answer.scores[p, k]), label, answer.corners[p])
            for p in range(len(answer.corners))
            for k, label in enumerate(LABELS)
        ]
        rows = sorted(rows, key=lambda row: -row[0])[:50]
        for label in LABELS:
            people = [box.corners for box in target if box.label == label]
            counts[label] += len(people)
            detected = [False] * len(people)
            for score, _, corners in (row for row in rows if row[1] == label):
                right = False
                if people:
                    values = [iou(corners, one) for one in people]
                    best = int(np.argmax(values))
                    if values[best] >= 0.5 and not detected[best]:
                        right = detected[best] = True
                per_class[label].append((score, right))
    values = []
    for label in LABELS:
        if not counts[label]:
            continue
        ranked = sorted(per_class[label], key=lambda one: -one[0])
        hits = np.cumsum([right for _, right in ranked])
        recall = np.concatenate([[0], hits / counts[label], [1]])
        precision = np.concatenate([[0], hits / np.arange(1, len(ranked) + 1), [0]])
        for i in range(len(precision) - 2, -1, -1):
            precision[i] = max(precision[i], precision[i + 1])
        steps = np.where(recall[1:] != recall[:-1])[0] + 1
        values.append(float(np.sum((recall[steps] - recall[steps - 1]) * precision[steps])))
    return float(np.mean(values))


def random_case(seed: int, frames: int = 6, most: int = 4) -> tuple[list[BoxScores], list[list[Box]]]:
    rng = np.random.default_rng(seed)
    answers, truths = [], []
    for frame in range(frames):
        people = [random_box(rng) for _ in range(rng.integers(0, most))]
        target = [Box(0.0, box, label, 1.0) for box in people for label in LABELS if rng.random() < 0.5]
        found = [near(box, rng) for box in people if rng.random() < 0.8]
        found += [random_box(rng) for _ in range(rng.integers(0, 3))]
        found += [near(box, rng) for box in found if rng.random() < 0.3]  # twice the same
        scores = torch.from_numpy(rng.random((len(found), len(LABELS))).astype(np.float32))
        answers.append(answer_of(f"f{frame}", found, scores))
        truths.append(target)
    truths[0] = [*truths[0], Box(0.0, (0.1, 0.1, 0.4, 0.4), "run", 1.0)]
    return answers, truths


def answer_of(name: str, found: list[tuple[float, float, float, float]], scores: torch.Tensor) -> BoxScores:
    rows = len(found)
    return BoxScores(name, (0.0,) * rows, ((0.0, 1.0),) * rows, tuple(found), ("",) * rows, scores, LABELS, True)


def random_box(rng: np.random.Generator) -> tuple[float, float, float, float]:
    x, y = rng.random(2) * 0.6
    width, height = 0.1 + 0.3 * rng.random(2)
    return (float(x), float(y), float(x + width), float(y + height))


def near(box: tuple[float, ...], rng: np.random.Generator) -> tuple[float, float, float, float]:
    left, top, right, bottom = (float(edge + 0.03 * rng.standard_normal()) for edge in box)
    return (left, top, max(right, left + 0.01), max(bottom, top + 0.01))


def value(answers: list[BoxScores], truths: list[list[Box]]) -> float:
    return float(frame_map(ranked_boxes(answers, truths, LABELS), np.ones((1, len(truths)), np.float32))[0])


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 100_000))
def test_it_is_the_official_value(seed: int) -> None:
    answers, truths = random_case(seed)
    assert value(answers, truths) == pytest.approx(official(answers, truths), abs=1e-9)


def test_only_the_fifty_surest_rows_of_a_frame_count() -> None:
    rng = np.random.default_rng(0)
    truths = [[Box(0.0, (0.0, 0.0, 0.1, 0.1), "run", 1.0)]]
    found = [(0.0, 0.0, 0.1, 0.1)] + [random_box(rng) for _ in range(30)]
    scores = torch.rand(31, 3, generator=torch.Generator().manual_seed(0)) * 0.5 + 0.4
    scores[0] = 0.001  # right, but behind 90 others
    answers = [answer_of("a", found, scores)]
    assert MOST_ROWS < 31 * 3
    assert value(answers, truths) == official(answers, truths) == 0.0


def test_ties_enter_the_curve_together() -> None:
    """Whoever gives every box the same score gets the share of the boxes that are right, whatever their order."""
    boxes = [(0.1 * i, 0.0, 0.1 * i + 0.1, 0.5) for i in range(8)]
    truths = [[Box(0.0, box, "run" if i < 2 else "sit", 1.0) for i, box in enumerate(boxes)]]
    for order in (boxes, boxes[::-1]):
        scores = torch.full((8, 3), 0.3)
        scores[:, 1:] = 0.0
        found = ranked_boxes([answer_of("a", order, scores)], truths, LABELS)
        assert found[0].average_precision(np.ones((1, 1), np.float32))[0] == pytest.approx(2 / 8)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 100_000))
def test_ties_and_weights_are_those_of_the_whole_curve(seed: int) -> None:
    """Against the curve point by point: a point a score, each prediction as often as its frame weighs."""
    answers, truths = random_case(seed)
    answers = [replace(one, scores=(one.scores * 4).round() / 4) for one in answers]
    weights = np.random.default_rng(seed).integers(0, 3, (1, len(truths))).astype(np.float32)
    for k, (ranked, label) in enumerate(zip(ranked_boxes(answers, truths, LABELS), LABELS, strict=True)):
        often = weights[0].tolist()
        total = sum(often[frame] * sum(box.label == label for box in one) for frame, one in enumerate(truths))
        points: dict[float, list[float]] = defaultdict(lambda: [0.0, 0.0])  # by score: right ones, and all
        for frame, (answer, target) in enumerate(zip(answers, truths, strict=True)):
            people = np.array([box.corners for box in target if box.label == label]).reshape(-1, 4)
            taken = set()
            for row in sorted(range(len(answer.corners)), key=lambda row: -float(answer.scores[row, k])):
                values = overlaps(np.array(answer.corners)[row, None], people)[0]
                best = int(values.argmax()) if len(people) else -1
                right = bool(len(people)) and values[best] >= 0.5 and best not in taken
                taken |= {best} if right else set()
                points[float(answer.scores[row, k])][0] += often[frame] * right
                points[float(answer.scores[row, k])][1] += often[frame]
        curve = np.cumsum([points[score] for score in sorted(points, reverse=True)], axis=0).reshape(-1, 2)
        precision = curve[:, 0] / np.maximum(curve[:, 1], 1)
        best_later = [precision[place:].max() for place in range(len(precision))]
        area = float((np.diff(curve[:, 0], prepend=0) * best_later).sum())
        found = float(ranked.average_precision(weights)[0])
        assert np.isnan(found) if not total else found == pytest.approx(area / total, abs=1e-9)


def test_few_rows_of_weights_are_held_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    ranked = ranked_boxes(*random_case(7), LABELS)
    weights = np.random.default_rng(0).integers(0, 3, (40, 6)).astype(np.float32)
    whole = frame_map(ranked, weights)
    asked: list[int] = []
    real = RankedBoxes._area
    monkeypatch.setattr(RankedBoxes, "_area", lambda one, some: asked.append(some.size) or real(one, some))
    monkeypatch.setattr("tasks.metrics.frame_map.AT_ONCE", 50)
    np.testing.assert_array_equal(frame_map(ranked, weights), whole)
    assert len(asked) > 2 * len(LABELS) and sum(asked) == weights.size * len(LABELS)


def test_weights_count_frames_as_if_they_were_there_so_often() -> None:
    answers, truths = random_case(3)
    weights = np.array([[2, 0, 1, 3, 1, 0]], np.float32)
    chosen = [frame for frame, count in enumerate(weights[0]) for _ in range(int(count))]
    ranked = ranked_boxes(answers, truths, LABELS)
    again = value([answers[i] for i in chosen], [truths[i] for i in chosen])
    assert float(frame_map(ranked, weights)[0]) == pytest.approx(again, abs=1e-9)


def test_the_running_metric_counts_a_sample_once() -> None:
    answers, truths = random_case(5)
    metric = FrameMAP(LABELS)
    known = [Truth(answer.sample_id, target) for answer, target in zip(answers, truths, strict=True)]
    metric.update(answers, known)
    metric.update(answers[:2], known[:2])
    assert metric.compute() == pytest.approx(official(answers, truths))


def test_a_frame_without_boxes_and_one_without_people_count() -> None:
    nobody = answer_of("a", [], torch.zeros(0, 3))
    missed = [Box(0.0, (0.0, 0.0, 0.5, 0.5), "run", 1.0)]
    sure = answer_of("b", [(0.0, 0.0, 0.5, 0.5)], torch.tensor([[0.9, 0.1, 0.1]]))
    assert value([nobody, sure], [missed, missed]) == pytest.approx(0.5)
    false_alarm = answer_of("c", [(0.0, 0.0, 0.5, 0.5)], torch.tensor([[0.95, 0.1, 0.1]]))
    assert value([sure, false_alarm], [missed, []]) == pytest.approx(0.5)


def test_a_class_that_the_adapter_lacks_is_refused() -> None:
    with pytest.raises(InputError, match="'jump' is unknown to the adapter"):
        ranked_boxes([answer_of("a", [], torch.zeros(0, 3))], [[]], ("run", "jump"))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 100_000))
def test_overlaps_are_those_of_one_pair_at_a_time(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = [random_box(rng) for _ in range(4)], [random_box(rng) for _ in range(3)]
    wanted = [[iou(one, other) for other in b] for one in a]
    np.testing.assert_allclose(overlaps(np.array(a), np.array(b)), wanted, atol=1e-12)
