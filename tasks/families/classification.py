"""Video classification: one label a clip, or any number of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from adapters.predictions import ClassScores
from core_encoder.errors import InputError
from core_encoder.files.storage import nearest
from tasks.metrics.bootstrap import bootstrap_interval, value_of
from tasks.metrics.classification import METRICS, SampleMetric, average_views, confusion_matrix
from tasks.readers.annotations import Sample, is_multi_label, label_names, name_labels, read_class_list, read_samples
from tasks.splits import split_samples, split_warnings
from tasks.task import Score, Scores, Task

PROTOCOL = "classification-v1"
"""Views are averaged as probabilities; ties count against the prediction; samples without a prediction are left out
and counted; intervals are 95 % percentile bootstraps of 1000 draws of whole videos."""


@dataclass(frozen=True, repr=False)
class ClassificationTask(Task):
    """Clips with one label each, judged by top-1, or with several, judged by mAP."""

    multi_label: bool = False
    family: ClassVar[str] = "classification"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in self.metrics:
            if name not in METRICS or METRICS[name].multi_label != self.multi_label:
                fitting = [known for known, metric in METRICS.items() if metric.multi_label == self.multi_label]
                raise InputError(f"task {self.name}: no metric {name!r} for these labels{nearest(name, fitting)}")
        known = set(self.label_names)
        for sample in (sample for samples in self.splits.values() for sample in samples):
            unknown = next((label for label in sample.labels if label not in known), None)
            if unknown is not None:
                raise InputError(f"{sample.id}: label {unknown!r} is not a class{nearest(unknown, known)}")
            if not self.multi_label and len(sample.labels) != 1:
                raise InputError(f"{sample.id}: has {len(sample.labels)} labels in a task of one label a clip")

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
        samples = read_samples(source, **columns)
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

    def metric(self, name: str | None = None) -> SampleMetric:
        """A fresh metric by name, the main one by default, for use while training."""
        return METRICS[name or self.main_metric](len(self.label_names))

    def judge(
        self, predictions: Iterable[ClassScores], split: str = "test", *, seed: int = 0, num_draws: int = 1000
    ) -> Scores:
        """Score predictions against a split; several predictions of one sample are views and are averaged.

        Classes that the adapter knows and the task does not are kept as possible wrong answers.

        Raises:
            InputError: no prediction, one of no sample in the split, or a class of the task the adapter does not know.
        """
        evaluated, scores, targets, names = self._answers(predictions, split)
        groups = [sample.clip.path for sample in evaluated]
        values = {}
        for name in self.metrics:
            statistic = METRICS[name](len(names)).statistic(scores, targets)
            try:
                value = value_of(statistic, len(evaluated))
            except InputError as error:
                raise InputError(f"task {self.name}, split {split}: {name}: {error}") from error
            low, high = bootstrap_interval(statistic, len(evaluated), groups=groups, seed=seed, num_draws=num_draws)
            values[name] = Score(value, low, high)
        found = {sample.id for sample in evaluated}
        missing = tuple(sample.id for sample in self.samples(split) if sample.id not in found)
        return Scores(values, self.main_metric, len(evaluated), len(self.samples(split)), missing)

    def confusion(self, predictions: Iterable[ClassScores], split: str = "test") -> NDArray[np.int64]:
        """Counts `(K, K)` of true class (row) and predicted class (column), in the predictions' class order."""
        if self.multi_label:
            raise InputError(f"task {self.name}: a confusion matrix needs one label a clip")
        _, scores, targets, _ = self._answers(predictions, split)
        return confusion_matrix(scores, targets)

    def _answers(
        self, predictions: Iterable[ClassScores], split: str
    ) -> tuple[list[Sample], NDArray[np.float64], NDArray[np.int64], tuple[str, ...]]:
        """The samples predicted, in the order of their ids, with their mean scores and targets, and the class order."""
        predictions = list(predictions)
        by_id = {sample.id: sample for sample in self.samples(split)}
        if not predictions:
            raise InputError(f"task {self.name}: none of the {len(by_id)} samples of {split!r} was predicted")
        names = predictions[0].label_names
        absent = next((label for label in self.label_names if label not in names), None)
        if absent is not None:
            raise InputError(f"task {self.name}: class {absent!r} is unknown to the adapter{nearest(absent, names)}")
        for prediction in predictions:
            if prediction.sample_id not in by_id:
                raise InputError(f"task {self.name}: {prediction.sample_id!r} is no sample of {split!r}")
            if prediction.label_names != names:
                raise InputError(f"{prediction.sample_id}: predicted with another class list than the first sample")
        rows = np.stack([np.asarray(prediction.scores, dtype=np.float64) for prediction in predictions])
        broken = np.flatnonzero(~np.isfinite(rows).all(axis=1))
        if len(broken):
            raise InputError(f"{predictions[broken[0]].sample_id}: the adapter's scores are not finite")
        ids, scores = average_views([prediction.sample_id for prediction in predictions], rows)
        evaluated = [by_id[one] for one in ids]
        return evaluated, scores, self.targets(evaluated, names), names
