"""Classification metrics, keyed by sample id, each with a bootstrap interval.

Rules that decide numbers, the same everywhere here:
- A sample counts once. Rows of one id are averaged: they are views of the sample, or the padding of a distributed
  sampler. Scores are therefore probabilities (softmax, or sigmoid when multi-label), as the published multi-view
  protocols average them.
- Ties count against the prediction: the target is in the top k only if fewer than k other classes score as high.
  Average precision takes tied samples together, at the precision after the last of them. Neither depends on order.
- Samples that were not predicted are not here; the result says how many of how many were.

Every metric is a function of sample weights, `resampled(scores (n, K), targets, weights (R, n)) -> (R,)`: weights of 1
give the value, and the counts of bootstrap draws its interval. n samples, K classes, R draws.
"""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric

from tasks.metrics.bootstrap import Floats, Statistic, value_of


class Rows(NamedTuple):
    """One row a sample, ordered by the ids alone: keys `(n, 2)`, scores `(n, K)`, targets `(n,)` or `(n, K)`."""

    keys: NDArray[np.int64]
    scores: NDArray[np.float64]
    targets: NDArray[np.int64]


class SampleMetric(Metric):
    """A metric over samples with scores `(B, K)`; equal whatever the batches, the ranks and the padding.

    Args:
        num_classes: K.
    """

    name: ClassVar[str]
    multi_label: ClassVar[bool] = False
    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    keys: list[Tensor]
    scores: list[Tensor]
    targets: list[Tensor]

    def __init__(self, num_classes: int, **options: Any) -> None:
        super().__init__(**options)
        if num_classes < 1:
            raise ValueError(f"num_classes must be at least 1, not {num_classes}")
        self.num_classes = num_classes
        for state in ("keys", "scores", "targets"):
            self.add_state(state, default=[], dist_reduce_fx="cat")

    def update(
        self,
        scores: Tensor,
        targets: Tensor,
        ids: Sequence[str] | Sequence[int] | Tensor,
        views: Sequence[int] | Tensor | None = None,
    ) -> None:
        """Add a batch: scores `(B, K)`, targets `(B,)` class indices or `(B, K)` zeros and ones, one id a row.

        Args:
            views: which view of its sample each row is; a (sample, view) then counts once. Without it every row of a
                sample has the same weight in its average.

        Raises:
            ValueError: shapes do not fit, scores are not finite, or a target is not a class.
        """
        rows = scores.shape[0]
        expected = (rows, self.num_classes)
        if scores.shape != expected:
            raise ValueError(f"scores must be (B, {self.num_classes}), not {tuple(scores.shape)}")
        if targets.shape != (expected if self.multi_label else expected[:1]):
            raise ValueError(f"targets {tuple(targets.shape)} do not fit scores {expected} of {type(self).__name__}")
        names = ids.tolist() if isinstance(ids, Tensor) else list(ids)
        if len(names) != rows or (views is not None and len(views) != rows):
            raise ValueError(f"{rows} rows of scores need {rows} ids and views")
        if not bool(torch.isfinite(scores).all()):
            raise ValueError("scores are not finite: the adapter answered NaN or infinity")
        highest = 1 if self.multi_label else self.num_classes - 1
        if bool(((targets < 0) | (targets > highest)).any()):
            raise ValueError(f"targets must lie between 0 and {highest}")
        view = torch.full((rows, 1), -1) if views is None else torch.as_tensor(views).reshape(rows, 1)
        keys = torch.cat([sample_keys(names), view.long().cpu()], dim=1)  # (B, 3)
        self.keys.append(keys.to(self.device))
        self.scores.append(scores.detach().float().to(self.device))
        self.targets.append(targets.detach().long().to(self.device))

    def sync(self, *args: Any, **kwargs: Any) -> None:
        """Gather over ranks; one that saw no sample brings empty states of the right shape and type."""
        if not self.keys:
            self.keys.append(torch.zeros(0, 3, dtype=torch.long, device=self.device))
            self.scores.append(torch.zeros(0, self.num_classes, device=self.device))
            shape = (0, self.num_classes) if self.multi_label else (0,)
            self.targets.append(torch.zeros(shape, dtype=torch.long, device=self.device))
        super().sync(*args, **kwargs)

    def rows(self) -> Rows:
        """One row a sample, views averaged.

        Raises:
            ValueError: no sample was added, or one was added with different targets.
        """
        keys = _cat(self.keys, (0, 3))
        if len(keys) == 0:
            raise ValueError("no sample was scored")
        scores, targets = _cat(self.scores, (0,)), _cat(self.targets, (0,))
        keys[keys[:, 2] < 0, 2] = -1 - np.arange((keys[:, 2] < 0).sum())  # rows without a view all count
        first = np.sort(np.unique(keys, axis=0, return_index=True)[1])
        keys, scores, targets = keys[first], scores[first], targets[first]
        unique, first, inverse = np.unique(keys[:, :2], axis=0, return_index=True, return_inverse=True)
        if (targets[first][inverse.ravel()] != targets).any():
            raise ValueError("one sample id was scored with different targets; ids must tell samples apart")
        return Rows(unique, _means(scores, inverse.ravel(), len(unique)), targets[first])

    def compute(self) -> Tensor:
        """The value over all samples added, a scalar."""
        _, scores, targets = self.rows()
        return torch.tensor(value_of(self.statistic(scores, targets), len(scores)), device=self.device)

    def statistic(self, scores: Floats, targets: NDArray[np.int64]) -> Statistic:
        """`resampled` with scores and targets bound: sample weights `(R, n)` -> values `(R,)`."""
        return lambda weights: self.resampled(scores, targets, weights)

    @abstractmethod
    def resampled(self, scores: Floats, targets: NDArray[np.int64], weights: NDArray[np.float32]) -> Floats:
        """The value for each row of sample weights `(R, n)`; nan where it is not defined."""


