"""Video classification: one label a clip, or any number of them."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from adapters.card import CardText
from adapters.context import TargetSchema
from adapters.predictions import ClassScores
from adapters.scores import Score, Scores
from core_encoder.errors import InputError
from core_encoder.files.storage import nearest
from tasks.metrics.bootstrap import Statistic, bootstrap_interval, value_of
from tasks.metrics.class_statistics import (
    MULTI_LABEL,
    STATISTICS,
    RunningScore,
    average_precisions,
    average_views,
    confusion_matrix,
)
from tasks.readers.annotations import is_multi_label, label_names, name_labels, read_class_list, read_samples
from tasks.sample import Sample
from tasks.splits import split_samples, split_warnings
from tasks.task import ByClass, Task, Weighed

PROTOCOL = "classification-v1"
"""Views are averaged as probabilities; ties count against the prediction; samples without a prediction are left out
and counted; intervals are 95 % percentile bootstraps of 1000 draws of whole videos."""


@dataclass(frozen=True, repr=False)
class ClassificationTask(Task):
    """Clips with one label each, judged by top-1, or with several, judged by mAP."""

    multi_label: bool = False
    family: ClassVar[str] = "classification"
    card: ClassVar[CardText] = CardText(
        pipeline_tag="video-classification",
        answers="top(5)",
        averaging="Scores of several views are averaged as probabilities.",
        limits="A video of none of the classes still gets one of their names.",
    )

    def __post_init__(self) -> None:
        for name in self.metrics:
            if name not in self._fitting:
                raise InputError(f"task {self.name}: no metric {name!r} for these labels{nearest(name, self._fitting)}")
        super().__post_init__()

    @property
    def _fitting(self) -> list[str]:
        """The metrics of such labels."""
        return [name for name in STATISTICS if (name in MULTI_LABEL) == self.multi_label]

    def check(self, sample: Sample) -> None:
        unknown = next((label for label in sample.labels if label not in self._index), None)
        if unknown is not None:
            raise InputError(f"{sample.id}: label {unknown!r} is not a class{nearest(unknown, self.label_names)}")
        if not self.multi_label and len(sample.labels) != 1:
            raise InputError(f"{sample.id}: has {len(sample.labels)} labels in a task of one label a clip")

    def check_targets(self) -> None:
        for split in self.splits:
            if not any(sample.labels for sample in self.samples(split)):
                raise InputError(f"task {self.name}: no sample of the {split} split has a label")

    @functools.cached_property
    def _index(self) -> dict[str, int]:
        return {label: k for k, label in enumerate(self.label_names)}

    @property
    def schema(self) -> TargetSchema:
        return TargetSchema("classes", self.label_names, self.multi_label)

    @classmethod
    def read_samples(cls, source: str | Path, *, videos: str | Path | None = None, **columns: Any) -> list[Sample]:
        """A folder or manifest of labelled videos, as `tasks.readers.annotations` reads it."""
        if videos is not None:
            raise InputError("videos means nothing here: folders of classes and manifests say where their videos are")
        return read_samples(source, **columns)

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
    ) -> ClassificationTask:
        """A task over samples, split as `split_samples` says.

        Args:
            classes: class names in the order of their indices, such as those of the adapter to evaluate; else the
                labels that occur, sorted.
            multi_label: else whether any sample has no label or several.
        """
        if classes is not None:
            samples = name_labels(samples, classes)
        names = label_names(samples) if classes is None else tuple(classes)
        if not names:
            raise InputError(f"task {name}: no sample has a label")
        several = is_multi_label(samples) if multi_label is None else multi_label
        metrics: tuple[str, ...] = ("map",) if several else ("top1", "top5", "mean_class_accuracy", "macro_accuracy")
        if len(names) <= 5:
            metrics = tuple(metric for metric in metrics if metric != "top5")  # it would always be 1
        splits = split_samples(samples, val_fraction, test_fraction, seed)
        return cls(
            name=name,
            splits={split: tuple(members) for split, members in splits.items()},
            label_names=names,
            metrics=metrics,
            main_metric=metrics[0],
            protocol=PROTOCOL,
            multi_label=several,
        )

    @classmethod
    def read(
        cls,
        source: str | Path,
        name: str | None = None,
        *,
        classes: str | Path | Sequence[str] | None = None,
        multi_label: bool | None = None,
        val_fraction: float = 0.15,
        test_fraction: float = 0.15,
        seed: int = 0,
        **columns: Any,
    ) -> ClassificationTask:
        """A task over a folder or manifest; `columns` are those of `read_samples`, `classes` also a file of names."""
        samples = cls.read_samples(source, **columns)
        return cls.from_samples(
            samples,
            name or Path(source).stem,
            classes=read_class_list(classes) if isinstance(classes, str | Path) else classes,
            multi_label=multi_label,
            val_fraction=val_fraction,
            test_fraction=test_fraction,
            seed=seed,
        )

    @property
    def warnings(self) -> list[str]:
        """One line for each thing to know of the splits, such as a class that only train has."""
        return split_warnings(self.splits)

    def targets(self, samples: Sequence[Sample], names: Sequence[str] | None = None) -> NDArray[np.int64]:
        """Class indices `(n,)`, or zeros and ones `(n, K)` when multi-label; `names` is another class order."""
        names = self.label_names if names is None else names
        index = {label: k for k, label in enumerate(names)}
        if not self.multi_label:
            return np.array([index[sample.labels[0]] for sample in samples], dtype=np.int64)
        targets = np.zeros((len(samples), len(names)), dtype=np.int64)
        for row, sample in zip(targets, samples, strict=True):
            row[[index[label] for label in sample.labels]] = 1
        return targets

    def metric(self, name: str | None = None) -> RunningScore:
        """A fresh metric by name, the main one by default, for use while training."""
        return RunningScore(name or self.main_metric)

    def judge(
        self, predictions: Iterable[ClassScores], split: str = "test", *, seed: int = 0, num_draws: int = 1000
    ) -> Scores:
        """Score predictions against a split; several predictions of one sample are views and are averaged.

        Classes that the adapter knows and the task does not are kept as possible wrong answers.

        Raises:
            InputError: no prediction, one of no sample in the split, or a class of the task the adapter does not know.
        """
        judged = self._judged(predictions, split)
        groups = [sample.clip.path for sample in judged.samples]
        values = {}
        for name in self.metrics:
            statistic = self._statistic(name, judged)
            try:
                value = value_of(statistic, len(groups))
            except InputError as error:
                raise InputError(f"task {self.name}, split {split}: {name}: {error}") from error
            low, high = bootstrap_interval(statistic, len(groups), groups=groups, seed=seed, num_draws=num_draws)
            values[name] = Score(value, low, high)
        total = len(judged.samples) + len(judged.missing)
        return Scores(values, self.main_metric, len(judged.samples), total, split, tuple(judged.missing))

    def weighed(self, predictions: Iterable[ClassScores], split: str = "test") -> Weighed:
        judged = self._judged(predictions, split)
        return Weighed(judged.samples, self._statistic(self.main_metric, judged))

    def by_class(self, predictions: Iterable[ClassScores], split: str = "test") -> ByClass:
        """Of samples of one label the share of each class that top-1 gets right, of several its average precision."""
        judged = self._judged(predictions, split)
        if self.multi_label:
            values, counts = average_precisions(judged.scores, judged.targets)[0], judged.targets.sum(axis=0)
        else:
            counted = confusion_matrix(judged.scores, judged.targets)
            counts = counted.sum(axis=1)
            values = np.divide(counted.diagonal(), counts, out=np.full(len(counts), np.nan), where=counts > 0)
        each = zip(judged.names, values.tolist(), counts.tolist(), strict=True)
        rows = {label: (None if np.isnan(value) else value, count) for label, value, count in each}
        return ByClass("average precision" if self.multi_label else "recall", "samples", rows)

    def _statistic(self, name: str, judged: Judged) -> Statistic:
        """A metric as a function of weights of the samples that were judged."""
        return functools.partial(STATISTICS[name], judged.scores, judged.targets)

    def confusion(self, predictions: Iterable[ClassScores], split: str = "test") -> NDArray[np.int64]:
        """Counts `(K, K)` of true class (row) and predicted class (column), in the predictions' class order."""
        if self.multi_label:
            raise InputError(f"task {self.name}: a confusion matrix needs one label a clip")
        judged = self._judged(predictions, split)
        return confusion_matrix(judged.scores, judged.targets)

    def _judged(self, predictions: Iterable[ClassScores], split: str) -> Judged:
        """The samples predicted, in the order of their ids, with their mean scores and targets."""
        predictions = list(predictions)
        _, missing = self.predicted(predictions, split)
        names = predictions[0].label_names
        absent = next((label for label in self.label_names if label not in names), None)
        if absent is not None:
            raise InputError(f"task {self.name}: class {absent!r} is unknown to the adapter{nearest(absent, names)}")
        for prediction in predictions:
            if prediction.label_names != names:
                raise InputError(f"{prediction.sample_id}: predicted with another class list than the first sample")
        rows = np.stack([np.asarray(prediction.scores, dtype=np.float64) for prediction in predictions])
        broken = np.flatnonzero(~np.isfinite(rows).all(axis=1))
        if len(broken):
            raise InputError(f"{predictions[broken[0]].sample_id}: the adapter's scores are not finite")
        ids, scores = average_views([prediction.sample_id for prediction in predictions], rows)
        by_id = {sample.id: sample for sample in self.samples(split)}
        samples = [by_id[one] for one in ids]
        return Judged(samples, missing, names, scores, self.targets(samples, names))


class Judged(NamedTuple):
    """What is judged: `names` are the classes in the order of the scores."""

    samples: list[Sample]
    missing: list[str]
    names: tuple[str, ...]
    scores: NDArray[np.float64]  # (n, K)
    targets: NDArray[np.int64]  # (n,) or (n, K)
