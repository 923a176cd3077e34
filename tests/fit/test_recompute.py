"""Activations computed again give the same outputs and gradients."""

from __future__ import annotations

import torch
from torch import nn

from core_encoder.models.layers import TransformerLayer
from fit.recompute import keep_activations, recompute_activations


def test_outputs_and_gradients_stay() -> None:
    torch.manual_seed(0)
    layers = nn.ModuleList(TransformerLayer(16, 2, 32) for _ in range(2))
    x = torch.randn(3, 5, 16)

    def run() -> list[torch.Tensor]:
        layers.zero_grad()
        out = x
        for layer in layers:
            out = layer(out)
        out.square().sum().backward()
        return [out.detach(), *(one.grad.clone() for one in layers.parameters() if one.grad is not None)]

    before = run()
    calls = []
    layers[0].qkv.register_forward_hook(lambda *_: calls.append(1))
    recompute_activations(layers)
    assert all(torch.equal(a, b) for a, b in zip(before, run(), strict=True))
    assert len(calls) == 2  # once on the way there, once on the way back
    keep_activations(layers)
    assert all(torch.equal(a, b) for a, b in zip(before, run(), strict=True)) and len(calls) == 3
