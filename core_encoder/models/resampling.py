"""Linear resampling of an axis as a matrix: what `F.interpolate` computes, for graphs whose sizes stay open.

`F.interpolate` is faster and is used wherever the sizes are known; its operators are traced for one size alone.
"""

from __future__ import annotations

import torch
from torch import Tensor


def resampling_weights(count: int, wanted: int, antialias: bool = False) -> Tensor:
    """How much each of `count` places weighs in each of `wanted`, `(wanted, count)`, float32; rows sum to 1.

    The same as `F.interpolate(mode="linear", align_corners=False)`; with `antialias` as `mode="bilinear"` with it.
    """
    step = torch.full((wanted,), count, dtype=torch.float32) / wanted  # places passed from one to the next
    at = (torch.arange(wanted) + 0.5) * step - 0.5  # (wanted,)
    reach = step.clamp(min=1.0) if antialias else torch.ones_like(step)
    if not antialias:
        at = at.clamp(0, count - 1)
    weights = (1 - (at[:, None] - torch.arange(count)).abs() / reach[:, None]).clamp(min=0)  # (wanted, count)
    return weights / weights.sum(1, keepdim=True)
