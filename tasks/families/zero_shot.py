"""Zero-shot classification: the class of a clip is told by words alone, nothing is trained."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from adapters.card import CardText
from adapters.prompt_templates import read_templates
from core_encoder.errors import InputError
from tasks.families.classification import ClassificationTask, Judged
from tasks.metrics.bootstrap import Floats, Statistic
from tasks.metrics.class_statistics import MULTI_LABEL, STATISTICS, RunningScore

PROTOCOL = "zero-shot-v1"
"""A class is the mean of the unit vectors of its name in every template, of unit length again; videos are named by the
highest cosine, and ranked by cosines, not by a softmax over them; the rest as in `classification-v1`."""

OF_SETS = "@sets"
SPREAD = "@sets_sd"


@dataclass(frozen=True, repr=False)
class ZeroShotTask(ClassificationTask):
    """Clips that are named by the class whose texts are nearest: its name in each of some templates.

    `templates` names a bundled set of them, or holds one. Clips of one label may also be judged by `map`, in which
    each class ranks all clips. `class_sets` name some of the classes each: `top1@sets` is the mean over the sets of the
    score that clips of a set reach among its classes alone, `top1@sets_sd` the standard deviation over the sets.

    Raises:
        InputError: no such templates, or a set that holds none of the classes.
    """

    templates: str = "clip-kinetics-v1"
    class_sets: tuple[tuple[str, ...], ...] = ()
    family: ClassVar[str] = "zero-shot classification"
    card: ClassVar[CardText] = ClassificationTask.card

    def __post_init__(self) -> None:
        read_templates(self.templates)
        for place, names in enumerate(self.class_sets, start=1):
            if not set(names) & set(self.label_names):
                raise InputError(
                    f"task {self.name}: class set {place} holds none of the {len(self.label_names)} classes"
                )
        super().__post_init__()

    @property
    def record(self) -> Mapping[str, Any]:
        """The templates, with the sha256 of their texts."""
        return read_templates(self.templates).describe()

    @property
    def ranks_clips(self) -> bool:
        """Whether a metric ranks clips by one class at a time: scores must then not depend on the other classes."""
        return any(name in MULTI_LABEL for name in self.metrics)

    def metric(self, name: str | None = None) -> RunningScore:
        if (chosen := name or self.main_metric) not in super()._fitting:
            raise InputError(f"task {self.name}: {chosen} is only judged at the end, of all answers")
        return super().metric(chosen)

    @property
    def _fitting(self) -> list[str]:
        if self.multi_label:
            return super()._fitting
        over = [f"{name}{ending}" for name in super()._fitting for ending in (OF_SETS, SPREAD) if self.class_sets]
        return [*super()._fitting, *MULTI_LABEL, *over]

    def _statistic(self, name: str, judged: Judged) -> Statistic:
        if "@" in name:
            return _over_sets(name, judged, self.class_sets)
        if name in MULTI_LABEL and not self.multi_label:
            one_hot = np.eye(len(judged.names), dtype=np.int64)[judged.targets]  # (n, K)
            return functools.partial(STATISTICS[name], judged.scores, one_hot)
        return super()._statistic(name, judged)


def _over_sets(name: str, judged: Judged, class_sets: tuple[tuple[str, ...], ...]) -> Statistic:
    """The mean or the standard deviation over the class sets of a metric among the classes of each."""
    base, combine = STATISTICS[name.partition("@")[0]], np.std if name.endswith(SPREAD) else np.mean
    parts = []
    for names in class_sets:
        columns = np.array([k for k, one in enumerate(judged.names) if one in set(names)])
        rows = np.flatnonzero(np.isin(judged.targets, columns))
        scores = judged.scores[np.ix_(rows, columns)]
        parts.append((rows, functools.partial(base, scores, np.searchsorted(columns, judged.targets[rows]))))

    def of(weights: NDArray[np.float32]) -> Floats:
        with np.errstate(invalid="ignore"):  # 0/0: no clip of a set was drawn
            each = [one(weights[:, rows]) for rows, one in parts]
        combined: Floats = combine(each, axis=0)
        return combined

    return of
