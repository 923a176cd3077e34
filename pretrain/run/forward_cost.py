"""Matrix products and kept activations of one clip on its way through the layers of `core_encoder` and back.

Operations: a product of (n, a) by (a, b) is `2 n a b` forwards, and as much for each of its two gradients backwards.
Soft-capped attention keeps no logits: two products forwards; backwards these logits again, and four gradients.
Bytes: what autograd saves for the way back, or, where a layer is computed again, its input alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from core_encoder.models.model_configs import VideoHeadConfig, ViViTConfig
from pretrain.stages.masking import block_mask, sample_rng

_FLOAT32 = 4


@dataclass(frozen=True)
class Cost:
    """Of one clip: operations, and bytes kept for the way back with all activations or with layer inputs alone."""

    forward: float = 0.0
    backward: float = 0.0
    recompute: float = 0.0  # operations that activation checkpointing adds
    kept: float = 0.0
    kept_recomputing: float = 0.0
    largest_layer: float = 0.0  # bytes of the one layer that is computed again, the largest of all

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.forward + other.forward,
            self.backward + other.backward,
            self.recompute + other.recompute,
            self.kept + other.kept,
            self.kept_recomputing + other.kept_recomputing,
            max(self.largest_layer, other.largest_layer),
        )


@dataclass(frozen=True)
class CostModel:
    """Counts with activations of `float_bytes` bytes a number; the inputs of norms stay float32 under autocast."""

    float_bytes: int = 2

    def linear(self, rows: float, inputs: int, outputs: int, trained: bool = True, first: bool = False) -> Cost:
        """A linear map of `rows` vectors; the `first` one of a model has no gradient to hand on."""
        forward = 2.0 * rows * inputs * outputs
        if not trained:
            return Cost(forward)
        kept = rows * inputs * self.float_bytes
        return Cost(forward, forward * (1 if first else 2), kept=kept, kept_recomputing=kept)

    def layers(
        self,
        count: int,
        tokens: float,
        attended: float,
        width: int,
        mlp: int,
        trained: bool = True,
        packed: bool = False,
    ) -> Cost:
        """`count` transformer layers on `tokens` tokens, each of which attends to `attended` on average.

        `packed` tokens of one group lie apart: results of the attention are kept in both orders.
        """
        products = 2.0 * tokens * (4 * width**2 + 2 * width * mlp) * count
        attention = 4.0 * tokens * attended * width * count
        forward = products + attention
        if not trained:
            return Cost(forward)
        # Two inputs of norms; normalized twice, q, k, v and the attended; the MLP before and after its activation.
        numbers = (7 if packed else 6) * width + 2 * mlp
        layer = tokens * (2 * width * _FLOAT32 + numbers * self.float_bytes)
        inputs = tokens * width * _FLOAT32  # tokens between layers stay float32 too
        backward = 2 * products + 2.5 * attention
        return Cost(forward, backward, forward, count * layer, count * inputs, layer if count else 0.0)

    def pooling(self, tokens: float, heads: int, width: int, inner: int, trained: bool = True) -> Cost:
        """Attention pooling that folds its projections into the query (`core_encoder/models/pooling.py`)."""
        forward = 4.0 * tokens * width * heads + 4.0 * width * inner
        if not trained:
            return Cost(forward)
        kept = tokens * width * self.float_bytes + tokens * heads * _FLOAT32
        return Cost(forward, 2 * forward, kept=kept, kept_recomputing=kept)

    def cosine(self, tokens: float, width: int) -> Cost:
        """Bytes of the cosine of predictions and targets: both in float32, and the targets as they came."""
        kept = tokens * width * (2 * _FLOAT32 + self.float_bytes)
        return Cost(kept=kept, kept_recomputing=kept)

    def encoder(
        self, vision: ViViTConfig, tokens: float, in_frame: float, in_place: float, trained: bool = True
    ) -> Cost:
        """The encoder on `tokens` tokens; `in_place` 0 leaves the temporal half out."""
        width, mlp = vision.width, vision.mlp_dim
        cost = self.linear(tokens, 3 * vision.patch_size**2, width, trained, first=True)
        cost += self.layers(vision.spatial_layers, tokens, in_frame, width, mlp, trained)
        if in_place:
            cost += self.layers(vision.temporal_layers, tokens, in_place, width, mlp, trained, packed=True)
        return cost

    def video_head(self, vision: ViViTConfig, head: VideoHeadConfig, tokens: float, trained: bool = True) -> Cost:
        """Auxiliary layers over all tokens, and the pooling."""
        cost = self.layers(head.auxiliary_layers, tokens, tokens, vision.width, vision.mlp_dim, trained)
        return cost + self.pooling(tokens, vision.heads, vision.width, head.pooling_dim, trained)


def masked_group_sizes(frames: int, rows: int, columns: int, ratio: float, draws: int = 32) -> tuple[float, float]:
    """Visible tokens that a visible token meets in its frame, and at its place, on average over some block masks."""
    masks = np.stack([block_mask(frames, rows, columns, ratio, sample_rng(0, 0, 0, draw)) for draw in range(draws)])
    in_frame, in_place = masks.sum(axis=2), masks.sum(axis=1)  # (draws, T), (draws, N)
    return float((in_frame**2).sum() / masks.sum()), float((in_place**2).sum() / masks.sum())
