"""Classification metrics, keyed by sample id, each with a bootstrap interval.

Rules that decide numbers, the same everywhere here:
- A sample counts once. Rows of one id are averaged: they are views of the sample, or the padding of a distributed
  sampler. Scores are therefore probabilities (softmax, or sigmoid when multi-label), as the published multi-view
  protocols average them.
- Ties count against the prediction (`tasks.metrics.class_statistics`).
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

from adapters.predictions import ClassScores, Truth
from tasks.metrics.bootstrap import Floats, Statistic, value_of
from tasks.metrics.class_statistics import (
    checked_rows,
    class_accuracy,
    confusion_matrix,
    mean_average_precision,
    mean_rows,
    top_k_accuracy,
)


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
        predictions: Sequence[ClassScores],
        samples: Sequence[Truth],
        views: Sequence[int] | None = None,
    ) -> None:
        """Add answers and what is known of their samples: a class index, or `(K,)` zeros and ones, as target.

        Args:
            views: which view of its sample each answer is of; a (sample, view) then counts once. Without it every
                answer of a sample has the same weight in its average.

        Raises:
            ValueError: answers of other classes or of other samples, scores that are not finite, or a target that is
                no class.
        """
        rows = len(predictions)
        if len(samples) != rows or (views is not None and len(views) != rows):
            raise ValueError(f"{rows} predictions need {rows} samples and views")
        if not rows:
            return
        scores, targets = map(torch.from_numpy, checked_rows(predictions, samples, self.num_classes, self.multi_label))
        view = torch.full((rows, 1), -1) if views is None else torch.as_tensor(views).reshape(rows, 1)
        keys = torch.cat([sample_keys(sample.id for sample in samples), view.long().cpu()], dim=1)  # (B, 3)
        self.keys.append(keys.to(self.device))
        self.scores.append(scores.float().to(self.device))
        self.targets.append(targets.to(self.device))

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
        return Rows(unique, mean_rows(scores, inverse.ravel(), len(unique)), targets[first])

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
        return top_k_accuracy(scores, targets, weights, self.k)


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

    def resampled(self, scores: Floats, targets: NDArray[np.int64], weights: NDArray[np.float32]) -> Floats:
        return class_accuracy(scores, targets, weights)


class MacroAccuracy(SampleMetric):
    """As `MeanClassAccuracy`, but a class that is only predicted and never true counts as 0.

    The definition of torchmetrics' `MulticlassAccuracy(average="macro")` and of mmaction2's `mean_class_accuracy`.
    Equal to `MeanClassAccuracy` whenever every class occurs in the ground truth, as in the published test sets.
    """

    name = "macro_accuracy"

    def resampled(self, scores: Floats, targets: NDArray[np.int64], weights: NDArray[np.float32]) -> Floats:
        return class_accuracy(scores, targets, weights, count_predicted_classes=True)


class MultiLabelMAP(SampleMetric):
    """The mean of the average precision of every class that has ground truth; targets `(B, K)` zeros and ones.

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
        return mean_average_precision(scores, targets, weights, self.unlabelled == "last")


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


def sample_keys(ids: Iterable[object]) -> Tensor:
    """128-bit digests of ids as int64 `(B, 2)`: two ids share one in fewer than 1 in 10^25 sets of a million."""
    digests = b"".join(hashlib.blake2b(str(one).encode(), digest_size=16).digest() for one in ids)
    return torch.from_numpy(np.frombuffer(digests, dtype="<i8").reshape(-1, 2).astype(np.int64))


def _cat(state: list[Tensor] | Tensor, empty: tuple[int, ...]) -> NDArray[Any]:
    """A list state before the gather, or the tensor it is after."""
    parts = [state] if isinstance(state, Tensor) else state
    return torch.cat(parts).cpu().numpy().copy() if parts else np.zeros(empty, dtype=np.int64)
