"""`linear`: mean pooling and a linear classifier, the honest baseline.

It is far weaker than `map_classifier`: averaging all tokens throws away what happened where and when (published frozen
scores on Diving48 fall from 64.3 to 4.5, embeddings-benchmark/mteb#5193). Take it to see what attention pooling adds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from adapters.classifier import Classifier, FeatureScale
from adapters.context import Context
from adapters.features import Batch
from adapters.head_options import LinearConfig
from core_encoder.errors import InputError
from core_encoder.features.feature_spec import FeatureKind


class Linear(Classifier):
    """Mean pooling and a linear classifier: a baseline, far weaker than map_classifier (Diving48 4.5 against 64.3)."""

    kind: ClassVar[str] = "linear"
    Config: ClassVar[type] = LinearConfig
    feature_kind: ClassVar[FeatureKind] = "clip"
    answers_together: ClassVar[bool] = True
    input_names = ()
    config: LinearConfig

    def __init__(self, config: LinearConfig, context: Context) -> None:
        super().__init__(config, context)
        dim = context.dim
        self.scale = FeatureScale(dim)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(dim, len(self.label_names))
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.zeros_(self.classifier.bias)

    def measure_scale(self, batches: Sequence[Batch]) -> None:
        self.scale.measure([mean_pool(batch.features, batch.mask) for batch in batches])

    def forward(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        """Logits `(B, K)` of features `(B, D)`; finer features `(B, T, D)`, `(B, T, N, D)` are averaged first."""
        pooled = mean_pool(features, mask)  # (B, D)
        if pooled.shape[-1] != self.dim:
            raise InputError(f"linear wants features of width {self.dim}, not {tuple(features.shape)}")
        return self.classifier(self.dropout(self.scale(pooled)))


def mean_pool(features: Tensor, mask: Tensor | None = None) -> Tensor:
    """Average features `(B, D)`, `(B, T, D)` or `(B, T, N, D)` over patches and real frames -> `(B, D)`."""
    if not 2 <= features.ndim <= 4:
        raise InputError(f"linear wants features (B, D), (B, T, D) or (B, T, N, D), not {tuple(features.shape)}")
    if features.ndim == 4:
        features = features.float().mean(2)  # (B, T, D)
    if features.ndim == 2:
        return features
    if mask is None:
        return features.float().mean(1)  # (B, D)
    weight = mask[..., None].to(torch.float32)  # (B, T, 1)
    return (features * weight).sum(1) / weight.sum(1).clamp_min(1)  # (B, D)
