"""Detections of one class as a ranking: which comes first, and the area under precision over recall. No torch.

The evaluators of ActivityNet and of AVA share both: scores are sorted by `argsort()[::-1]`, and average precision is
PASCAL VOC's since 2010, at all points. The order of equal scores is therefore that of NumPy's sort on the same numbers:
any other rule, however sensible, gives another value.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]


def surest_first(scores: Floats) -> NDArray[np.intp]:
    """The places of scores `(P,)` from the highest to the lowest, equal ones as the official evaluators leave them."""
    return np.argsort(scores)[::-1]


def interpolated_average_precision(right: NDArray[Any], wrong: NDArray[Any], wanted: float) -> NDArray[np.float64]:
    """The average precision of detections, the surest first: how much each adds to right and wrong ones.

    Args:
        right: `(P,)`, or `(P, X)` for X thresholds: 1 where a detection is right, or its weight.
        wrong: the same of false alarms.
        wanted: how much there is to find, above 0.

    Returns:
        One value, or `(X,)`: the sum of the steps of recall, each times the best precision from there on.
    """
    found = np.cumsum(right, axis=0, dtype=np.float64)
    precision = found / np.maximum(found + np.cumsum(wrong, axis=0, dtype=np.float64), 1e-12)
    best_from_here = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
    area: NDArray[np.float64] = (np.diff(found, axis=0, prepend=0) / wanted * best_from_here).sum(axis=0)
    return area


def places_in_groups(groups: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
    """How many of the same group came before each: `[7, 3, 7, 7]` -> `[0, 0, 1, 2]`."""
    order = np.argsort(groups, kind="stable")
    ordered = groups[order]
    starts = np.flatnonzero(np.diff(ordered, prepend=ordered[:1] - 1))
    counts = np.diff(starts, append=len(groups))
    places = np.empty(len(groups), dtype=np.int64)
    places[order] = np.arange(len(groups)) - np.repeat(starts, counts)
    return places
