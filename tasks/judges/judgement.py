"""What a judge of prediction files says, and how ids of one file that are not in the other are told."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

NAMED = 3  # ids that a note names, of however many


@dataclass(frozen=True)
class Judgement:
    """The scores of predictions that any program made.

    Args:
        task: which judge it was.
        protocol: the id of its rules.
        n: how many items of the truth were judged.
        metrics: values by name, None where one is not defined.
        per_class: the same by class, where there are classes.
        notes: one line for each thing to know, such as ids of one file that are not in the other.
    """

    task: str
    protocol: str
    n: int
    metrics: Mapping[str, float | None]
    per_class: Mapping[str, float | None] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def describe(self) -> dict[str, Any]:
        """`{"task", "protocol", "n", "metrics", "per_class"}`, ready for JSON."""
        about = {"task": self.task, "protocol": self.protocol, "n": self.n}
        return about | {"metrics": dict(self.metrics), "per_class": dict(self.per_class)}


def by_name(names: Sequence[str], values: Any) -> dict[str, float | None]:
    """Numbers by name, None for what is NaN."""
    listed = np.asarray(values, dtype=np.float64).tolist()
    return {name: None if math.isnan(value) else value for name, value in zip(names, listed, strict=True)}


def id_note(ids: Collection[str], what: str, consequence: str) -> tuple[str, ...]:
    """A note on ids that are in one file alone: how many, the first of them, what becomes of them; none for no ids."""
    if not ids:
        return ()
    named = ", ".join(repr(one) for one in sorted(ids)[:NAMED]) + (", ..." if len(ids) > NAMED else "")
    return (f"{len(ids)} {what} ({named}): {consequence}",)
