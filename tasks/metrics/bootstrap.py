"""Bootstrap intervals of statistics of weighted samples. No torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from core_encoder.errors import InputError

Floats = NDArray[np.floating[Any]]
Statistic = Callable[[NDArray[np.float32]], Floats]
"""Sample weights `(R, n)` -> values `(R,)`; nan where the statistic is not defined."""


def bootstrap_interval(
    statistic: Statistic | ArrayLike,
    num_samples: int | None = None,
    *,
    groups: Iterable[object] | None = None,
    seed: int = 0,
    num_draws: int = 1000,
    level: float = 0.95,
) -> tuple[float, float]:
    """The percentile bootstrap interval of a statistic of the samples.

    Args:
        statistic: sample weights `(R, n)` -> values `(R,)`, or one value a sample whose mean is meant.
        num_samples: n; needed with a function.
        groups: what each sample belongs to; whole groups are drawn, since clips of one video are not independent.

    Raises:
        ValueError: no samples, or the statistic is defined in no draw.
    """
    if not callable(statistic):
        per_sample = np.asarray(statistic, dtype=np.float64)
        num_samples = len(per_sample)
        return bootstrap_interval(
            lambda weights: weights @ per_sample / weights.sum(axis=1),
            num_samples,
            groups=groups,
            seed=seed,
            num_draws=num_draws,
            level=level,
        )
    if not num_samples:
        raise ValueError("an interval needs at least one sample")
    names = range(num_samples) if groups is None else groups
    index: dict[object, int] = {}
    group = np.array([index.setdefault(name, len(index)) for name in names])
    if group.shape != (num_samples,):
        raise ValueError(f"{num_samples} samples need as many groups, not {len(group)}")
    rng = np.random.default_rng(seed)
    values = []
    rows = max(1, min(num_draws, 4_000_000 // num_samples))  # bounds the memory of the weights
    for start in range(0, num_draws, rows):
        draws = min(rows, num_draws - start)
        drawn = rng.integers(len(index), size=(draws, len(index)))
        drawn += np.arange(draws)[:, None] * len(index)
        counts = np.bincount(drawn.ravel(), minlength=draws * len(index)).reshape(draws, len(index))
        values.append(np.asarray(statistic(counts.astype(np.float32)[:, group])))
    defined = np.concatenate(values)
    defined = defined[~np.isnan(defined)]
    if not len(defined):
        raise ValueError("the metric is defined in no bootstrap draw: is there ground truth?")
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def value_of(statistic: Statistic, num_samples: int) -> float:
    """The statistic with every sample counted once.

    Raises:
        InputError: it is not defined, because no class has ground truth.
    """
    value = float(statistic(np.ones((1, num_samples), dtype=np.float32))[0])
    if np.isnan(value):
        raise InputError("the metric is not defined: no class has ground truth")
    return value


def mean_of(values: Floats) -> Statistic:
    """The mean of one value a sample `(n,)`, as a function of weights `(R, n)` -> `(R,)`."""

    def of(weights: NDArray[np.float32]) -> Floats:
        each = weights.astype(np.float64)
        mean: Floats = each @ values / each.sum(axis=1)
        return mean

    return of


def means_by(kinds: Iterable[str], values: Iterable[float]) -> dict[str, tuple[float, int]]:
    """The mean of the values of each kind, and how many they are, by the names of the kinds in order."""
    found: dict[str, list[float]] = {}
    for kind, value in zip(kinds, values, strict=True):
        found.setdefault(kind, []).append(value)
    return {kind: (sum(several) / len(several), len(several)) for kind, several in sorted(found.items())}
