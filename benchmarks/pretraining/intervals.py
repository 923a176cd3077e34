"""95 % intervals of shares and of means over pretraining seeds and test clips. No torch."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from adapters.scores import Score

LEVEL = 0.95
_NORMAL = 1.959963984540054  # the 97.5 % quantile of the normal distribution


@dataclass(frozen=True)
class Interval:
    """An estimate and its 95 % interval."""

    value: float
    low: float
    high: float

    def scaled(self, factor: float) -> Interval:
        """The same in another unit; `factor` is positive."""
        return Interval(factor * self.value, factor * self.low, factor * self.high)

    def record(self) -> Score:
        return Score(self.value, self.low, self.high)

    def __str__(self) -> str:
        return f"{self.value:.1f} [{self.low:.1f}, {self.high:.1f}]"


def share(hits: ArrayLike) -> Interval:
    """The share of hits `(n,)` with Wilson's interval.

    Raises:
        ValueError: there is no hit to count.
    """
    counted = np.asarray(hits, dtype=bool)
    n = counted.size
    if n == 0:
        raise ValueError("a share needs at least one clip")
    p, z2 = float(counted.mean()), _NORMAL**2
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = _NORMAL / (1 + z2 / n) * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    return Interval(p, min(p, max(0.0, centre - half)), max(p, min(1.0, centre + half)))


def mean_over_seeds(values: ArrayLike) -> Interval:
    """The mean of `values (S, n)`, one row a pretraining seed and one column a test clip, which all seeds share.

    Both are samples: another seed gives another encoder, another draw gives other clips. With the two-way model
    `mean + seed + clip + rest` the variance of the mean is `seed / S + clip / n + rest / (S n)`. Its parts are
    estimated from the variances of row means, of column means and of what is left (analysis of variance; no part is
    below 0). The interval is Student's t with Satterthwaite's degrees of freedom, the seeds' part counted as `S - 1` of
    them: with three seeds of different worth it is wide, as it should be. One row tells nothing about other seeds: its
    interval is over clips alone. Two encoders are compared by their differences clip by clip, so that what is hard for
    both cancels.

    Raises:
        ValueError: fewer than 2 clips, or no table.
    """
    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 2 or table.shape[0] < 1 or table.shape[1] < 2:
        raise ValueError(f"values must be (seeds, clips) with 2 clips or more, not {table.shape}")
    seeds, clips = table.shape
    mean = float(table.mean())
    by_clip = float(table.mean(0).var(ddof=1)) / clips
    if seeds == 1:
        variance, freedom = by_clip, float(clips - 1)
    else:
        by_seed = float(table.mean(1).var(ddof=1)) / seeds
        left = table - table.mean(0) - table.mean(1, keepdims=True) + mean
        rest = float(np.square(left).sum()) / ((seeds - 1) * (clips - 1)) / (seeds * clips)
        of_seeds, of_clips = max(by_seed, rest), max(by_clip - rest, 0.0)
        variance = of_seeds + of_clips
        spread = of_seeds**2 / (seeds - 1) + of_clips**2 / (clips - 1)
        freedom = variance**2 / spread if spread else float(clips - 1)
    half = t_quantile(0.5 + LEVEL / 2, freedom) * math.sqrt(variance)
    return Interval(mean, mean - half, mean + half)


def t_quantile(probability: float, freedom: float) -> float:
    """The quantile of Student's t for a probability of 0.5 or more; `freedom` is 1 or more, not always whole.

    With `t = sqrt(freedom) tan(angle)` the density becomes `cos(angle) ** (freedom - 1)`, which is integrated.
    """
    angle = np.linspace(0, min(math.pi / 2, 10 / math.sqrt(freedom)), 20_001)  # nothing is left beyond
    density: NDArray[np.float64] = np.cos(angle) ** (freedom - 1)
    reached = np.concatenate([[0.0], np.cumsum(density[1:] + density[:-1])])
    return math.sqrt(freedom) * math.tan(float(np.interp(2 * probability - 1, reached / reached[-1], angle)))
