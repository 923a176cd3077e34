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
from tasks.sample import Sample
from tasks.task import LazySplits, Task

Reader = Callable[[Path, str], Sequence[Sample]]
"""The folder of a benchmark and the name of a split -> its samples."""
ClassReader = Callable[[Path], Sequence[str]]
"""The folder of a benchmark -> its class names in the order of their indices."""


@dataclass(frozen=True)
class Benchmark:
    """A public task with its protocol; its family holds the logic.

    Args:
        name: as it is asked for and reported.
        suite: the group of benchmarks it belongs to, such as `videoglue`.
        family: the `Task` subclass that judges it.
        reader: reads the samples of one split from the official annotation files.
        splits: the names of its splits.
        metric: the metric that is reported; `metrics` others beside it.
        plan: how its clips are sampled for the published scores.
        head: the kind of adapter trained for them, with its options.
        classes: class names, or how to read them; empty for families without classes.
        options: further fields of the family.
        published: scores others reported, by the name of the model, in the unit of the metric.

    Raises:
        InputError: a name that cannot be part of a path.
    """

    name: str
    suite: str
    family: type[Task]
    reader: Reader
    splits: tuple[str, ...]
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
    published: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_name(self.name, "benchmark")
        if not self.splits:
            raise InputError(f"benchmark {self.name}: names no split")

    def open(self, root: str | Path) -> Task:
        """The task over the files in `root`; a split is read when it is first asked for.

        Raises:
            InputError: there is no such folder, or its class names cannot be read.
        """
        folder = Path(root).expanduser()
        if not folder.is_dir():
            raise InputError(f"{root}: no such folder; put the annotations and videos of {self.name} there")
        names = self.classes(folder) if callable(self.classes) else self.classes
        return self.family(
            name=self.name,
            splits=LazySplits({split: partial(self.reader, folder, split) for split in self.splits}),
            label_names=tuple(names),
            metrics=(self.metric, *(name for name in self.metrics if name != self.metric)),
            main_metric=self.metric,
            protocol=self.protocol,
            **self.options,
        )
