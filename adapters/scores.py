"""Scores: a number with its unit and, where one was computed, its interval; and all scores of one evaluation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from core_encoder.errors import InputError
from core_encoder.files.storage import nearest


@dataclass(frozen=True)
class Score:
    """One number and, where it was computed, its 95 % interval.

    `unit` says how people write it: `%` is a fraction shown times 100 (accuracy, mAP, recall, WUPS), anything else is
    shown as it is (`rank`, or nothing for CIDEr-like scores).

    Raises:
        ValueError: a number is not finite, or only one end of the interval is given.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}  # when read from a result
    value: float
    low: float | None = None
    high: float | None = None
    unit: str = "%"

    def __post_init__(self) -> None:
        if (self.low is None) != (self.high is None):
            raise ValueError("an interval has two ends")
        for number in (self.value, self.low, self.high):
            if number is not None and not math.isfinite(number):
                raise ValueError(f"a score must be finite, not {number}")

    @property
    def interval(self) -> tuple[float, float] | None:
        """The two ends, None where no interval was computed."""
        return None if self.low is None or self.high is None else (self.low, self.high)

    def shown(self, value: float) -> str:
        """A number of this score as people write it: `81.0` for the fraction 0.81."""
        return f"{100 * value:.1f}" if self.unit == "%" else f"{value:.4g}"

    def __str__(self) -> str:
        interval = self.interval
        ends = f" [{self.shown(interval[0])}, {self.shown(interval[1])}]" if interval else ""
        return self.shown(self.value) + ends + ("" if self.unit in ("%", "") else f" ({self.unit})")


@dataclass(frozen=True)
class Scores:
    """What a task says of predictions: metrics by name, and how many samples of the split they cover.

    Raises:
        InputError: the main metric is not among the scores.
    """

    values: Mapping[str, Score]
    main_metric: str
    n_evaluated: int
    n_total: int
    split: str = ""
    missing: tuple[str, ...] = ()  # ids of samples without a prediction

    def __post_init__(self) -> None:
        if self.main_metric not in self.values:
            raise InputError(f"no score of metric {self.main_metric!r}{nearest(self.main_metric, self.values)}")

    @property
    def main(self) -> Score:
        """The score of the main metric."""
        return self.values[self.main_metric]

    def __str__(self) -> str:
        numbers = ", ".join(f"{name} {score}" for name, score in self.values.items())
        return f"{numbers} on {self.n_evaluated} of {self.n_total}"
