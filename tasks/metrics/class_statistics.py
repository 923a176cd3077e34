"""Classification scores as functions of sample weights: what every metric and every judgement is made of. No torch.

Rules that decide numbers, the same everywhere here:
- Ties count against the prediction: the target is in the top k only if fewer than k other classes score as high.
  Average precision takes tied samples together, at the precision after the last of them. Neither depends on order.
- Weights of 1 give the value, and the counts of bootstrap draws its interval. n samples, K classes, R draws.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tasks.metrics.bootstrap import Floats, value_of

if TYPE_CHECKING:
    from adapters.predictions import ClassScores, Truth

ClassStatistic = Callable[[Floats, NDArray[np.int64], NDArray[np.float32]], Floats]
"""Scores `(n, K)`, targets `(n,)` or `(n, K)`, sample weights `(R, n)` -> values `(R,)`, nan where not defined."""


def top_k_accuracy(scores: Floats, targets: NDArray[np.int64], weights: NDArray[np.float32], k: int = 1) -> Floats:
    """The share of samples whose class is among the k highest scores; with k >= K always 1."""
    hits = (target_ranks(scores, targets) < k).astype(np.float32)
    return weights @ hits / weights.sum(axis=1, dtype=np.float64)


def class_accuracy(
    scores: Floats, targets: NDArray[np.int64], weights: NDArray[np.float32], count_predicted_classes: bool = False
) -> Floats:
    """The mean over classes of the share of their samples that top-1 gets right.

    Over the classes that occur in the ground truth (balanced accuracy, scikit-learn's `balanced_accuracy_score`), or
    also over those that are only predicted, which count as 0 (torchmetrics' `MulticlassAccuracy(average="macro")` and
    mmaction2's `mean_class_accuracy`).
    """
    predicted = predicted_classes(scores, targets)
    present = np.unique(targets)
    members = (targets[:, None] == present).astype(np.float32)  # (n, C)
    totals = weights @ members  # (R, C)
    hits = weights @ (members * (predicted == targets)[:, None])
    recalls = np.divide(hits, totals, out=np.zeros_like(hits, dtype=np.float64), where=totals > 0)
    counted = (totals > 0).sum(axis=1)
    if count_predicted_classes:
        answered = weights @ (predicted[:, None] == present).astype(np.float32)
        others = np.setdiff1d(predicted, present)
        strays = weights @ (predicted[:, None] == others).astype(np.float32)
        counted = ((totals > 0) | (answered > 0)).sum(axis=1) + (strays > 0).sum(axis=1)
    return recalls.sum(axis=1) / counted


def mean_average_precision(
    scores: Floats, targets: NDArray[np.int64], weights: NDArray[np.float32], unlabelled_last: bool = False
) -> Floats:
    """The mean of `average_precisions` over the classes that have ground truth in the draw."""
    with np.errstate(invalid="ignore"):  # 0/0: no class has a positive in this draw
        values = average_precisions(scores, targets, weights, unlabelled_last)
        return np.nansum(values, axis=1) / (~np.isnan(values)).sum(axis=1)


def average_precisions(
    scores: Floats,
    targets: NDArray[np.int64],
    weights: NDArray[np.float32] | None = None,
    unlabelled_last: bool = False,
) -> NDArray[np.float64]:
    """The average precision of each class `(R, K)`, nan for a class without ground truth.

    The mean, over a class's positives, of the precision at their rank, without interpolation: the official Charades
    evaluation (`Charades_v1_classify.m`), and scikit-learn's `average_precision_score`. With `unlabelled_last` samples
    without any label sink below all others, as in the former, where they cannot be false positives above anything.
    """
    weights = np.ones((1, len(scores)), dtype=np.float32) if weights is None else weights
    if unlabelled_last:
        scores = np.where(targets.any(axis=1, keepdims=True), scores, -np.inf)
    values = np.full((len(weights), scores.shape[1]), np.nan)
    for k in np.flatnonzero(targets.any(axis=0)):
        values[:, k] = _average_precision(scores[:, k], targets[:, k], weights)
    return values


STATISTICS: Mapping[str, ClassStatistic] = {
    "top1": top_k_accuracy,
    "top5": functools.partial(top_k_accuracy, k=5),
    "mean_class_accuracy": class_accuracy,
    "macro_accuracy": functools.partial(class_accuracy, count_predicted_classes=True),
    "map": mean_average_precision,
}
"""Every scalar score by name."""

MULTI_LABEL = frozenset({"map"})
"""The scores of tasks whose samples may have several labels; the others are of tasks of one label a sample."""


class RunningScore:
    """A score by name over answers as they come, for choosing between epochs; rows of one id are views of a sample.

    The torchmetrics of the same names (`tasks.metrics.classification`) give the same values, and know of ranks.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._scores: list[tuple[str, Any]] = []
        self._targets: dict[str, Any] = {}

    def update(self, predictions: Sequence[ClassScores], samples: Sequence[Truth]) -> None:
        """Take answers, and what is known of their samples in the same order."""
        self._scores += [(one.sample_id, np.asarray(one.scores, dtype=np.float64)) for one in predictions]
        self._targets |= {known.id: np.asarray(known.target, dtype=np.int64) for known in samples}

    def compute(self) -> float:
        """The score of everything seen.

        Raises:
            InputError: it is not defined, because no class has ground truth.
        """
        names, rows = zip(*self._scores, strict=True)
        ids, scores = average_views(names, np.stack(rows))
        targets = np.stack([self._targets[name] for name in ids])
        return value_of(functools.partial(STATISTICS[self.name], scores, targets), len(ids))


def target_ranks(scores: Floats, targets: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many other classes score at least as high as the true one: scores `(n, K)`, targets `(n,)` -> `(n,)`."""
    own = np.take_along_axis(scores, targets[:, None], axis=1)
    return (scores >= own).sum(axis=1) - 1


def predicted_classes(scores: Floats, targets: NDArray[np.int64]) -> NDArray[np.int64]:
    """The class with the highest score `(n,)`; among tied ones a wrong class, the first."""
    others = scores.copy()
    np.put_along_axis(others, targets[:, None], -np.inf, axis=1)
    return np.where(target_ranks(scores, targets) == 0, targets, others.argmax(axis=1))


def confusion_matrix(scores: Floats, targets: NDArray[np.int64]) -> NDArray[np.int64]:
    """Counts `(K, K)` of true class (row) and predicted class (column)."""
    classes = scores.shape[1]
    cells = targets * classes + predicted_classes(scores, targets)
    return np.bincount(cells, minlength=classes**2).reshape(classes, classes)


def average_views(ids: Sequence[str], scores: Floats) -> tuple[list[str], NDArray[np.float64]]:
    """Average the probabilities of rows with one id: `(n, K)` -> the distinct ids, sorted, and their `(m, K)`."""
    unique, inverse = np.unique(np.asarray(ids, dtype=object).astype(str), return_inverse=True)
    return unique.tolist(), mean_rows(scores, inverse, len(unique))


def _average_precision(scores: Floats, positive: NDArray[np.int64], weights: NDArray[np.float32]) -> Floats:
    """Weighted average precision of one class: scores and positives `(n,)`, weights `(R, n)` -> `(R,)`.

    Copies of a sample in a bootstrap draw raise no precision of their own: taken as tied positives they would lift
    every draw, and the interval would miss the value (coverage 63 % instead of 96 % at 50 classes of 40 positives).
    """
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    at = np.flatnonzero(positive[order])  # ranks of the positives
    last_tied = np.searchsorted(-ranked, -ranked[at], side="right") - 1
    ends, starts, group = np.unique(last_tied, return_index=True, return_inverse=True)  # G scores of P positives
    ordered = weights[:, order]  # (R, n)
    own = ordered[:, at]  # (R, P)
    spans = np.concatenate([[0], ends[:-1] + 1])
    hits = np.add.reduceat(own, starts, axis=1).cumsum(axis=1, dtype=np.float64)  # (R, G) positives scored as high
    seen = np.add.reduceat(ordered[:, : ends[-1] + 1], spans, axis=1).cumsum(axis=1, dtype=np.float64)
    others = own - 1  # further copies of the same sample
    precisions = (hits[:, group] - others) / (seen[:, group] - others)
    with np.errstate(invalid="ignore"):  # nan where the draw holds no positive
        return (own * precisions).sum(axis=1) / hits[:, -1]


def mean_rows(scores: Floats, inverse: NDArray[np.int64], groups: int) -> NDArray[np.float64]:
    """The mean of the rows of each group: rows `(n, K)`, the group of each `(n,)` -> `(groups, K)`."""
    sums = np.zeros((groups, scores.shape[1]))
    np.add.at(sums, inverse, scores)
    return sums / np.bincount(inverse, minlength=groups)[:, None]