class TopKAccuracy(SampleMetric):
    """The share of samples whose class is among the k highest scores; with k >= K always 1."""

    name = "top1"

    def __init__(self, num_classes: int, k: int = 1, **options: Any) -> None:
        super().__init__(num_classes, **options)
        if k < 1:
            raise ValueError(f"k must be at least 1, not {k}")
        self.k = k

    def resampled(self, scores: Floats, targets: NDArray[np.int64], weights: NDArray[np.float32]) -> Floats:
        hits = (target_ranks(scores, targets) < self.k).astype(np.float32)
        return weights @ hits / weights.sum(axis=1, dtype=np.float64)


class Top5Accuracy(TopKAccuracy):
    """`TopKAccuracy` with k = 5."""

    name = "top5"

    def __init__(self, num_classes: int, **options: Any) -> None:
        super().__init__(num_classes, k=5, **options)


class MeanClassAccuracy(SampleMetric):
    """The mean, over the classes that occur in the ground truth, of the share of their samples that top-1 gets right.

    Also called balanced accuracy (scikit-learn's `balanced_accuracy_score`) and mean per-class recall.
    """

    name = "mean_class_accuracy"
    count_predicted_classes: ClassVar[bool] = False

    def resampled(self, scores: Floats, targets: NDArray[np.int64], weights: NDArray[np.float32]) -> Floats:
        predicted = predicted_classes(scores, targets)
        present = np.unique(targets)
        members = (targets[:, None] == present).astype(np.float32)  # (n, C)
        totals = weights @ members  # (R, C)
        hits = weights @ (members * (predicted == targets)[:, None])
        recalls = np.divide(hits, totals, out=np.zeros_like(hits, dtype=np.float64), where=totals > 0)
        counted = (totals > 0).sum(axis=1)
        if self.count_predicted_classes:
            answered = weights @ (predicted[:, None] == present).astype(np.float32)
            others = np.setdiff1d(predicted, present)
            strays = weights @ (predicted[:, None] == others).astype(np.float32)
            counted = ((totals > 0) | (answered > 0)).sum(axis=1) + (strays > 0).sum(axis=1)
        return recalls.sum(axis=1) / counted


