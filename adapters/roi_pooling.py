"""RoI pooling from a grid of patches: what the tokens under a box say, bin by bin.

A box is cut into S x S bins, and a bin is the mean of the grid at P x P points in it, each interpolated between the
four patches around it (He et al., Mask R-CNN, section 3: RoIAlign; a patch lies at its middle, so a box is not
shifted by half a patch). Interpolation on a grid is separable: a point weighs rows and columns apart, and a box is two
small matrices. Gradients reach the tokens and the corners.
"""

from __future__ import annotations

import torch
from torch import Tensor


def roi_pool(grid: Tensor, corners: Tensor, bins: int = 7, points: int = 2, mask: Tensor | None = None) -> Tensor:
    """Pool boxes from the patches of their frames, the mean over frames.

    Shapes: grid `(B, T, R, C, D)` of rows and columns; corners `(B, Q, T, 4)`, fractions of the picture, each box
    where it is in each frame; mask `(B, T)`, True = real -> `(B, Q, bins, bins, D)` float32.
    Raises ValueError when the shapes do not fit together.
    """
    batch, frames = grid.shape[:2]
    if corners.shape[0] != batch or corners.shape[2:] != (frames, 4):
        raise ValueError(f"boxes (B, Q, T, 4) of a grid {(*grid.shape,)} cannot be {(*corners.shape,)}")
    shares = torch.ones(batch, frames, device=grid.device) if mask is None else mask.float()
    shares = shares / shares.sum(1, keepdim=True).clamp(min=1)  # (B, T)
    if torch.compiler.is_exporting():  # a graph has no loop over samples, nor a branch that depends on values
        return _pool_moving(grid.float(), corners.float(), shares, bins, points)
    with torch.autocast(grid.device.type, enabled=False):
        pooled = [_pool_sample(*one, bins, points) for one in zip(grid, corners.float(), shares, strict=True)]
    return torch.stack(pooled)  # (B, Q, S, S, D)


def _pool_sample(grid: Tensor, corners: Tensor, shares: Tensor, bins: int, points: int) -> Tensor:
    """One sample: grid `(T, R, C, D)`, corners `(Q, T, 4)`, shares `(T,)` that sum to 1 -> `(Q, S, S, D)`."""
    grid = grid.float()
    if not corners.requires_grad and bool((corners == corners[:, :1]).all()):
        # Nobody moves: the mean of the frames first, for it is all linear.
        grid = torch.einsum("t,trcd->rcd", shares, grid)[None]
        corners, shares = corners[:, :1], torch.ones_like(shares[:1])
    return _pool_moving(grid[None], corners[None], shares[None], bins, points)[0]


def _pool_moving(grid: Tensor, corners: Tensor, shares: Tensor, bins: int, points: int) -> Tensor:
    """Boxes frame by frame: grid `(B, T, R, C, D)`, corners `(B, Q, T, 4)`, shares `(B, T)` -> `(B, Q, S, S, D)`."""
    left, top, right, bottom = corners.unbind(-1)  # (B, Q, T)
    down = _weights(top, bottom, grid.shape[2], bins, points)  # (B, Q, T, S, R)
    across = _weights(left, right, grid.shape[3], bins, points) * shares[:, None, :, None, None]  # (B, Q, T, S, C)
    lines = torch.einsum("bqtsr,btrcd->bqtscd", down, grid)
    return torch.einsum("bqtuc,bqtscd->bqsud", across, lines)  # (B, Q, S, S, D)


def _weights(low: Tensor, high: Tensor, count: int, bins: int, points: int) -> Tensor:
    """How much each of `count` patches weighs in each bin of spans `(B, Q, T)` -> `(B, Q, T, bins, count)`."""
    steps = (torch.arange(bins * points, device=low.device) + 0.5) / (bins * points)
    place = (
        low[..., None] + (high - low)[..., None] * steps
    ) * count - 0.5  # (B, Q, T, S*P), in patches from the first
    place = place.clamp(0, count - 1)  # beyond the outermost middles the picture goes on as there
    near = (1 - (place[..., None] - torch.arange(count, device=low.device)).abs()).clamp(min=0)  # (B, Q, T, S*P, count)
    return near.unflatten(3, (bins, points)).mean(4)
