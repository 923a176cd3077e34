"""The video encoder with its attention by FlexAttention, its layers compiled: what ours is compared with on a GPU."""

from __future__ import annotations

import copy

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import flex_attention

from core_encoder.models.layers import TransformerLayer
from core_encoder.models.vivit import ViViT


class FlexLayer(TransformerLayer):
    """A transformer layer `(B, L, D) -> (B, L, D)` without masks, in plain calls that a compiler sees through."""

    def forward(self, x: Tensor, mask: Tensor | None = None, causal: bool = False, groups: object = None) -> Tensor:
        if mask is not None or causal or groups is not None:
            raise ValueError("this layer is for clips of real frames: no mask, no groups")
        q, k, v = self.qkv(self.norm1(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # (B, H, L, hd)
        attended = flex_attention(q, k, v, score_mod=self._capped).transpose(1, 2).flatten(-2)
        x = x + self.out(attended)
        return x + self.fc2(torch.nn.functional.gelu(self.fc1(self.norm2(x))))

    def _capped(self, score: Tensor, *place: Tensor) -> Tensor:
        return score if self.cap is None else self.cap * torch.tanh(score / self.cap)


def with_flex_attention(vivit: ViViT) -> ViViT:
    """A copy of an encoder with the same weights whose layers are compiled when they are first called."""
    copied = copy.deepcopy(vivit)
    for layers in (copied.spatial_layers, copied.temporal_layers):
        for place, layer in enumerate(layers):
            assert isinstance(layer, TransformerLayer)
            layer.__class__ = FlexLayer  # the same weights and settings, another way through them
            layers[place] = layer
            layer.compile()
    return copied
