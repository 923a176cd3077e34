"""Attention pooling that never projects the tokens: one learned query (or a few) reads a long sequence cheaply.

Axes: B batch, L sequence, D width, H heads, hd head width, Q queries, M = H * Q folded queries.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Bytes of float32 tokens looked at together.
_CPU_BLOCK_BYTES = 1 << 20
_DEVICE_BLOCK_BYTES = 256 << 20


def attention_pool(
    tokens: Tensor,
    query: Tensor,
    key_weight: Tensor,
    value_weight: Tensor,
    value_bias: Tensor | None,
    heads: int,
    mask: Tensor | None = None,
    positions: Tensor | None = None,
) -> Tensor:
    """Attend from a few queries to all tokens without projecting the tokens to keys and values.

    The key projection is folded into the query, `(x Wk^T) q = x (Wk^T q)` (a key bias would cancel in the softmax), and
    the value projection comes after the weighted sum of the raw tokens. Outputs and gradients are those of the
    textbook form; the arithmetic per token falls from `4 D^2` to `4 D H Q`.

    Shapes: tokens `(B, L, D)` in any float dtype (half-precision caches are read as they are); query `(Q, H*hd)`
    already projected and scaled; key_weight `(H*hd, D)`; value_weight `(H*hd_v, D)`; value_bias `(H*hd_v,)`;
    mask `(B, L)` boolean, True = attend; positions `(L, D)` are added to the tokens of every sample
    -> `(B, Q, H*hd_v)` in the dtype of the query. A sample without any token gives the value bias.
    Raises ValueError when the shapes do not fit together.
    """
    if tokens.ndim != 3 or query.ndim != 2 or query.shape[1] != key_weight.shape[0]:
        raise ValueError(
            f"attention_pool wants tokens (B, L, D), query (Q, H*hd) and key_weight (H*hd, D), "
            f"not {(*tokens.shape,)}, {(*query.shape,)} and {(*key_weight.shape,)}"
        )
    if mask is not None and (mask.dtype is not torch.bool or mask.shape != tokens.shape[:2]):
        raise ValueError(f"mask is boolean {(*tokens.shape[:2],)}, not {mask.dtype} {(*mask.shape,)}")
    if positions is not None and positions.shape != tokens.shape[1:]:
        raise ValueError(f"positions are {(*tokens.shape[1:],)}, not {(*positions.shape,)}")
    per_head = query.unflatten(1, (heads, -1))  # (Q, H, hd)
    folded = torch.einsum("qhc,hcd->hqd", per_head, key_weight.unflatten(0, (heads, -1)))  # (H, Q, D)
    pooled = _PoolTokens.apply(tokens, folded.flatten(0, 1), mask, positions)  # (B, H*Q, D)
    values = torch.einsum("bhqd,hcd->bqhc", pooled.unflatten(1, (heads, -1)), value_weight.unflatten(0, (heads, -1)))
    values = values.flatten(2)  # (B, Q, H*hd_v)
    return values if value_bias is None else values + value_bias


class _PoolTokens(torch.autograd.Function):
    """Softmax-weighted sums of tokens `(B, L, D)` for folded queries `(M, D)` -> `(B, M, D)`, sample by sample.

    Beyond its arguments it keeps only the weights `(B, M, L)`; a sample is converted to the queries' dtype, and has its
    positions added, when its turn comes.
    """

    @staticmethod
    def forward(ctx: Any, tokens: Tensor, folded: Tensor, mask: Tensor | None, positions: Tensor | None) -> Tensor:
        batch, length, dim = tokens.shape
        pooled = folded.new_empty(batch, len(folded), dim)
        weights = folded.new_empty(batch, len(folded), length)
        for part in _sample_blocks(tokens):
            x = _block_of(tokens, positions, part, folded.dtype)  # (b, L, D)
            logits = torch.matmul(x, folded.T).transpose(1, 2)  # (b, M, L)
            if mask is not None:
                logits = logits.masked_fill(~mask[part, None], -torch.inf)
            weights[part] = logits.softmax(-1)
            if mask is not None:  # a sample without any token: zeros instead of the softmax's NaN
                weights[part] = weights[part].masked_fill(~mask[part, None], 0.0)
            pooled[part] = torch.matmul(weights[part], x)
        ctx.save_for_backward(tokens, folded, positions, weights, pooled)
        return pooled

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_pooled: Tensor) -> tuple[Tensor | None, ...]:
        tokens, folded, positions, weights, pooled = ctx.saved_tensors
        needs_tokens, _, _, needs_positions = ctx.needs_input_grad
        grad_folded = torch.zeros_like(folded)
        grad_tokens = torch.empty_like(tokens) if needs_tokens else None
        grad_positions = torch.zeros_like(positions) if needs_positions else None
        mean = (grad_pooled * pooled).sum(-1, keepdim=True)  # (B, M, 1)
        for part in _sample_blocks(tokens):
            x, weight, grad = _block_of(tokens, positions, part, folded.dtype), weights[part], grad_pooled[part]
            grad_logits = (
                torch.matmul(x, grad.transpose(1, 2)).transpose(1, 2).sub(mean[part]).mul_(weight)
            )  # (b, M, L)
            grad_folded += torch.matmul(grad_logits, x).sum(0)
            if needs_tokens or needs_positions:
                grad_x = torch.matmul(weight.transpose(1, 2), grad)  # (b, L, D)
                grad_x += torch.matmul(grad_logits.transpose(1, 2), folded)
                if grad_tokens is not None:
                    grad_tokens[part] = grad_x
                if grad_positions is not None:
                    grad_positions += grad_x.sum(0)
        return grad_tokens, grad_folded, None, grad_positions


def _sample_blocks(tokens: Tensor) -> Iterator[slice]:
    """As many samples as fit a block, at least one: on a CPU the second pass over them finds them in the cache."""
    sample_bytes = max(1, 4 * tokens.shape[1] * tokens.shape[2])
    step = max(1, (_CPU_BLOCK_BYTES if tokens.device.type == "cpu" else _DEVICE_BLOCK_BYTES) // sample_bytes)
    for first in range(0, len(tokens), step):
        yield slice(first, first + step)


def _block_of(tokens: Tensor, positions: Tensor | None, part: slice, dtype: torch.dtype) -> Tensor:
    x = tokens[part]
    if positions is None:
        return x.to(dtype)
    return x + positions if x.dtype == dtype else x.to(dtype).add_(positions)  # a converted copy is ours to change


class AttentionPooling(nn.Module):
    """Pool tokens `(B, L, D)` to one vector `(B, D)` by attention from a learned query (the MAP head of VideoPrism).

    Query, key and value are projected to `inner_dim` split over the heads; with `per_dim_scale` every query dimension
    has a learned scale `softplus(s) / softplus(0)` on top of `1 / sqrt(head width)`. No soft cap.
    Raises ValueError when heads does not divide inner_dim.
    """

    def __init__(self, dim: int, heads: int, inner_dim: int | None = None, per_dim_scale: bool = False) -> None:
        super().__init__()
        inner_dim = dim if inner_dim is None else inner_dim
        if inner_dim % heads:
            raise ValueError(f"{heads} heads do not divide an inner width of {inner_dim}")
        self.heads = heads
        self.query = nn.Parameter(nn.init.normal_(torch.empty(1, 1, dim), std=dim**-0.5))
        self.q = nn.Linear(dim, inner_dim)
        self.k = nn.Linear(dim, inner_dim)
        self.v = nn.Linear(dim, inner_dim)
        self.o = nn.Linear(inner_dim, dim)
        self.per_dim_scale = nn.Parameter(torch.zeros(inner_dim // heads)) if per_dim_scale else None

    def forward(self, tokens: Tensor, mask: Tensor | None = None, positions: Tensor | None = None) -> Tensor:
        """Pool tokens `(B, L, D)` -> `(B, D)`; mask `(B, L)`, True = attend; positions `(L, D)` are added to tokens."""
        query = self.q(self.query[0]).unflatten(1, (self.heads, -1))  # (1, H, hd)
        query = query * query.shape[-1] ** -0.5
        if self.per_dim_scale is not None:
            query = query * (F.softplus(self.per_dim_scale) / F.softplus(torch.zeros_like(self.per_dim_scale)))
        weights = self.k.weight, self.v.weight, self.v.bias
        pooled = attention_pool(tokens, query.flatten(1), *weights, self.heads, mask, positions)  # (B, 1, inner)
        # The key bias cancels in the softmax. Adding zero times it gives it the zero gradient it has in the textbook
        # form, where distributed training would miss a gradient that is None.
        return self.o(pooled[:, 0]) + 0.0 * self.k.bias.sum()  # (B, D)
