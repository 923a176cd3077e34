"""The family of temporal localization: targets, splits, scores and what it refuses."""

from __future__ import annotations

import pytest

from adapters.predictions import PROPOSAL, Segment, Segments, Timeline
from core_encoder.clip_plan import Clip
from core_encoder.errors import InputError
from tasks.families.temporal_localization import TemporalLocalizationTask
from tasks.sample import SegmentSample


def sample(name: str, *segments: tuple[float, float, str], split: str = "test", **known: object) -> SegmentSample:
    rows = tuple(Segment(start, end, label, 1.0) for start, end, label in segments)
    labels = tuple(sorted({label for _, _, label in segments}))
    return SegmentSample(name, Clip(f"{name}.mp4"), labels, split, Timeline(rows, **known))  # type: ignore[arg-type]


SAMPLES = [
    sample("t", (1, 2, "run"), (3, 4, "sit"), split="train"),
    sample("v", (1, 2, "run"), split="val"),
    sample("a", (1, 3, "run"), (5, 8, "sit")),
    sample("b", (2, 4, "run")),
    sample("c"),
]


def task() -> TemporalLocalizationTask:
    return TemporalLocalizationTask.from_samples(SAMPLES, "deeds")


def said(name: str, *segments: tuple[float, float, str, float]) -> Segments:
    return Segments(name, tuple(Segment(*one) for one in segments))


def test_what_is_right_is_best_and_has_intervals() -> None:
    right = [said("a", (1, 3, "run", 0.9), (5, 8, "sit", 0.8)), said("b", (2, 4, "run", 0.7)), said("c")]
    scores = task().judge(right)
    assert scores.main_metric == "map" and scores.main.value == 1.0
    assert (scores.main.low, scores.main.high) == (1.0, 1.0) and scores.values["map@0.75"].value == 1.0
    assert scores.values["ar@10"].low is None and (scores.n_evaluated, scores.n_total) == (3, 3)


def test_a_false_alarm_in_a_video_without_segments_counts() -> None:
    alarm = [said("a", (1, 3, "run", 0.9), (5, 8, "sit", 0.8)), said("b", (2, 4, "run", 0.7))]
    assert task().judge([*alarm, said("c", (0, 1, "run", 0.95))]).main.value < 1.0
    left_out = task().judge(alarm)
    assert left_out.main.value == 1.0 and left_out.missing == ("c",)


def test_proposals_without_classes() -> None:
    scores = task().judge([said("a", (1, 3, PROPOSAL, 0.9), (5, 8, PROPOSAL, 0.8)), said("b", (2, 4, PROPOSAL, 0.7))])
    assert scores.main.value == 1.0


def test_any_list_of_thresholds() -> None:
    loose = TemporalLocalizationTask.from_samples(SAMPLES, "deeds", tious=(0.1, 0.3))
    predictions = [said("a", (1, 4.5, "run", 0.9), (5, 9, "sit", 0.8)), said("b", (2, 5, "run", 0.7)), said("c")]
    assert loose.judge(predictions).main.value == 1.0 > task().judge(predictions).main.value
    assert loose.metrics[:3] == ("map", "map@0.1", "map@0.3")
    task().check_metric("map@0.3")
    with pytest.raises(InputError, match="unknown metric 'mapp'; did you mean 'map'"):
        task().check_metric("mapp")


def test_what_it_refuses() -> None:
    with pytest.raises(InputError, match=r"label 'runn' is not a class; did you mean 'run'"):
        TemporalLocalizationTask.from_samples([sample("a", (1, 2, "runn"))], "x", classes=("run", "sit"))
    with pytest.raises(InputError, match="label 'fly' is not a class"):
        TemporalLocalizationTask.from_samples(
            [sample("a", (1, 2, "run"), classes=("run", "fly"))], "x", classes=("run",)
        )
    with pytest.raises(InputError, match="a: predicted class 'fly' is none of task deeds"):
        task().judge([said("a", (1, 2, "fly", 0.5))])
    with pytest.raises(InputError, match="multi_label means nothing here"):
        TemporalLocalizationTask.from_samples(SAMPLES, "x", multi_label=True)
    with pytest.raises(InputError, match=r"a: segment \[5, 8\] 'sit' lies outside the video, which lasts 5 s"):
        task().check_length(SAMPLES[2], 5.0)
    with pytest.raises(InputError, match="no video that was predicted has a segment"):
        task().judge([said("c")])


def test_segments_and_what_was_annotated_are_part_of_the_digest() -> None:
    digest = task().digest("test")
    for other in (
        sample("a", (1, 3.5, "run"), (5, 8, "sit")),
        sample("a", (1, 3, "run"), (5, 8, "sit"), annotated=((0, 9),)),
    ):
        changed = [other if one.id == "a" else one for one in SAMPLES]
        assert TemporalLocalizationTask.from_samples(changed, "deeds").digest("test") != digest
