"""mAP and AR@AN against slow, independent versions of the official ActivityNet evaluator (protocols: 1.6)."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.predictions import PROPOSAL, Segment, Segments, Timeline, Truth
from core_encoder.errors import InputError
from tasks.metrics.temporal_detection import (
    TIOUS,
    RunningTemporalScore,
    area_under,
    average_recall,
    check_score_name,
    mean_average_precision,
    rankings,
    score_named,
    temporal_iou,
)

LABELS = ("jump", "run", "sit")


def slow_iou(one: Segment, other: Segment) -> float:
    shared = max(0.0, min(one.end_s, other.end_s) - max(one.start_s, other.start_s))
    return shared / ((one.end_s - one.start_s) + (other.end_s - other.start_s) - shared)


def slow_map(predictions: list[Segments], truths: list[Timeline], tious: tuple[float, ...]) -> float:
    """Detection by detection over the whole split, a lock on each ground truth, VOC 2011 area by its points."""
    labels = sorted({one.label for truth in truths for one in truth})
    table = []
    for label in labels:
        wanted = [(video, one) for video, truth in enumerate(truths) for one in truth if one.label == label]
        found = [(video, one) for video, said in enumerate(predictions) for one in said.segments if one.label == label]
        found.sort(key=lambda pair: -pair[1].score)
        for tiou in tious:
            locked: set[int] = set()
            right: list[int] = []
            for video, one in found:
                places = [place for place, (other, _) in enumerate(wanted) if other == video]
                places.sort(key=lambda place: -slow_iou(one, wanted[place][1]))
                for place in places:
                    if slow_iou(one, wanted[place][1]) < tiou:
                        right.append(0)
                        break
                    if place not in locked:
                        locked.add(place)
                        right.append(1)
                        break
                else:
                    right.append(0)
            recall, precision = [0.0], [0.0]
            for number in range(1, len(right) + 1):
                recall.append(sum(right[:number]) / len(wanted))
                precision.append(sum(right[:number]) / number)
            recall, precision = [*recall, 1.0], [*precision, 0.0]
            area = 0.0
            for place in range(1, len(recall)):
                area += (recall[place] - recall[place - 1]) * max(precision[place:])
            table.append(area)
    return float(np.mean(table))


def slow_recall(predictions: list[Segments], truths: list[Timeline], most: int = 100) -> list[float]:
    """The official curve: each video's share of its proposals, recall at each threshold, their mean."""
    judged = [video for video, truth in enumerate(truths) if len(truth)]
    total = sum(len(said.segments) for said in predictions)
    ratio = most * float(len(judged)) / total
    kept = {}
    for video in judged:
        mine = sorted(predictions[video].segments, key=lambda one: -one.score)
        kept[video] = mine[: min(int(len(mine) * ratio), len(mine))]
    retrieved = sum(map(len, kept.values()))
    curve = []
    for step in range(1, most + 1):
        share = step / 100.0 * (most * float(len(judged)) / retrieved)
        of_thresholds = []
        for tiou in TIOUS:
            hits = wanted = 0
            for video in judged:
                allowed = kept[video][: min(int(len(kept[video]) * share), len(kept[video]))]
                wanted += len(truths[video])
                hits += sum(any(slow_iou(one, truth) >= tiou for one in allowed) for truth in truths[video])
            of_thresholds.append(hits / wanted)
        curve.append(float(np.mean(of_thresholds)))
    return curve


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[Segments], list[Timeline]]:
    """Random videos; predictions near the truth and elsewhere, no two of the same score."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    predictions, truths = [], []
    scores = iter(rng.permutation(4000) / 4000)
    for video in range(draw(st.integers(1, 5))):
        wanted = [span(rng, LABELS[int(rng.integers(3))], 1.0) for _ in range(int(rng.integers(0, 5)))]
        found = [span(rng, LABELS[int(rng.integers(3))], float(next(scores))) for _ in range(int(rng.integers(0, 9)))]
        for one in wanted:
            for _ in range(int(rng.integers(0, 3))):
                start, end = np.sort([one.start_s + rng.normal(0, 0.7), one.end_s + rng.normal(0, 0.7)])
                found.append(Segment(float(start), float(end) + 0.01, one.label, float(next(scores))))
        predictions.append(Segments(str(video), tuple(found)))
        truths.append(Timeline(tuple(wanted)))
    if not any(map(len, truths)):
        truths[0] = Timeline((Segment(1.0, 4.0, "run", 1.0),))
    return predictions, truths


def span(rng: np.random.Generator, label: str, score: float) -> Segment:
    start = float(rng.uniform(0, 20))
    return Segment(start, start + float(rng.uniform(0.2, 8)), label, score)


@settings(max_examples=40, deadline=None)
@given(cases())
def test_map_is_that_of_the_official_evaluator(case: tuple[list[Segments], list[Timeline]]) -> None:
    predictions, truths = case
    assert score_named("map", predictions, truths) == pytest.approx(slow_map(predictions, truths, TIOUS), abs=1e-12)
    for tious in ((0.3,), (0.3, 0.5, 0.7)):
        assert score_named("map", predictions, truths, tious) == pytest.approx(slow_map(predictions, truths, tious))


@settings(max_examples=25, deadline=None)
@given(cases())
def test_average_recall_is_that_of_the_official_evaluator(case: tuple[list[Segments], list[Timeline]]) -> None:
    predictions, truths = case
    found = average_recall(predictions, truths)
    if not sum(len(said.segments) for said, truth in zip(predictions, truths, strict=True) if len(truth)):
        assert not found.any()
        return
    np.testing.assert_allclose(found, slow_recall(predictions, truths), atol=1e-12)
    assert score_named("auc", predictions, truths) == pytest.approx(np.trapezoid(found, np.arange(1, 101)) / 100)
    assert score_named("ar@10", predictions, truths) == found[9]


@settings(max_examples=15, deadline=None)
@given(cases())
def test_a_video_of_weight_two_counts_twice_and_of_none_not_at_all(case: tuple[list[Segments], list[Timeline]]) -> None:
    predictions, truths = case
    found = rankings(predictions, truths)
    without = np.array([float(video != 0) for video in range(len(truths))])
    if any(len(truth) for truth in truths[1:]):
        rest = rankings(predictions[1:], truths[1:])
        np.testing.assert_allclose(
            mean_average_precision(found, without), mean_average_precision(rest, np.ones(len(truths) - 1)), atol=1e-9
        )
    twice = mean_average_precision(found, np.full(len(truths), 2.0))
    np.testing.assert_allclose(twice, mean_average_precision(found, np.ones(len(truths))), atol=1e-9)


def test_tiou_of_spans() -> None:
    found = temporal_iou(np.array([[0.0, 4.0], [10.0, 12.0]]), np.array([[2.0, 6.0], [0.0, 4.0]]))
    np.testing.assert_allclose(found, [[2 / 6, 1.0], [0.0, 0.0]])


def test_outside_of_annotated_time_nothing_is_a_false_alarm() -> None:
    truth = (Segment(2.0, 4.0, "run", 1.0),)
    right, alarm = Segment(2.0, 4.0, "run", 0.5), Segment(20.0, 24.0, "run", 0.9)
    said = [Segments("a", (alarm, right))]
    assert score_named("map", said, [Timeline(truth)]) == pytest.approx(0.5)
    assert score_named("map", said, [Timeline(truth, ((0.0, 10.0),))]) == pytest.approx(1.0)
    assert score_named("map", said, [Timeline(truth, ((0.0, 10.0), (19.0, 22.5)))]) == pytest.approx(0.5)  # over half
    assert score_named("map", said, [Timeline(truth, ((0.0, 10.0), (19.0, 21.5)))]) == pytest.approx(1.0)


def test_a_class_that_nobody_looked_for_has_no_false_alarms() -> None:
    known = [Timeline((Segment(2.0, 4.0, "run", 1.0),)), Timeline((Segment(1.0, 2.0, "sit", 1.0),), None, ("sit",))]
    said = [Segments("a", (Segment(2.0, 4.0, "run", 0.5),)), Segments("b", (Segment(5.0, 9.0, "run", 0.9),))]
    assert score_named("map@0.5", said, known) == pytest.approx(0.5)  # run 1, sit 0
    assert score_named("map@0.5", said, [known[0], Timeline(known[1].segments)]) == pytest.approx(0.25)


def test_proposals_are_judged_without_classes() -> None:
    truth = Timeline((Segment(0.0, 2.0, "run", 1.0), Segment(5.0, 9.0, "sit", 1.0)))
    said = Segments("a", (Segment(0.0, 2.0, PROPOSAL, 0.9), Segment(5.0, 9.0, PROPOSAL, 0.8)))
    assert score_named("map", [said], [truth]) == 1.0


def test_between_segments_of_some_classes_proposals_may_be_right() -> None:
    whole = Timeline((Segment(0.0, 2.0, "run", 1.0), Segment(3.0, 4.0, "sit", 1.0)))
    part = Timeline((Segment(0.0, 2.0, "run", 1.0),), None, ("run",))
    one = Segments("a", (Segment(0.0, 2.0, PROPOSAL, 0.9), Segment(3.0, 4.0, PROPOSAL, 0.8)))
    other = Segments("b", (Segment(0.0, 2.0, PROPOSAL, 0.7), Segment(6.0, 9.0, PROPOSAL, 0.95)))
    assert score_named("map", [one, other], [whole, part]) == 1.0
    assert score_named("map", [one, other], [whole, Timeline(part.segments)]) < 1.0
    assert part.without_classes(("run",)).annotated is None


def test_no_proposals_find_nothing_and_no_segment_is_an_error() -> None:
    truth = Timeline((Segment(0.0, 2.0, "run", 1.0),))
    assert score_named("auc", [Segments("a", ())], [truth]) == 0.0
    assert score_named("map", [Segments("a", ())], [truth]) == 0.0
    with pytest.raises(InputError, match="no segment that proposals could find"):
        average_recall([Segments("a", ())], [Timeline(())])


def test_while_training_it_is_the_same_score() -> None:
    truth = [Segment(0.0, 2.0, "run", 1.0)]
    metric = RunningTemporalScore("map@0.5")
    metric.update([Segments("a", (Segment(0.0, 1.9, "run", 0.4),))], [Truth("a", truth)])
    assert metric.compute() == 1.0
    assert area_under(np.ones(100)) == pytest.approx(0.99)


@pytest.mark.parametrize("name", ["map", "map@0.3", "ar@1", "ar@100", "auc"])
def test_names_of_scores(name: str) -> None:
    assert check_score_name(name)


@pytest.mark.parametrize("name", ["mapp", "map@x", "map@1.5", "ar", "ar@0", "ar@101", "top1"])
def test_what_is_no_name_of_a_score(name: str) -> None:
    assert not check_score_name(name)
