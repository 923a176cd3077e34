"""What the classification heads share: options, feature scale, loss, answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from adapters.adapter import Adapter, Loss
from adapters.context import Context, TargetSchema
from adapters.features import Batch, FeatureDataset, Times, ids_of, read_batch, targets_of
from adapters.head_options import ClassifierConfig
from adapters.predicting import evaluating
from adapters.predictions import ClassScores, Prediction, mean_scores
from adapters.reweighting import ClassificationLoss
from core_encoder.errors import InputError

SCALE_SAMPLES = 64  # how many training samples the feature scale is measured on
MIN_SCALE = 0.05  # of the root mean square over channels: silent channels are not blown up into noise


class FeatureScale(nn.Module):
    """Mean and standard deviation of every feature channel in the training set, `(..., D)`; 0 and 1 until measured.

    Encoders differ in scale by orders of magnitude, and most of a token is the same in all videos: heads read
    `(feature - mean) / std`. It is a linear map, so attention pooling folds it into its projections for free. On nano
    features of eight drawn classes it scored 1 to 11 points above a LayerNorm over each token.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("std", torch.ones(shape))

    def measure(self, parts: Sequence[Tensor]) -> None:
        """Take the statistics over the rows of `parts (R, ..., D)`; one part at a time is in double precision."""
        count = sum(len(part) for part in parts)
        mean = torch.stack([part.double().sum(0) for part in parts]).sum(0) / count
        self.mean.copy_(mean)
        std = (torch.stack([(part.double() - mean).square().sum(0) for part in parts]).sum(0) / count).sqrt()
        floor = MIN_SCALE * std.square().mean(-1, keepdim=True).sqrt()
        self.std.copy_(torch.maximum(std, floor.clamp_min(1e-6)))

    def forward(self, features: Tensor) -> Tensor:
        """Standardize features `(..., D)`."""
        return (features.to(self.mean.dtype) - self.mean) / self.std


def scale_batches(dataset: FeatureDataset, dim: int) -> list[Batch]:
    """Some evenly spread samples, one a batch, on which the feature scale is measured.

    Raises:
        InputError: features are not finite, or of another width than `dim`.
    """
    chosen = np.unique(np.linspace(0, len(dataset) - 1, SCALE_SAMPLES).round().astype(int))
    batches = [read_batch(dataset, [int(i)]) for i in chosen]
    for batch in batches:
        if batch.features.shape[-1] != dim:
            raise InputError(f"features of {batch.ids[0]!r} have width {batch.features.shape[-1]}, not {dim}")
        if not batch.features.isfinite().all():
            raise InputError(f"features of {batch.ids[0]!r} hold NaN or infinity: encode again")
    return batches


def real_rows(batch: Batch) -> Tensor:
    """The features of the real frames of a batch, as rows `(R, D)`."""
    return (batch.features if batch.mask is None else batch.features[batch.mask]).flatten(0, -2)


class Classifier(Adapter):
    """A head whose `forward` gives logits `(B, K)`, one column a label name."""

    criterion: ClassificationLoss

    def __init__(self, config: ClassifierConfig, context: Context) -> None:
        super().__init__(config, context)
        names = self.label_names
        least = 1 if config.multi_label else 2
        if len(names) < least or len(set(names)) < len(names):
            raise InputError(f"{self.kind} needs at least {least} different label names, not {list(names)[:5]}")
        self.criterion = ClassificationLoss(
            len(names), config.multi_label, config.class_weights, config.label_smoothing
        )

    def calibrate(self, dataset: FeatureDataset) -> None:
        """Count the classes and measure the feature scale on some evenly spread samples.

        Raises:
            InputError: a target is no class index or `(K,)` vector, features are not finite, or of another width.
        """
        targets = targets_of(dataset)
        counts = torch.zeros(len(self.label_names), dtype=torch.long)
        for index, target in enumerate(targets):
            counts += self._one_hot(target, dataset, index)
        self.criterion.set_counts(counts, len(targets))
        self.measure_scale(scale_batches(dataset, self.dim))

    def _one_hot(self, target: Any, dataset: FeatureDataset, index: int) -> Tensor:
        classes = len(self.label_names)
        value = torch.as_tensor(target)
        if self.config.multi_label:
            if value.shape == (classes,) and bool(((value == 0) | (value == 1)).all()):
                return value.long()
            wanted = f"{classes} zeros and ones"
        else:
            if value.ndim == 0 and not value.is_floating_point() and 0 <= int(value) < classes:
                return torch.nn.functional.one_hot(value.long(), classes)
            wanted = f"a class index from 0 to {classes - 1}"
        shown = value.tolist() if value.numel() < 10 else f"a tensor of shape {tuple(value.shape)}"
        raise InputError(f"the target of {ids_of(dataset)[index]!r} must be {wanted}, not {shown}")

    def measure_scale(self, batches: Sequence[Batch]) -> None:
        """Set the head's `FeatureScale` from some training samples, one a batch; nothing by default."""

    @classmethod
    def options_for(cls, targets: TargetSchema) -> dict[str, Any]:
        return {"multi_label": True} if targets.multi_label else {}

    def loss(self, batch: Batch) -> Loss:
        """The mean loss of the samples."""
        return self._loss(self(batch.features, batch.mask), batch)

    def answer(self, batch: Batch) -> list[Prediction]:
        """`ClassScores` of every sample."""
        return self._answers(self(batch.features, batch.mask), batch)

    def answer_with_loss(self, batch: Batch) -> tuple[list[Prediction], Loss]:
        logits = self(batch.features, batch.mask)
        return self._answers(logits, batch), self._loss(logits, batch)

    def merge(self, answers: Sequence[Prediction], times: Sequence[Times | None]) -> Prediction:
        """The mean of the views' probabilities."""
        return mean_scores(cast("Sequence[ClassScores]", answers))

    def probabilities(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        """Class probabilities `(B, K)` of features, in evaluation mode, without gradients, float32 on the CPU."""
        with evaluating(self):
            mask = None if mask is None else mask.to(self.device)
            return self.probabilities_of(self(features.to(self.device), mask)).cpu()

    def _loss(self, logits: Tensor, batch: Batch) -> Loss:
        return Loss(self.criterion(logits, batch.targets).mean(), len(batch))

    def _answers(self, logits: Tensor, batch: Batch) -> list[Prediction]:
        scores = self.probabilities_of(logits.detach()).cpu()
        return [
            ClassScores(name, row, self.label_names, self.config.multi_label)
            for name, row in zip(batch.ids, scores, strict=True)
        ]

    def probabilities_of(self, logits: Tensor) -> Tensor:
        """Logits `(B, K)` -> class probabilities, float32."""
        logits = logits.float()
        return logits.sigmoid() if self.config.multi_label else logits.softmax(-1)
