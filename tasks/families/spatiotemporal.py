"""Who does what where: given boxes with classes, judged by frame mAP as the AVA benchmark is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from adapters.boxes import BoxScores
from adapters.card import CardText
from adapters.context import TargetSchema
from adapters.predictions import Box
from adapters.scores import Score, Scores
from core_encoder.errors import InputError
from core_encoder.files.storage import nearest
from tasks.metrics.bootstrap import bootstrap_interval, value_of
from tasks.metrics.frame_map import MOST_ROWS, FrameMAP, RankedBoxes, frame_map, ranked_boxes
from tasks.readers.ava import read_excluded
from tasks.readers.box_rows import LabelMap, read_label_map
from tasks.readers.boxes import BoxSample, Moments, asked_about, box_samples, default_label_map, read_box_rows
from tasks.readers.coco import category_ids
from tasks.sample import Sample
from tasks.splits import split_samples, split_warnings
from tasks.task import ByClass, Task, Weighed, as_text, told

PROTOCOL = "ava-frame-map-v1"
"""Frame mAP at IoU 0.5 over the moments that the ground truth lists (see `tasks.metrics.frame_map`); intervals are 95 %
percentile bootstraps of 1000 draws of whole videos."""
METRIC = "frame_map"


@dataclass(frozen=True, repr=False)
class SpatiotemporalTask(Task):
    """Moments of videos with given boxes, each of one class or of several."""

    multi_label: bool = True
    label_ids: tuple[int, ...] = ()  # the number of each class in annotation files; by default those of the samples
    most_rows: int | None = MOST_ROWS  # of a moment that count, a box and class each; None: all, as ChimpACT's do
    family: ClassVar[str] = "spatiotemporal localization"
    card: ClassVar[CardText] = CardText(
        pipeline_tag="",
        answers="boxes",
        given='{"boxes": [(0.1, 0.2, 0.4, 0.6)]}',
        averaging="Scores of several views of one moment are averaged as probabilities.",
        limits="It says what those in given boxes do; it finds nobody by itself.",
    )

    @classmethod
    def read_samples(
        cls,
        source: str | Path,
        *,
        videos: str | Path | None = None,
        val: str | Path | None = None,
        test: str | Path | None = None,
        labels: str | Path | None = None,
        excluded: Sequence[str | Path] = (),
        detections: str | Path | None = None,
        train_detections: str | Path | None = None,
        context: float | None = None,
        every: float | None = None,
        time_offset: float = 0.0,
        **columns: Any,
    ) -> list[BoxSample]:
        """The moments of annotation files (`tasks.readers.boxes`), one file for all or one a split.

        Args:
            videos: folder of the videos; by default that of `source`.
            labels: the classes that count, a label map; by default all that occur.
            excluded: files of moments that do not count.
            detections: boxes that are asked about instead of those of the ground truth, but in training.
            train_detections: boxes that are asked about in training beside those of the ground truth.
            context, every, time_offset: see `Moments`.

        Raises:
            InputError: one line with file, line, field and the fix.
        """
        given = next((name for name, value in columns.items() if value is not None), None)
        if given is not None:
            raise InputError(f"{given} means nothing here: boxes are read from AVA CSV, COCO-style JSON or MOT text")
        moments = Moments(**({} if context is None else {"context_s": context}), every_s=every, offset_s=time_offset)
        folder = Path(source).parent if videos is None else Path(videos)
        files = {None if val is None and test is None else "train": source, "val": val, "test": test}
        rows = {split: read_box_rows(file) for split, file in files.items() if file is not None}
        if labels is None:
            categories: dict[str, int] = {}
            for file in (one for one in files.values() if one is not None and Path(one).suffix.lower() == ".json"):
                categories |= category_ids(file)
            label_map = default_label_map([row for several in rows.values() for row in several], categories)
        else:
            label_map = read_label_map(labels)
        skipped = set().union(*(read_excluded(file) for file in excluded))
        found: list[BoxSample] = []
        for split, several in rows.items():
            samples = box_samples(several, folder, label_map, moments, skipped)
            if split != "train" and detections is not None:
                samples = asked_about(samples, _found(detections, folder, moments), Path(detections).name)
            if split == "train" and train_detections is not None:
                boxes = asked_about(samples, _found(train_detections, folder, moments), Path(train_detections).name)
                samples = [
                    replace(sample, asked=(*sample.asked, *more.asked), source=f"{sample.source} and {more.source}")
                    for sample, more in zip(samples, boxes, strict=True)
                ]
            found += [replace(sample, split=split) for sample in samples]
        if None in rows and train_detections is not None:
            raise InputError("train_detections needs the split to be given: name val or test as files of their own")
        _refuse_twice(found)
        return found

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
    ) -> SpatiotemporalTask:
        """A task over moments, split as `split_samples` says.

        Args:
            classes: in the order of their indices, such as those of the adapter to evaluate; else the label map's.
            multi_label: else whether anyone has no class or several.

        Raises:
            InputError: nobody has a label, or one that is not among `classes`.
        """
        moments = [sample for sample in samples if isinstance(sample, BoxSample)]
        label_map = moments[0].label_map if moments else LabelMap((), ())
        occurring = {label for sample in moments for label in sample.labels}
        if not occurring:
            raise InputError(f"task {name}: nobody in it has a label that counts")
        if classes is not None:
            for label in sorted(occurring):
                if label not in classes:
                    numbers = "; give the label map of the training with --labels"
                    hint = numbers if label.isdigit() else nearest(label, classes)
                    raise InputError(f"task {name}: label {label!r} is not a class of the adapter{hint}")
        names = tuple(label_map.names if classes is None else classes)
        splits = split_samples(moments, val_fraction, test_fraction, seed)
        ids = dict(zip(label_map.names, label_map.ids, strict=True))
        source = _source_of({split: members for split, members in splits.items() if split != "train"} or splits)
        return cls(
            name=name,
            splits={split: tuple(members) for split, members in splits.items()},
            label_names=names,
            metrics=(METRIC,),
            main_metric=METRIC,
            protocol=f"{PROTOCOL}, boxes: {source}",
            multi_label=_several(moments) if multi_label is None else multi_label,
            label_ids=tuple(ids.get(label, place) for place, label in enumerate(names, start=1)),
        )

    @property
    def schema(self) -> TargetSchema:
        return TargetSchema("boxes", self.label_names, self.multi_label)

    @property
    def record(self) -> Mapping[str, Any]:
        """The numbers of the classes in annotation files, and how much video was looked at around a moment."""
        moments = [sample for sample in self.samples("train") if isinstance(sample, BoxSample)]
        maps = (sample.label_map for sample in moments)
        ids = self.label_ids or next((one.ids for one in maps if one.names == self.label_names), ())
        return {"label_ids": list(ids), "context_s": max(sample.context_s for sample in moments)}

    def check(self, sample: Sample) -> None:
        """One of K means one class a box."""
        assert isinstance(sample, BoxSample)
        if not self.multi_label and _several([sample], at_least_one=False):
            raise InputError(f"{sample.id}: a box has several labels in a task of one label a box")

    def check_targets(self) -> None:
        for split in self.splits:
            if not any(sample.labels for sample in self.samples(split)):
                raise InputError(f"task {self.name}: nobody in the {split} split has a label that counts")

    @property
    def warnings(self) -> list[str]:
        return split_warnings(self.splits)

    def targets(self, samples: Sequence[Sample]) -> list[tuple[Box, ...]]:
        """The true boxes of each moment, one a box and label."""
        return [sample.actors if isinstance(sample, BoxSample) else () for sample in samples]

    def inputs(self, sample: Sample) -> Mapping[str, Any]:
        """Whom the adapter is asked about, when, and how large the picture is."""
        assert isinstance(sample, BoxSample)
        return {"boxes": sample.asked, "time_s": sample.time_s, "picture": sample.picture}

    def describe_target(self, sample: Sample) -> Any:
        assert isinstance(sample, BoxSample)
        return [{"box": list(box.corners), "label": box.label} for box in sample.actors]

    def _given(self, sample: Sample) -> list[str]:
        """Whom it is asked about, and what is right; nothing that only the video's file tells, as it may be gone."""
        assert isinstance(sample, BoxSample)
        asked = [[one.id, one.score, *one.at([sample.time_s])[0].tolist()] for one in sample.asked]
        return [as_text(asked), str(self.describe_target(sample))]

    def metric(self, name: str | None = None) -> FrameMAP:
        return FrameMAP(self.label_names, self.most_rows)

    def judge(
        self, predictions: Iterable[BoxScores], split: str = "test", *, seed: int = 0, num_draws: int = 1000
    ) -> Scores:
        """Frame mAP over the moments of a split; moments of a video that could not be read are left out and counted.

        Raises:
            InputError: no prediction, one of no sample in the split, or a class that the adapter does not know.
        """
        found, missing, ranked = self._ranked(predictions, split)

        def statistic(weights: Any) -> Any:
            return frame_map(ranked, weights)

        groups = [sample.clip.path for sample in found]
        value = value_of(statistic, len(found))
        low, high = bootstrap_interval(statistic, len(found), groups=groups, seed=seed, num_draws=num_draws)
        total = len(found) + len(missing)
        return Scores({METRIC: Score(value, low, high)}, METRIC, len(found), total, split, tuple(missing))

    def weighed(self, predictions: Iterable[BoxScores], split: str = "test") -> Weighed:
        found, _, ranked = self._ranked(predictions, split)
        return Weighed(found, lambda weights: frame_map(ranked, weights))

    def by_class(self, predictions: Iterable[BoxScores], split: str = "test") -> ByClass:
        """The average precision of each class."""
        found, _, ranked = self._ranked(predictions, split)
        once = np.ones((1, len(found)), dtype=np.float32)
        rows = {}
        for label, one in zip(self.label_names, ranked, strict=True):
            value = float(one.average_precision(once)[0])
            rows[label] = (None if np.isnan(value) else value, int(one.counts.sum()))
        return ByClass("average precision", "boxes", rows)

    def read_sample(self, record: Mapping[str, Any]) -> BoxSample:
        name, clip = told(record)
        actors = tuple(Box(0.0, tuple(one["box"]), one["label"], 1.0) for one in record["target"])
        labels = tuple(dict.fromkeys(box.label for box in actors))
        return BoxSample(name, clip, labels, video=clip.path, actors=actors)

    def _ranked(
        self, predictions: Iterable[BoxScores], split: str
    ) -> tuple[list[Sample], list[str], list[RankedBoxes]]:
        """The moments that were predicted, the ids of the others, and the boxes of each class, ranked."""
        given = {one.sample_id: one for one in predictions}
        found, missing = self.predicted(given.values(), split)
        answers = [given[sample.id] for sample in found]
        return found, missing, ranked_boxes(answers, self.targets(found), self.label_names, self.most_rows)


