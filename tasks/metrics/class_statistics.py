"""Classification scores as functions of sample weights: what every metric and every judgement is made of. No torch.

Rules that decide numbers, the same everywhere here:
- Ties count against the prediction: the target is in the top k only if fewer than k other classes score as high.
  Average precision takes tied samples together, at the precision after the last of them. Neither depends on order.
- Weights of 1 give the value, and the counts of bootstrap draws its interval. n samples, K classes, R draws.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from core_encoder.errors import InputError
from core_encoder.files.storage import nearest
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


def charades_average_precisions(scores: Floats, targets: NDArray[np.int64]) -> NDArray[np.float64]:
    """The average precision of each class `(K,)` as `charades_map` computes it, nan for a class without ground truth.

    As `average_precisions` with `unlabelled_last`, but samples of equal scores count one after the other, in the order
    of NumPy's plain sort, as they do officially.
    """
    scores = np.where(targets.any(axis=1, keepdims=True), scores, -np.inf)
    values = np.full(scores.shape[1], np.nan)
    for k in np.flatnonzero(targets.any(axis=0)):
        ranks = np.flatnonzero(targets[np.argsort(-scores[:, k]), k]) + 1  # of the positives
        values[k] = (np.arange(1, len(ranks) + 1) / ranks).mean()
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

    It refuses what `checked_rows` refuses. The torchmetrics of the same names (`tasks.metrics.classification`) give the
    same values, and know of ranks.
    """

    def __init__(self, name: str) -> None:
        if name not in STATISTICS:
            raise InputError(f"unknown metric {name!r}{nearest(name, STATISTICS)}")
        self.name = name
        self._ids: list[str] = []
        self._rows: list[tuple[Floats, NDArray[np.int64]]] = []  # of each update

    def update(self, predictions: Sequence[ClassScores], samples: Sequence[Truth]) -> None:
        """Take answers, and what is known of their samples in the same order."""
        if len(predictions) or len(samples):
            width = self._rows[0][0].shape[1] if self._rows else len(predictions[0].scores) if predictions else 1
            self._rows.append(checked_rows(predictions, samples, width, self.name in MULTI_LABEL))
            self._ids += [one.sample_id for one in predictions]

    def compute(self) -> float:
        """The score of everything seen.

        Raises:
            InputError: it is not defined, because no class has ground truth.
            ValueError: no sample was added, or one was added with different targets.
        """
        if not self._rows:
            raise ValueError("no sample was scored")
        given = np.concatenate([targets for _, targets in self._rows])
        ids, scores = average_views(self._ids, np.concatenate([scores for scores, _ in self._rows]))
        first = dict(zip(reversed(self._ids), reversed(given), strict=True))
        if any((first[name] != target).any() for name, target in zip(self._ids, given, strict=True)):
            raise ValueError("one sample id was scored with different targets; ids must tell samples apart")
        targets = np.stack([first[name] for name in ids])
        return value_of(functools.partial(STATISTICS[self.name], scores, targets), len(ids))


def checked_rows(
    predictions: Sequence[ClassScores], samples: Sequence[Truth], num_classes: int, multi_label: bool
) -> tuple[Floats, NDArray[np.int64]]:
    """Scores `(B, K)` and targets `(B,)`, or `(B, K)` zeros and ones when multi-label.

    Raises:
        ValueError: answers of other classes or of other samples, scores that are not finite, or a target that is no
            class.
    """
    rows = len(predictions)
    if len(samples) != rows:
        raise ValueError(f"{rows} predictions need {rows} samples and views")
    for prediction, sample in zip(predictions, samples, strict=True):
        if prediction.sample_id != sample.id:
            raise ValueError(f"the prediction of {prediction.sample_id!r} stands beside sample {sample.id!r}")
        if len(prediction.scores) != num_classes:
            raise ValueError(f"{sample.id!r}: {len(prediction.scores)} scores, not {num_classes}")
    scores = np.stack([np.asarray(prediction.scores, dtype=np.float64) for prediction in predictions])
    targets = np.stack([np.asarray(sample.target) for sample in samples])
    expected = (rows, num_classes) if multi_label else (rows,)
    if targets.shape != expected:
        raise ValueError(f"targets {targets.shape} do not fit scores {expected}")
    if not np.isfinite(scores).all():
        raise ValueError("scores are not finite: the adapter answered NaN or infinity")
    highest = 1 if multi_label else num_classes - 1
    if ((targets < 0) | (targets > highest)).any():
        raise ValueError(f"targets must lie between 0 and {highest}")
    return scores, targets.astype(np.int64)


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
