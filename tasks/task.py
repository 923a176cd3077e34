"""What a task is: samples by split, targets, and a judge of predictions. Passive: it never sees a model. No torch."""

from __future__ import annotations

import functools
import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from adapters.context import TargetSchema
from adapters.predictions import Prediction, Truth
from adapters.scores import Scores
from core_encoder.clip_plan import Clip
from core_encoder.errors import InputError
from core_encoder.files.storage import nearest
from tasks.metrics.bootstrap import Statistic
from tasks.sample import Sample

if TYPE_CHECKING:
    from adapters.card import CardText
    from adapters.training.training_config import Metric


class LazySplits(Mapping[str, Sequence[Sample]]):
    """Splits by name, each read when its samples are first asked for."""

    def __init__(self, readers: Mapping[str, Callable[[], Sequence[Sample]]]) -> None:
        self._readers = dict(readers)
        self._read: dict[str, tuple[Sample, ...]] = {}

    def __getitem__(self, split: str) -> Sequence[Sample]:
        if split not in self._read:
            self._read[split] = tuple(self._readers[split]())
        return self._read[split]

    def __contains__(self, split: object) -> bool:
        return split in self._readers

    def __iter__(self) -> Iterator[str]:
        return iter(self._readers)

    def __len__(self) -> int:
        return len(self._readers)

    def was_read(self, split: str) -> bool:
        """Whether its samples are in memory already."""
        return split in self._read


@dataclass(frozen=True)
class Weighed:
    """The main score as a function of weights of the samples that were judged, as bootstraps want it.

    Weights of 1 give the score itself, in its own unit.
    """

    samples: Sequence[Sample]
    statistic: Statistic


@dataclass(frozen=True)
class ByClass:
    """The main score apart for each class: its value, None where it is not defined, and of how many.

    `score` says what it is, such as `average precision`; `counted` what is counted, such as `boxes`.
    """

    score: str
    counted: str
    rows: Mapping[str, tuple[float | None, int]]


