"""The layers every model here is made of: LayerNorm, the transformer layer, attention pooling.

Axes: B batch, L sequence, D width, H heads, hd head width, V visible tokens of a whole batch.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core_encoder.models.attention import TokenGroups, soft_capped_attention

# glibc gives allocations above 32 MB back to the kernel when freed; the page faults of the next one cost more than
# the elementwise work inside it.
_TEMPORARY_BYTES = 24 << 20


class LayerNorm(nn.Module):
    """Layer normalization that stores its weight as an offset, as VideoPrism does: it multiplies by `1 + weight`."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(dim))
        self.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, x: Tensor) -> Tensor:
        # In fp32 also where sharding hands out bf16 weights: there 1 + weight would be rounded to multiples of 1/128.
        dtype = torch.promote_types(x.dtype, self.weight.dtype)
        return F.layer_norm(x, self.weight.shape, self.weight.to(dtype) + 1.0, self.bias.to(dtype), 1e-6)

    def extra_repr(self) -> str:
        return str(self.weight.numel())


class TransformerLayer(nn.Module):
    """Pre-norm transformer layer with soft-capped attention; `(B, L, D) -> (B, L, D)` or packed `(V, D) -> (V, D)`.

    `qkv` is the three projections in one, rows in the order query, key, value, each `(heads, head width)`.
    Raises ValueError when heads does not divide dim.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        mlp_dim: int,
        activation: Literal["gelu", "relu"] = "gelu",
        cap: float | None = 50.0,
    ) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"{heads} heads do not divide a width of {dim}")
        if activation not in ("gelu", "relu"):
            raise ValueError(f"activation is 'gelu' (exact) or 'relu', not {activation!r}")
        self.heads, self.activation, self.cap = heads, activation, cap
        self.norm1 = LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        self.norm2 = LayerNorm(dim)
        self.fc1 = nn.Linear(dim, mlp_dim)
        self.fc2 = nn.Linear(mlp_dim, dim)

    def forward(
        self, x: Tensor, mask: Tensor | None = None, causal: bool = False, groups: TokenGroups | None = None
    ) -> Tensor:
        """Transform `x`.

        `mask` is boolean, True = attend: `(B, L)` marks the real tokens, `(B, 1 or H, L, L)` says it per pair (sizes of
        one broadcast). `causal` lets a token see itself and what comes before. With `groups`, x is packed `(V, D)` and
        tokens attend within their group; mask and causal do not apply. Raises ValueError when these contradict.
        """
        if (groups is not None) != (x.ndim == 2):
            raise ValueError(f"x is (B, L, D), or (V, D) together with groups; not {(*x.shape,)} with groups={groups}")
        if groups is not None and (mask is not None or causal):
            raise ValueError("packed tokens are masked by their groups: give neither mask nor causal")
        if mask is not None and mask.ndim == 2:
            mask = mask[:, None, None, :]  # (B, 1, 1, L)
        if causal:
            past = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).tril()
            mask = past[None, None] if mask is None else mask & past
        if groups is not None or torch.compiler.is_exporting() or self._records_gradients(x):
            return self._transform(x, mask, groups)
        step = self._samples_at_once(x)
        parts = (slice(first, first + step) for first in range(0, len(x), step))
        return torch.cat([self._transform(x[part], _mask_of(mask, part)) for part in parts]) if len(x) else x

    def _transform(self, x: Tensor, mask: Tensor | None, groups: TokenGroups | None = None) -> Tensor:
        q, k, v = self.qkv(self.norm1(x)).unflatten(-1, (3, self.heads, -1)).unbind(-3)  # (..., H, hd) each
        if groups is not None:
            attended = groups.attend(q, k, v, self.cap)
        else:
            q, k, v = (part.transpose(1, 2) for part in (q, k, v))  # (B, H, L, hd)
            attended = soft_capped_attention(q, k, v, self.cap, mask).transpose(1, 2)
        x = x + self.out(attended.flatten(-2))
        hidden = self.fc1(self.norm2(x))
        return x + self.fc2(self._activate(hidden))

    def _activate(self, hidden: Tensor) -> Tensor:
        if self.activation == "relu":
            return F.relu(hidden)
        # A second tensor this size would cost as much in memory traffic as the activation itself.
        in_place = not (hidden.requires_grad or torch.compiler.is_exporting())
        return torch.ops.aten.gelu_(hidden) if in_place else F.gelu(hidden)

    def _records_gradients(self, x: Tensor) -> bool:
        return torch.is_grad_enabled() and (x.requires_grad or any(p.requires_grad for p in self.parameters()))

    def _samples_at_once(self, x: Tensor) -> int:
        """On a CPU, as many samples as keep every temporary below the size that malloc returns to the kernel."""
        if x.device.type != "cpu":
            return len(x)
        widest = max(self.qkv.out_features, self.fc1.out_features) * x.element_size()
        return max(1, _TEMPORARY_BYTES // (widest * max(1, x.shape[1])))


def _mask_of(mask: Tensor | None, part: slice) -> Tensor | None:
    return mask if mask is None or len(mask) == 1 else mask[part]
