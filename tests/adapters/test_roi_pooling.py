"""RoI pooling against a slow reference that follows one point at a time, and what must hold for any box."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from adapters.roi_pooling import roi_pool


def slow_roi_pool(grid: Tensor, corners: Tensor, bins: int, points: int, mask: Tensor | None = None) -> Tensor:
    """RoIAlign as the paper tells it: every point of every bin of every box of every frame, one by one."""
    batch, frames, rows, columns, dim = grid.shape
    found = torch.zeros(batch, corners.shape[1], bins, bins, dim, dtype=grid.dtype)
    for b in range(batch):
        real = [t for t in range(frames) if mask is None or mask[b, t]]
        for q in range(corners.shape[1]):
            for t in real:
                left, top, right, bottom = corners[b, q, t].tolist()
                for s in range(bins):
                    for u in range(bins):
                        for i in range(points):
                            for j in range(points):
                                y = (top + (bottom - top) * (s + (i + 0.5) / points) / bins) * rows - 0.5
                                x = (left + (right - left) * (u + (j + 0.5) / points) / bins) * columns - 0.5
                                value = _between(grid[b, t], y, x)
                                found[b, q, s, u] += value / (points * points * len(real))
    return found


def _between(image: Tensor, y: float, x: float) -> Tensor:
    """The image `(R, C, D)` at a point between its middles; beyond the outermost ones as there."""
    rows, columns = image.shape[:2]
    y, x = min(max(y, 0.0), rows - 1.0), min(max(x, 0.0), columns - 1.0)
    low_y, low_x = math.floor(y), math.floor(x)
    high_y, high_x = min(low_y + 1, rows - 1), min(low_x + 1, columns - 1)
    part_y, part_x = y - low_y, x - low_x
    upper = (1 - part_x) * image[low_y, low_x] + part_x * image[low_y, high_x]
    lower = (1 - part_x) * image[high_y, low_x] + part_x * image[high_y, high_x]
    return (1 - part_y) * upper + part_y * lower


def boxes(batch: int, queries: int, frames: int, seed: int) -> Tensor:
    low = 0.7 * torch.rand(batch, queries, frames, 2, generator=torch.Generator().manual_seed(seed))
    size = 0.05 + 0.25 * torch.rand(batch, queries, frames, 2, generator=torch.Generator().manual_seed(seed + 1))
    return torch.cat([low, low + size], -1)


@pytest.mark.parametrize("still", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_it_equals_the_slow_reference(still: bool, masked: bool) -> None:
    grid = torch.randn(2, 3, 4, 5, 6, generator=torch.Generator().manual_seed(0))
    corners = boxes(2, 3, 3, seed=1)
    corners[0, 0] = torch.tensor([0.0, 0.0, 1.0, 1.0])
    corners[0, 1] = torch.tensor([0.9, 0.0, 1.0, 0.02])  # thinner than a patch, at the edge
    if still:
        corners = corners[:, :, :1].expand(-1, -1, 3, -1)
    mask = torch.tensor([[True, True, False], [True, False, False]]) if masked else None
    found = roi_pool(grid, corners, bins=3, points=2, mask=mask)
    torch.testing.assert_close(found, slow_roi_pool(grid, corners, 3, 2, mask), atol=1e-5, rtol=1e-5)


def test_gradients_reach_tokens_and_corners() -> None:
    torch.manual_seed(0)
    grid = torch.randn(1, 2, 3, 4, 2, dtype=torch.float32, requires_grad=True)
    corners = torch.tensor([[[[0.11, 0.23, 0.62, 0.71], [0.21, 0.13, 0.72, 0.61]]]], requires_grad=True)
    weights = torch.randn(1, 1, 2, 2, 2)
    (roi_pool(grid, corners, bins=2) * weights).sum().backward()
    step = 1e-3
    for tensor, grad in ((grid, grid.grad), (corners, corners.grad)):
        assert grad is not None
        for place in range(0, tensor.numel(), 5):
            values = []
            for sign in (1, -1):
                moved = tensor.detach().clone()
                moved.view(-1)[place] += sign * step
                arguments = (moved, corners.detach()) if tensor is grid else (grid.detach(), moved)
                values.append(float((roi_pool(*arguments, bins=2) * weights).sum()))
            assert float(grad.reshape(-1)[place]) == pytest.approx((values[0] - values[1]) / (2 * step), abs=2e-2)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 4), st.integers(1, 5), st.integers(1, 3), st.integers(0, 1000))
def test_what_is_the_same_everywhere_is_the_same_in_any_box(rows: int, columns: int, bins: int, seed: int) -> None:
    grid = torch.full((1, 2, rows, columns, 3), 1.5)
    torch.testing.assert_close(roi_pool(grid, boxes(1, 2, 2, seed), bins), torch.full((1, 2, bins, bins, 3), 1.5))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1000))
def test_a_slope_is_read_at_the_middle_of_the_box(seed: int) -> None:
    """Of a picture that rises evenly, the mean over a box that keeps to the middles of patches is its middle."""
    columns = 8
    slope = ((torch.arange(columns) + 0.5) / columns).expand(1, 1, 4, columns)[..., None]
    corners = boxes(1, 1, 1, seed).clamp(1 / 16, 15 / 16)
    found = roi_pool(slope, corners, bins=2, points=3).mean((2, 3))
    torch.testing.assert_close(found[0, 0, 0], (corners[0, 0, 0, 0] + corners[0, 0, 0, 2]) / 2, atol=1e-5, rtol=1e-5)


def test_boxes_of_other_frames_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot be"):
        roi_pool(torch.zeros(1, 2, 3, 3, 4), torch.zeros(1, 1, 3, 4))