class MacroAccuracy(MeanClassAccuracy):
    """As `MeanClassAccuracy`, but a class that is only predicted and never true counts as 0.

    The definition of torchmetrics' `MulticlassAccuracy(average="macro")` and of mmaction2's `mean_class_accuracy`.
    Equal to `MeanClassAccuracy` whenever every class occurs in the ground truth, as in the published test sets.
    """

    name = "macro_accuracy"
    count_predicted_classes = True


class MultiLabelMAP(SampleMetric):
    """The mean of the average precision of every class that has ground truth; targets `(B, K)` zeros and ones.

    Average precision is the mean, over a class's positives, of the precision at their rank, without interpolation:
    the official Charades evaluation (`Charades_v1_classify.m`), and scikit-learn's `average_precision_score`.

    Args:
        unlabelled: samples without any label are plain negatives, or sink below all others as in the official
            Charades evaluation (`last`), where they cannot be false positives above anything.
    """

    name = "map"
    multi_label = True

    def __init__(
        self, num_classes: int, unlabelled: Literal["negatives", "last"] = "negatives", **options: Any
    ) -> None:
        super().__init__(num_classes, **options)
        if unlabelled not in ("negatives", "last"):
            raise ValueError(f"unlabelled must be 'negatives' or 'last', not {unlabelled!r}")
        self.unlabelled = unlabelled

    def resampled(self, scores: Floats, targets: NDArray[np.int64], weights: NDArray[np.float32]) -> Floats:
        with np.errstate(invalid="ignore"):  # 0/0: no class has a positive in this draw
            values = self.average_precisions(scores, targets, weights)
            return np.nansum(values, axis=1) / (~np.isnan(values)).sum(axis=1)

    def average_precisions(
        self, scores: Floats, targets: NDArray[np.int64], weights: NDArray[np.float32] | None = None
    ) -> NDArray[np.float64]:
        """The average precision of each class `(R, K)`, nan for a class without ground truth."""
        weights = np.ones((1, len(scores)), dtype=np.float32) if weights is None else weights
        if self.unlabelled == "last":
            scores = np.where(targets.any(axis=1, keepdims=True), scores, -np.inf)
        values = np.full((len(weights), scores.shape[1]), np.nan)
        for k in np.flatnonzero(targets.any(axis=0)):
            values[:, k] = _average_precision(scores[:, k], targets[:, k], weights)
        return values


class ConfusionMatrix(SampleMetric):
    """Counts `(K, K)`: row the true class, column the predicted one; a tie is resolved against the prediction."""

    name = "confusion_matrix"

    def compute(self) -> Tensor:
        _, scores, targets = self.rows()
        return torch.from_numpy(confusion_matrix(scores, targets)).to(self.device)

    def resampled(self, scores: Floats, targets: NDArray[np.int64], weights: NDArray[np.float32]) -> Floats:
        raise TypeError("a confusion matrix is no scalar and has no interval")


METRICS: dict[str, type[SampleMetric]] = {
    metric.name: metric for metric in (TopKAccuracy, Top5Accuracy, MeanClassAccuracy, MacroAccuracy, MultiLabelMAP)
}
"""The scalar metrics by name."""


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
    return unique.tolist(), _means(scores, inverse, len(unique))


def sample_keys(ids: Iterable[object]) -> Tensor:
    """128-bit digests of ids as int64 `(B, 2)`: two ids share one in fewer than 1 in 10^25 sets of a million."""
    digests = b"".join(hashlib.blake2b(str(one).encode(), digest_size=16).digest() for one in ids)
    return torch.from_numpy(np.frombuffer(digests, dtype="<i8").reshape(-1, 2).astype(np.int64))


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


def _means(scores: Floats, inverse: NDArray[np.int64], groups: int) -> NDArray[np.float64]:
    sums = np.zeros((groups, scores.shape[1]))
    np.add.at(sums, inverse, scores)
    return sums / np.bincount(inverse, minlength=groups)[:, None]


def _cat(state: list[Tensor] | Tensor, empty: tuple[int, ...]) -> NDArray[Any]:
    """A list state before the gather, or the tensor it is after."""
    parts = [state] if isinstance(state, Tensor) else state
    return torch.cat(parts).cpu().numpy().copy() if parts else np.zeros(empty, dtype=np.int64)
