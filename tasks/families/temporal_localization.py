"""Temporal localization: what happens when in a video, judged by mAP over temporal IoU and by recall of proposals."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from adapters.card import CardText
from adapters.context import TargetSchema
from adapters.predictions import PROPOSAL, Segment, Segments, Timeline
from adapters.scores import Score, Scores
from core_encoder.errors import InputError
from core_encoder.files.storage import nearest
from tasks.metrics.bootstrap import bootstrap_interval
from tasks.metrics.temporal_detection import (
    TIOUS,
    Ranking,
    RunningTemporalScore,
    area_under,
    average_recall,
    check_score_name,
    known_as_proposals,
    mean_average_precision,
    rankings,
)
from tasks.readers.events import outside
from tasks.readers.manifests import Columns
from tasks.readers.segments import point_classes, read_segments
from tasks.sample import Sample, SegmentSample
from tasks.splits import split_samples, split_warnings
from tasks.task import ByClass, Task, Weighed, told

PROTOCOL = "temporal-localization-v1"
"""mAP and AR@AN as the official ActivityNet evaluator computes them; where a video is labelled in part, a prediction
that hits nothing is a false alarm only if its class was looked for and half of it lies in annotated time; videos with
no prediction are left out and counted; intervals are 95 % percentile bootstraps of 1000 draws of whole videos."""


@dataclass(frozen=True, repr=False)
class TemporalLocalizationTask(Task):
    """Videos with segments of classes, judged by `map`, the mean of mAP over the thresholds `tious`."""

    tious: tuple[float, ...] = TIOUS
    strict_times: bool = True  # a segment outside of its video is refused; else it stays, as evaluators keep it
    family: ClassVar[str] = "temporal localization"
    card: ClassVar[CardText] = CardText(
        answers="segments",
        averaging="A video is looked at as a whole.",
        limits="A segment is only found where the video is like those of the training; scores are no probabilities.",
    )

    def check(self, sample: Sample) -> None:
        known = set(self.label_names)
        looked_for = _timeline(sample).classes or ()
        unknown = next((label for label in (*sample.labels, *looked_for) if label not in known), None)
        if unknown is not None:
            raise InputError(f"{sample.id}: label {unknown!r} is not a class{nearest(unknown, self.label_names)}")

    def check_targets(self) -> None:
        for split in self.splits:
            if not any(_timeline(sample).segments for sample in self.samples(split)):
                raise InputError(f"task {self.name}: no video of the {split} split has a segment")

    def check_metric(self, name: str) -> None:
        if not check_score_name(name):
            raise InputError(f"unknown metric {name!r}{nearest(name, self.metrics)}; map@0.3 and ar@50 are some, too")

    def check_length(self, sample: Sample, length_s: float) -> None:
        for one in _timeline(sample).segments if self.strict_times else ():
            if reason := outside(one.start_s, one.end_s, length_s):
                raise InputError(f"{sample.id}: segment [{one.start_s:g}, {one.end_s:g}] {one.label!r} {reason}")

    @property
    def schema(self) -> TargetSchema:
        return TargetSchema("segments", self.label_names)

    @classmethod
    def read_samples(
        cls, source: str | Path, *, videos: str | Path | None = None, **columns: Any
    ) -> list[SegmentSample]:
        """An annotation file, or a folder of them, as `tasks.readers.segments` reads it."""
        if columns.pop("label_separator", None) is not None:
            raise InputError("label_separator means nothing here: a segment has one class; give each its own row")
        named = {name.removesuffix("_column"): column for name, column in columns.items()}
        return read_segments(source, videos, Columns(**named))

    @classmethod
    def from_samples(
        cls,
        samples: Sequence[Sample],
        name: str = "data",
        *,
        classes: Sequence[str] | None = None,
        multi_label: bool | None = None,
        val_fraction: float = 0.15,
        test_fraction: float = 0.15,
        seed: int = 0,
        tious: Sequence[float] = TIOUS,
    ) -> TemporalLocalizationTask:
        """A task over videos with segments, split as `split_samples` says; `classes` are by their index."""
        if multi_label:
            raise InputError(f"task {name}: multi_label means nothing here: segments may overlap anyway")
        occurring = {label for sample in samples for label in (*sample.labels, *(_timeline(sample).classes or ()))}
        names = tuple(sorted(occurring)) if classes is None else tuple(classes)
        if not names:
            raise InputError(f"task {name}: no video has a segment")
        splits = split_samples(samples, val_fraction, test_fraction, seed)
        single = [f"map@{tiou:g}" for tiou in (0.5, 0.75, 0.95) if any(abs(tiou - one) < 1e-9 for one in tious)]
        return cls(
            name=name,
            splits={split: tuple(members) for split, members in splits.items()},
            label_names=names,
            metrics=("map", *(single or [f"map@{tiou:g}" for tiou in tious]), "ar@10", "ar@100", "auc"),
            main_metric="map",
            protocol=PROTOCOL,
            tious=tuple(tious),
        )

    @property
    def warnings(self) -> list[str]:
        return split_warnings(self.splits)

    @property
    def record(self) -> dict[str, Any]:
        everywhere = [sample for split in self.splits.values() for sample in split if isinstance(sample, SegmentSample)]
        points = point_classes(everywhere)
        return {"point_classes": list(points)} if points else {}

    def targets(self, samples: Sequence[Sample]) -> list[Timeline]:
        return [_timeline(sample) for sample in samples]

    def describe_target(self, sample: Sample) -> Any:
        known = _timeline(sample)
        rows = [{"start": one.start_s, "end": one.end_s, "label": one.label} for one in known.segments]
        return {
            "segments": rows,
            **({} if known.annotated is None else {"annotated": [list(span) for span in known.annotated]}),
            **({} if known.classes is None else {"classes_annotated": list(known.classes)}),
        }

    def metric(self, name: str | None = None) -> RunningTemporalScore:
        return RunningTemporalScore(name or self.main_metric, self.tious)

    def judge(
        self, predictions: Iterable[Segments], split: str = "test", *, seed: int = 0, num_draws: int = 1000
    ) -> Scores:
        """Score predictions against a split; those of proposals without a class are judged without classes.

        Raises:
            InputError: no prediction, one of no sample in the split, a class the task does not have, or no segment.
        """
        found, missing, answers, known = self._answered(predictions, split)
        of_map = [name for name in self.metrics if name.startswith("map")]
        single = [float(name.partition("@")[2]) for name in of_map if "@" in name]
        per_draw = _draws(rankings(answers, known, (*self.tious, *single)))
        groups = [sample.clip.path for sample in found]
        values: dict[str, Score] = {}
        for name in of_map:
            columns = slice(0, len(self.tious)) if name == "map" else slice(*_place(len(self.tious), single, name))

            def statistic(weights: NDArray[Any], columns: slice = columns) -> NDArray[np.float64]:
                return per_draw(weights)[:, columns].mean(axis=1)

            value = float(statistic(np.ones((1, len(found)), dtype=np.float32))[0])
            low, high = bootstrap_interval(statistic, len(found), groups=groups, seed=seed, num_draws=num_draws)
            values[name] = Score(value, low, high)
        recall = average_recall(answers, known, self.tious)
        for name in self.metrics:
            if name.startswith("ar@"):
                values[name] = Score(float(recall[int(name.partition("@")[2]) - 1]))
            elif name == "auc":
                values[name] = Score(area_under(recall))
        total = len(found) + len(missing)
        return Scores(values, self.main_metric, len(found), total, split, tuple(missing))

    def weighed(self, predictions: Iterable[Segments], split: str = "test") -> Weighed | None:
        """None where the main score is one of proposals, which has no interval."""
        if not self.main_metric.startswith("map"):
            return None
        found, _, answers, known = self._answered(predictions, split)
        per_draw = _draws(rankings(answers, known, self._main_tious))
        return Weighed(found, lambda weights: per_draw(weights).mean(axis=1))

    def by_class(self, predictions: Iterable[Segments], split: str = "test") -> ByClass:
        """The average precision of each class that occurs, the mean over the thresholds of the main score."""
        found, _, answers, known = self._answered(predictions, split)
        once = np.ones(len(found))
        rows = {
            label: (float(one.average_precision(once).mean()), int(one.truths.sum()))
            for label, one in rankings(answers, known, self._main_tious).items()
        }
        return ByClass("average precision", "segments", rows)

    def read_sample(self, record: Mapping[str, Any]) -> SegmentSample:
        target = record["target"]
        segments = tuple(Segment(one["start"], one["end"], one["label"], 1.0) for one in target["segments"])
        spans = None if "annotated" not in target else tuple((start, end) for start, end in target["annotated"])
        classes = None if "classes_annotated" not in target else tuple(target["classes_annotated"])
        labels = tuple(dict.fromkeys(one.label for one in segments))
        return SegmentSample(*told(record), labels, timeline=Timeline(segments, spans, classes))

    @property
    def _main_tious(self) -> tuple[float, ...]:
        """The thresholds of the main score."""
        number = self.main_metric.partition("@")[2]
        return (float(number),) if number and self.main_metric.startswith("map") else self.tious

    def _answered(
        self, predictions: Iterable[Segments], split: str
    ) -> tuple[list[Sample], list[str], list[Segments], list[Timeline]]:
        """The videos that were predicted, the ids of the others, and of each what was answered and what is right."""
        given = {one.sample_id: one for one in predictions}
        found, missing = self.predicted(given.values(), split)
        answers = [given[sample.id] for sample in found]
        self._check_classes(answers)
        known = list(known_as_proposals(answers, [_timeline(sample) for sample in found]))
        if not any(known):
            raise InputError(f"task {self.name}, split {split}: no video that was predicted has a segment")
        return found, missing, answers, known

    def _check_classes(self, answers: Sequence[Segments]) -> None:
        for answer in answers:
            for one in answer.segments:
                if one.label not in self._known:
                    raise InputError(
                        f"{answer.sample_id}: predicted class {one.label!r} is none of task {self.name}"
                        f"{nearest(one.label, self.label_names)}"
                    )

    @property
    def _known(self) -> set[str]:
        return {*self.label_names, PROPOSAL}

    def _given(self, sample: Sample) -> list[str]:
        return [*super()._given(sample), str(self.describe_target(sample))]


def _timeline(sample: Sample) -> Timeline:
    return sample.timeline if isinstance(sample, SegmentSample) else Timeline(())


def _place(before: int, single: Sequence[float], name: str) -> tuple[int, int]:
    place = before + single.index(float(name.partition("@")[2]))
    return place, place + 1


def _draws(found: dict[str, Ranking]) -> Callable[[NDArray[Any]], NDArray[np.float64]]:
    """mAP at every threshold for rows of video weights `(R, V)` -> `(R, X)`; the same rows are computed once."""
    known: dict[bytes, NDArray[np.float64]] = {}

    def of(weights: NDArray[Any]) -> NDArray[np.float64]:
        key = hashlib.sha256(weights.tobytes()).digest()
        if key not in known:
            known[key] = np.stack([mean_average_precision(found, row.astype(np.float64)) for row in weights])
        return known[key]

    return of
