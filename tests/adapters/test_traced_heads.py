"""Traced graphs of heads: one graph for any batch, clip length and number of boxes gives what the head gives."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim

from adapters.adapter import Adapter
from adapters.context import Context, TargetSchema
from adapters.registry import adapter_kind

DIM, LABELS = 12, ("a", "b", "c")
BATCH, FRAMES = Dim("batch"), Dim("frames")


def head(kind: str, targets: str, **options: Any) -> Adapter:
    """A head whose every parameter is random, so that none can be left out unnoticed."""
    adapter = adapter_kind(kind).build(options, Context(DIM, TargetSchema(targets, LABELS)))  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator)
    return adapter.eval().requires_grad_(False)


def features(batch: int, frames: int, layers: int = 0) -> tuple[Tensor, Tensor]:
    shape = (batch, *[layers] * bool(layers), frames, 9, DIM)
    mask = torch.ones(batch, frames, dtype=torch.bool)
    mask[0, max(1, frames - 2) :] = False
    return torch.randn(shape, generator=torch.Generator().manual_seed(frames)), mask


def traced(module: nn.Module, inputs: tuple[Tensor, ...], axes: tuple[dict[int, Any], ...]) -> nn.Module:
    with torch.no_grad():
        return torch.export.export(module, inputs, dynamic_shapes=axes).module()


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("linear", {}),
        ("map_classifier", {"heads": 3}),
        ("map_classifier", {"heads": 3, "positions": False}),
        ("map_classifier", {"heads": 3, "layers": (-2, -1)}),
    ],
)
def test_heads_of_classes(kind: str, options: dict[str, Any]) -> None:
    adapter = head(kind, "classes", **options)
    layers = len(adapter.layers)
    axes = ({0: BATCH, (2 if layers else 1): FRAMES}, {0: BATCH, 1: FRAMES})
    graph = traced(adapter, features(2, 3, layers), axes)
    for batch, frames in ((2, 3), (1, 16), (3, 5), (1, 1)):
        inputs = features(batch, frames, layers)
        torch.testing.assert_close(graph(*inputs), adapter(*inputs), atol=1e-5, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("pool", ["max", "mean"])
def test_boxes(pool: str) -> None:
    adapter = head("spatiotemporal_localizer", "boxes", heads=3, pool=pool)

    def asked(batch: int, frames: int, boxes: int) -> tuple[Tensor, ...]:
        corners = torch.rand(batch, boxes, frames, 4, generator=torch.Generator().manual_seed(boxes)).sort(-1).values
        return (*features(batch, frames), corners)

    axes = ({0: BATCH, 1: FRAMES}, {0: BATCH, 1: FRAMES}, {0: BATCH, 1: Dim("boxes"), 2: FRAMES})
    graph = traced(adapter, asked(2, 3, 4), axes)
    for sizes in ((2, 3, 4), (1, 8, 1), (3, 1, 2)):
        inputs = asked(*sizes)
        torch.testing.assert_close(graph(*inputs).flatten(0, 1), adapter(*inputs), atol=1e-5, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("boundary", ["direct", "tridet"])
def test_segments(boundary: str) -> None:
    adapter: Any = head(
        "temporal_localizer", "segments", hidden=16, heads=2, reach=3, levels=2, bins=4, boundary=boundary
    )

    def vectors(batch: int, windows: int) -> tuple[Tensor, Tensor]:
        mask = torch.ones(batch, windows, dtype=torch.bool)
        mask[0, max(1, windows - 5) :] = False
        return torch.randn(batch, windows, DIM, generator=torch.Generator().manual_seed(windows)), mask

    axes = ({0: BATCH, 1: 2 * Dim("pairs")},) * 2
    graph = traced(adapter, vectors(2, 6), axes)
    for batch, windows in ((2, 6), (1, 20), (3, 4)):
        inputs = vectors(batch, windows)
        for one, other in zip(graph(*inputs), adapter(*inputs), strict=True):
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
