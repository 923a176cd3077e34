"""What a task is: samples by split, class names, metrics. Passive: it never sees a model. No torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from core_encoder.errors import InputError
from core_encoder.files.storage import nearest
from tasks.readers.annotations import Sample


@dataclass(frozen=True)
class Score:
    """One number and its 95 % interval, all fractions in [0, 1]."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{100 * self.value:.1f} [{100 * self.low:.1f}, {100 * self.high:.1f}]"


@dataclass(frozen=True)
class Scores:
    """What a task says of predictions: metrics by name, and how many samples of the split they cover."""

    values: Mapping[str, Score]
    main_metric: str
    n_evaluated: int
    n_total: int
    missing: tuple[str, ...] = ()

    @property
    def main(self) -> Score:
        """The score of the main metric."""
        return self.values[self.main_metric]

    def __str__(self) -> str:
        numbers = ", ".join(f"{name} {score}" for name, score in self.values.items())
        return f"{numbers} on {self.n_evaluated} of {self.n_total}"


@dataclass(frozen=True)
class Task:
    """A benchmark declared: a family adds targets and `judge`.

    Raises:
        InputError: the main metric is not one of the metrics.
    """

    name: str
    splits: Mapping[str, tuple[Sample, ...]]
    label_names: tuple[str, ...]
    metrics: tuple[str, ...]
    main_metric: str
    protocol: str
    family: ClassVar[str]

    def __post_init__(self) -> None:
        if self.main_metric not in self.metrics:
            raise InputError(
                f"task {self.name}: no metric {self.main_metric!r}{nearest(self.main_metric, self.metrics)}"
            )

    def samples(self, split: str) -> tuple[Sample, ...]:
        """The samples of a split.

        Raises:
            InputError: the task has no such split.
        """
        if split not in self.splits:
            raise InputError(f"task {self.name}: no {split!r} split{nearest(split, self.splits)}")
        return self.splits[split]

    def digest(self, split: str) -> str:
        """The sha256 of the sample ids and labels of a split and of the class names: equal only for equal data."""
        rows = sorted([sample.id, *sample.labels] for sample in self.samples(split))
        return hashlib.sha256(json.dumps([list(self.label_names), rows]).encode()).hexdigest()

    def __repr__(self) -> str:
        sizes = ", ".join(f"{name} {len(samples)}" for name, samples in self.splits.items())
        return f"{type(self).__name__}({self.name!r}: {len(self.label_names)} classes; {sizes}; {self.main_metric})"
