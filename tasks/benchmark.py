"""A benchmark is a declaration: which annotations, split how, judged by what, published where."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from core_encoder.clip_plan import ClipPlan
from core_encoder.errors import InputError
from core_encoder.files.storage import check_name
from tasks.readers.dataset_folder import DatasetFolder, MissingData
from tasks.sample import Sample
from tasks.task import LazySplits, Task

Reader = Callable[[DatasetFolder, str], Sequence[Sample]]
"""The folder of a data set and the official name of a split -> its samples."""
ClassReader = Callable[[DatasetFolder], Sequence[str]]
"""The folder of a data set -> its class names in the order of their indices."""


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """A public task with its protocol; its family holds the logic.

    Args:
        name: as it is asked for and reported.
        suite: the group of benchmarks it belongs to, such as `videoglue`.
        family: the `Task` subclass that judges it.
        reader: reads the samples of one split from the official annotation files.
        splits: the official name of each of our splits; `test` is the one that is judged, whatever its authors call
            it. Where there is a `train` and no `val`, training keeps some of `train` apart.
        metric: the metric that is reported; `metrics` others beside it.
        protocol: the versioned id of its rules, stored with every result.
        plan: how its clips are sampled for the published scores.
        head: the kind of adapter trained for them, with its options; empty for those that are answered without
            training, by an encoder's words.
        classes: class names, or how to read them; empty for families without classes.
        options: further fields of the family.
        folder: of its data set, below the root of all data sets; several benchmarks may share one. By default its name.
        annotations: the official annotation files, and where one gets them.
        videos: what the videos are called, and where one gets them.
        sizes: how many samples its authors count, by our split.
        unverified: what of its protocol could not be found, and what is done instead.
        published: scores others reported, in per cent: by metric, then by the name of the model.

    Raises:
        InputError: a name that cannot be part of a path, no split, or none that is judged.
    """

    name: str
    suite: str
    family: type[Task]
    reader: Reader
    splits: Mapping[str, str]
    metric: str
    protocol: str
    plan: ClipPlan
    licence: str
    citation: str
    classes: tuple[str, ...] | ClassReader = ()
    metrics: tuple[str, ...] = ()
    head: str = "map_classifier"
    head_options: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    folder: str = ""
    annotations: str = ""
    videos: str = ""
    sizes: Mapping[str, int] = field(default_factory=dict)
    unverified: tuple[str, ...] = ()
    published: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_name(self.name, "benchmark")
        check_name(self.folder or self.name, "folder of a benchmark")
        if "test" not in self.splits:
            raise InputError(f"benchmark {self.name}: names no split 'test', the one that is judged")

    @property
    def zero_shot(self) -> bool:
        """Whether it is answered without training."""
        return not self.head

    def folder_in(self, root: str | Path) -> Path:
        """The folder of its data set below that of all data sets.

        Raises:
            MissingData: there is none.
        """
        folder = Path(root).expanduser() / (self.folder or self.name)
        if not folder.is_dir():
            raise MissingData(f"{folder}: no such folder; put the files of {self.name} there: {self.annotations}")
        return folder

    def describe(self) -> dict[str, Any]:
        """What is declared, ready for JSON."""
        plain = ("name", "suite", "metric", "protocol", "head", "licence", "citation", "annotations", "videos")
        return {
            **{name: getattr(self, name) for name in plain},
            "family": self.family.family,
            "folder": self.folder or self.name,
            "metrics": [self.metric, *(name for name in self.metrics if name != self.metric)],
            "splits": dict(self.splits),
            "sizes": dict(self.sizes),
            "plan": self.plan.describe(),
            "unverified": list(self.unverified),
            "published": {metric: dict(scores) for metric, scores in self.published.items()},
        }

    def open(self, folder: str | Path) -> Task:
        """The task over the files in the folder of its data set; a split is read when it is first asked for.

        Raises:
            InputError: there is no such folder, or its class names cannot be read.
        """
        data = DatasetFolder(folder, self.annotations)
        names = self.classes(data) if callable(self.classes) else self.classes
        return self.family(
            name=self.name,
            splits=LazySplits({ours: partial(self.reader, data, theirs) for ours, theirs in self.splits.items()}),
            label_names=tuple(names),
            metrics=(self.metric, *(name for name in self.metrics if name != self.metric)),
            main_metric=self.metric,
            protocol=self.protocol,
            **self.options,
        )