def _found(file: str | Path, folder: Path, moments: Moments) -> list[BoxSample]:
    """The moments of a file of boxes whose labels, where it has some, mean nothing."""
    rows = [replace(row, label=None) for row in read_box_rows(file)]
    return box_samples(rows, folder, LabelMap((), ()), moments)


def _refuse_twice(samples: Sequence[BoxSample]) -> None:
    seen: dict[str, BoxSample] = {}
    for sample in samples:
        if seen.setdefault(sample.id, sample) is not sample:
            raise InputError(
                f"{sample.id}: is in {seen[sample.id].split} and in {sample.split}; a moment belongs to one split"
            )


def _several(samples: Sequence[BoxSample], at_least_one: bool = True) -> bool:
    """Whether anyone has several labels, or (`at_least_one`) none."""
    for sample in samples:
        counts = {(one.id, tuple(one.at([sample.time_s])[0].tolist())): 0 for one in sample.people}
        for box in sample.actors:
            counts[box.track, box.corners] = counts.get((box.track, box.corners), 0) + 1
        if any(count > 1 or (at_least_one and count == 0) for count in counts.values()):
            return True
    return False


def _source_of(splits: Mapping[str, Sequence[Sample]]) -> str:
    sources = {sample.source for members in splits.values() for sample in members if isinstance(sample, BoxSample)}
    return " or ".join(sorted(sources))
