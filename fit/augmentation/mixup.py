"""MixUp: each clip of a batch is laid over another one, and so are their losses.

Source: Zhang et al., arXiv 1710.09412.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

ALPHA = 0.8


@dataclass(frozen=True)
class MixUp:
    """Which clip of the batch lies over each, `partner (B,)`, and how much of itself each keeps, `share (B,)`."""

    partner: Tensor
    share: Tensor

    @classmethod
    def drawn(cls, count: int, device: torch.device, alpha: float = ALPHA) -> MixUp:
        """Draw both by torch's generator of the CPU, so that any device mixes alike; shares are at least a half."""
        share = torch.distributions.Beta(alpha, alpha).sample((count,))
        partner = torch.randperm(count)
        return cls(partner.to(device), torch.maximum(share, 1 - share).to(device))

    def mixed(self, values: Tensor) -> Tensor:
        """Floats `(B, ...)` of each clip with those of its partner."""
        share = self.share.reshape(-1, *[1] * (values.ndim - 1)).to(values.dtype)
        return values * share + values[self.partner] * (1 - share)
