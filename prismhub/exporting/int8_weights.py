"""Weights as int8 with one float32 scale a row: a quarter of the file, computed with in float32.

A row of a weight is what makes one output channel. Activations stay in float32, so nothing has to be calibrated.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

_LEAST_VALUES = 4096  # smaller weights would save nothing
_KINDS = (nn.Linear, nn.Embedding, nn.Conv1d, nn.Conv2d, nn.Conv3d)


class _Int8Weight:
    """What a layer becomes whose weight is `int8_weight` times `int8_scale`."""

    int8_weight: Tensor
    int8_scale: Tensor

    @property
    def weight(self) -> Tensor:
        return self.int8_weight.to(torch.float32) * self.int8_scale


@torch.no_grad()
def with_int8_weights(module: nn.Module) -> int:
    """Replace the weights of all large layers of `module` in place; how many layers they were."""
    count = 0
    for layer in module.modules():
        if not isinstance(layer, _KINDS) or isinstance(layer, _Int8Weight) or layer.weight.numel() < _LEAST_VALUES:
            continue
        weight = layer.weight.detach().float()
        rows = weight.flatten(1).abs().amax(1).clamp(min=1e-12) / 127  # (out,)
        scale = rows.reshape(-1, *[1] * (weight.ndim - 1))
        del layer.weight
        layer.register_buffer("int8_weight", (weight / scale).round().to(torch.int8))
        layer.register_buffer("int8_scale", scale)
        kind = type(layer)
        layer.__class__ = type(f"Int8{kind.__name__}", (_Int8Weight, kind), {})
        count += 1
    return count