@dataclass(frozen=True)
class Task(ABC):
    """Samples by split and the rules by which they are judged; a family adds `targets` and `judge`.

    `splits` may be `LazySplits`. `metrics` are names that `metric` and `judge` know.

    Raises:
        InputError: the main metric is not one of the metrics.
    """

    name: str
    splits: Mapping[str, Sequence[Sample]]
    label_names: tuple[str, ...]
    metrics: tuple[str, ...]
    main_metric: str
    protocol: str
    family: ClassVar[str]
    card: ClassVar[CardText]  # what the model cards of its adapters say

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "judge" not in vars(cls):
            return
        lacking = [name for name in ("family", "card") if not hasattr(cls, name)]
        lacking += [
            name
            for name in ("schema", "targets", "metric")
            if getattr(getattr(cls, name), "__isabstractmethod__", False)
        ]
        if lacking:
            raise InputError(
                f"task {cls.__name__} is not whole, or of an older prismhub: it judges but lacks {', '.join(lacking)}; "
                "see 'Write a task' in docs/tasks.md"
            )

    def __post_init__(self) -> None:
        if self.main_metric not in self.metrics:
            raise InputError(
                f"task {self.name}: no metric {self.main_metric!r}{nearest(self.main_metric, self.metrics)}"
            )
        if not isinstance(self.splits, LazySplits):
            for split in self.splits:
                self.samples(split)

    @classmethod
    def read_samples(cls, source: str | Path, **columns: Any) -> Sequence[Sample]:
        """A user's own data as samples, where the family offers it; `columns` names what `--label-column` and such do.

        Raises:
            InputError: the family does not, or one line with file, line, field and the fix.
        """
        raise InputError(f"tasks of family {cls.family!r} cannot be read from own data")

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
    ) -> Task:
        """A task over a user's own samples, where the family offers it.

        Raises:
            InputError: the family does not, or the samples do not fit.
        """
        raise InputError(f"tasks of family {cls.family!r} cannot be made of own samples")

    @property
    @abstractmethod
    def schema(self) -> TargetSchema:
        """What the targets are: an adapter is built for it."""

    @abstractmethod
    def targets(self, samples: Sequence[Sample]) -> Any:
        """The targets of samples, `len(samples)` of them, as adapters of the schema learn them."""

    @abstractmethod
    def metric(self, name: str | None = None) -> Metric:
        """A fresh metric by name, the main one by default, for use while training."""

    @abstractmethod
    def judge(self, predictions: Iterable[Any], split: str = "test", *, seed: int = 0, num_draws: int = 1000) -> Scores:
        """Score predictions against a split, with intervals of `num_draws` bootstrap draws where the family has them.

        Raises:
            InputError: no prediction, or one of no sample in the split.
        """

    def weighed(self, predictions: Iterable[Any], split: str = "test") -> Weighed | None:
        """The main score of predictions as a function of weights of their samples; None where the family has none.

        Raises:
            InputError: what `judge` refuses.
        """
        return None

    def by_class(self, predictions: Iterable[Any], split: str = "test") -> ByClass | None:
        """The main score apart for each class, or type of question; None where the family has none.

        Raises:
            InputError: what `judge` refuses.
        """
        return None

    def describe_sample(self, sample: Sample) -> dict[str, Any]:
        """What judging needs of a sample beside its id and its video, ready for JSON; `read_sample` takes it back."""
        return {"target": self.describe_target(sample)}

    def read_sample(self, record: Mapping[str, Any]) -> Sample:
        """The sample of an `id`, a `video` and of what `describe_sample` wrote, as far as judging needs it.

        Raises:
            KeyError, TypeError, ValueError: the record is not of this family.
        """
        return Sample(*told(record), tuple(record["target"]))

    def check(self, sample: Sample) -> None:  # noqa: B027 (not every family has something to refuse)
        """Refuse a sample that does not fit the family.

        Raises:
            InputError: which sample, and why.
        """

    def check_metric(self, name: str) -> None:
        """Refuse a metric that the task does not have.

        Raises:
            InputError: which, and the nearest one.
        """
        if name not in self.metrics:
            raise InputError(f"unknown metric {name!r}{nearest(name, self.metrics)}")

    def check_targets(self) -> None:  # noqa: B027 (not every family can lack targets)
        """Refuse splits in which there is nothing to learn or to judge.

        Raises:
            InputError: which split.
        """

    def check_judging(self) -> None:  # noqa: B027 (most metrics need nothing)
        """Refuse to be judged where a metric lacks what it needs on this machine; asked before hours of work.

        Raises:
            InputError: what is missing.
        """

    def check_length(self, sample: Sample, length_s: float) -> None:  # noqa: B027 (not every family has times)
        """Refuse a sample that says something of a time after its video ends; asked once its features are there.

        Raises:
            InputError: which sample, and of what time.
        """

    @property
    def record(self) -> Mapping[str, Any]:
        """What adapters record of the task for later, ready for JSON; nothing by default."""
        return {}

    def describe_target(self, sample: Sample) -> Any:
        """What is right for a sample, ready for JSON."""
        return list(sample.labels)

    def inputs(self, sample: Sample) -> Mapping[str, Any]:
        """What is given to the adapter beside the video (a question, boxes); nothing by default."""
        return {}

    def samples(self, split: str) -> Sequence[Sample]:
        """The samples of a split, checked.

        Raises:
            InputError: the task has no such split, its files cannot be read, or a sample does not fit.
        """
        if split not in self.splits:
            raise InputError(f"task {self.name}: no {split!r} split{nearest(split, self.splits)}")
        try:
            samples = self.splits[split]
        except OSError as error:
            raise InputError(f"task {self.name}: the {split} split cannot be read: {error}") from error
        if split not in self._checked:
            for sample in samples:
                self.check(sample)
            self._checked.add(split)
        return samples

    @functools.cached_property
    def _checked(self) -> set[str]:
        return set()

    def truths(self, samples: Sequence[Sample]) -> list[Truth]:
        """What is known of samples, as metrics take it."""
        targets = self.targets(samples)
        return [Truth(s.id, target, self.inputs(s)) for s, target in zip(samples, targets, strict=True)]

    def predicted(self, predictions: Iterable[Prediction], split: str) -> tuple[list[Sample], list[str]]:
        """The samples of a split that have a prediction, in its order, and the ids of those without.

        Raises:
            InputError: no prediction, or one of no sample in the split.
        """
        by_id = {sample.id: sample for sample in self.samples(split)}
        found = {prediction.sample_id for prediction in predictions}
        if not found:
            raise InputError(f"task {self.name}: none of the {len(by_id)} samples of {split!r} was predicted")
        if strange := sorted(found - by_id.keys()):
            raise InputError(f"task {self.name}: {strange[0]!r} is no sample of {split!r}")
        return [s for name, s in by_id.items() if name in found], [name for name in by_id if name not in found]

    @property
    def warnings(self) -> list[str]:
        """One line for each thing to know of the splits; nothing by default."""
        return []

    def digest(self, split: str) -> str:
        """The sha256 of a split's sample ids, labels and inputs and of the class names: equal only for equal data."""
        rows = sorted([sample.id, *sample.labels, *self._given(sample)] for sample in self.samples(split))
        return hashlib.sha256(json.dumps([list(self.label_names), rows]).encode()).hexdigest()

    def _given(self, sample: Sample) -> list[str]:
        """The inputs of a sample as text, nothing where there are none."""
        inputs = self.inputs(sample)
        return [f"{name}={as_text(inputs[name])}" for name in sorted(inputs)]

    def __repr__(self) -> str:
        read = self.splits.was_read if isinstance(self.splits, LazySplits) else lambda split: True
        sizes = ", ".join(f"{name} {len(self.splits[name]) if read(name) else '(not read)'}" for name in self.splits)
        classes = f"{len(self.label_names)} classes; " if self.label_names else ""
        return f"{type(self).__name__}({self.name!r}: {classes}{sizes}; {self.main_metric})"


def as_text(value: Any) -> str:
    """All of a value, arrays and tensors in full."""
    return json.dumps(value, default=lambda one: one.tolist() if hasattr(one, "tolist") else str(one))


def part_of(clip: Clip) -> list[str]:
    """Which seconds of its video a clip is, as text; nothing of a whole video."""
    whole = clip.start_s == 0.0 and clip.end_s is None
    return [] if whole else [f"{clip.start_s:g} to {'the end' if clip.end_s is None else f'{clip.end_s:g}'}"]


def told(record: Mapping[str, Any]) -> tuple[str, Clip]:
    """The id of a sample and its video, from a record of it."""
    return record["id"], Clip(record["video"])
