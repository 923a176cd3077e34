"""A histogram filled value by value: what is known of a corpus's clips without holding one number per clip."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass
class Histogram:
    """Counts in `bins` equal bins over [low, high], and the exact count, mean, least and greatest value.

    Values outside count in the first or last bin, so quantiles are exact to one bin's width inside [low, high].
    """

    low: float
    high: float
    bins: int
    count: int = 0
    total: float = 0.0
    least: float = math.inf
    greatest: float = -math.inf
    counts: NDArray[np.int64] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not self.low < self.high or self.bins < 1:
            raise ValueError(f"a histogram needs low < high and a bin, not [{self.low}, {self.high}] in {self.bins}")
        self.counts = np.zeros(self.bins, dtype=np.int64)

    def add(self, value: float) -> None:
        """Count one finite value."""
        self.counts[self._bin(value)] += 1
        self.count += 1
        self.total += value
        self.least, self.greatest = min(self.least, value), max(self.greatest, value)

    def _bin(self, value: float) -> int:
        # The tolerance keeps multiples of the bin's width (0.29 = 29 * 0.01) in the bin that they begin.
        place = (value - self.low) / (self.high - self.low) * self.bins
        return min(max(math.floor(place + 1e-9), 0), self.bins - 1)

    @property
    def mean(self) -> float | None:
        return self.total / self.count if self.count else None

    def quantile(self, share: float) -> float | None:
        """The least value that at least `share` of the values do not exceed, to one bin's width."""
        if not self.count:
            return None
        wanted = max(math.ceil(share * self.count), 1)
        place = int(np.searchsorted(np.cumsum(self.counts), wanted))
        edge = self.low + place * (self.high - self.low) / self.bins
        if place == self.bins - 1:  # it also holds all greater values
            edge = self.greatest
        return min(max(edge, self.least), self.greatest)

    def counts_between(self, edges: Sequence[float]) -> list[int]:
        """Counts between rising `edges`; what lies outside counts in the first and the last interval.

        Exact where the edges are edges of the fine bins; else a fine bin counts where its centre lies.
        """
        width = (self.high - self.low) / self.bins
        centres = self.low + (np.arange(self.bins) + 0.5) * width
        places = np.clip(np.searchsorted(np.asarray(edges), centres, side="right") - 1, 0, len(edges) - 2)
        return [int(one) for one in np.bincount(places, weights=self.counts, minlength=len(edges) - 1)]

    def describe(self) -> dict[str, Any]:
        """Count, mean, extremes and quartiles, ready for JSON; None where there is no value."""
        return {
            "count": self.count,
            "mean": self.mean,
            "min": self.least if self.count else None,
            "quartiles": [self.quantile(share) for share in (0.25, 0.5, 0.75)] if self.count else None,
            "max": self.greatest if self.count else None,
        }
