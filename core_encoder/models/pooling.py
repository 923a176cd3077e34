"""Attention pooling that never projects the tokens: one learned query (or a few) reads a long sequence cheaply.

Axes: B batch, L sequence, D width, H heads, hd head width, Q queries, M = H * Q folded queries.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Bytes of float32 tokens looked at together.
_CPU_BLOCK_BYTES = 1 << 20
_DEVICE_BLOCK_BYTES = 256 << 20


class Positions(NamedTuple):
    """Embeddings of a token's place, apart in time `(T, D)` and space `(N, D)`, of tokens that lie frame by frame."""

    time: Tensor
    space: Tensor


def attention_pool(
    tokens: Tensor,
    query: Tensor,
    key_weight: Tensor,
    value_weight: Tensor,
    value_bias: Tensor | None,
    heads: int,
    mask: Tensor | None = None,
    positions: Positions | None = None,
) -> Tensor:
    """Attend from a few queries to all tokens without projecting the tokens to keys and values.

    The key projection is folded into the query, `(x Wk^T) q = x (Wk^T q)` (a key bias would cancel in the softmax), and
    the value projection comes after the weighted sum of the raw tokens. Positions are added to no token either: they
    meet the folded query once for all samples, and afterwards what attention each frame and each place got. Outputs
    and gradients are those of the textbook form; the arithmetic per token falls from `4 D^2` to `4 D H Q`.

    Shapes: tokens `(B, L, D)` in any float dtype (half-precision caches are read as they are); query `(Q, H*hd)`
    already projected and scaled, in a traced graph also `(B or 1, Q, H*hd)`, of each sample its own; key_weight
    `(H*hd, D)`; value_weight `(H*hd_v, D)`; value_bias `(H*hd_v,)`; mask `(B, L)` boolean, True = attend; positions of
    `L = T*N` tokens are added to those of every sample -> `(B, Q, H*hd_v)` in the dtype of the query. A sample without
    any token gives the value bias.
    Raises ValueError when the shapes do not fit together.
    """
    traced = torch.compiler.is_exporting()
    if tokens.ndim != 3 or query.ndim > 2 + traced or query.shape[-1] != key_weight.shape[0]:
        raise ValueError(
            f"attention_pool wants tokens (B, L, D), query (Q, H*hd) and key_weight (H*hd, D), "
            f"not {(*tokens.shape,)}, {(*query.shape,)} and {(*key_weight.shape,)}"
        )
    if mask is not None and (mask.dtype is not torch.bool or mask.shape != tokens.shape[:2]):
        raise ValueError(f"mask is boolean {(*tokens.shape[:2],)}, not {mask.dtype} {(*mask.shape,)}")
    per_head = query.unflatten(-1, (heads, -1))  # (Q, H, hd)
    folded = torch.einsum("...qhc,hcd->...hqd", per_head, key_weight.unflatten(0, (heads, -1)))  # (H, Q, D)
    folded = folded.flatten(-3, -2)  # (M, D)
    bias = None
    if positions is not None:
        time, space = positions
        places = (time.shape[0], space.shape[0])
        if places[0] * places[1] != tokens.shape[1] or {time.shape[1], space.shape[1]} != {tokens.shape[2]}:
            raise ValueError(
                f"positions (T, D) and (N, D) are of {tokens.shape[1]} tokens of width {tokens.shape[2]}, "
                f"not {(*time.shape,)} and {(*space.shape,)}"
            )
        bias = (folded @ time.T)[..., None] + (folded @ space.T)[..., None, :]  # (M, T, N)
        bias = bias.flatten(-2)  # (M, L)
    pool = _traced_pool if traced else _PoolTokens.apply
    pooled, weights = pool(tokens, folded, mask, bias)  # (B, M, D), (B, M, L)
    if positions is not None:
        shares = weights.unflatten(2, places)  # (B, M, T, N)
        pooled = pooled + shares.sum(3) @ time + shares.sum(2) @ space
    values = torch.einsum("bhqd,hcd->bqhc", pooled.unflatten(1, (heads, -1)), value_weight.unflatten(0, (heads, -1)))
    values = values.flatten(2)  # (B, Q, H*hd_v)
    return values if value_bias is None else values + value_bias


def _traced_pool(tokens: Tensor, folded: Tensor, mask: Tensor | None, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    """What `_PoolTokens` computes, all samples at once, also for queries `(B, M, D)`: graphs fit every size."""
    tokens = tokens.to(folded.dtype)
    logits = torch.matmul(tokens, folded.mT).transpose(1, 2)  # (B, M, L)
    if bias is not None:
        logits = logits + bias
    if mask is None:
        weights = logits.softmax(-1)
    else:
        weights = logits.masked_fill(~mask[:, None], -torch.inf).softmax(-1).masked_fill(~mask[:, None], 0.0)
    return torch.matmul(weights, tokens), weights


class _PoolTokens(torch.autograd.Function):
    """Softmax-weighted sums of tokens `(B, L, D)` for folded queries `(M, D)`, and the weights, sample by sample.

    `bias (M, L)` is added to the logits of every sample. Beyond its arguments it keeps only the weights `(B, M, L)`; a
    sample is converted to the queries' dtype when its turn comes.
    """

    @staticmethod
    def forward(
        ctx: Any, tokens: Tensor, folded: Tensor, mask: Tensor | None, bias: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        batch, length, dim = tokens.shape
        pooled = folded.new_empty(batch, len(folded), dim)
        weights = folded.new_empty(batch, len(folded), length)
        for part in _sample_blocks(tokens):
            x = tokens[part].to(folded.dtype)  # (b, L, D)
            logits = torch.matmul(x, folded.T).transpose(1, 2)  # (b, M, L)
            if bias is not None:
                logits = logits + bias
            if mask is not None:
                logits = logits.masked_fill(~mask[part, None], -torch.inf)
            weights[part] = logits.softmax(-1)
            if mask is not None:  # a sample without any token: zeros instead of the softmax's NaN
                weights[part] = weights[part].masked_fill(~mask[part, None], 0.0)
            pooled[part] = torch.matmul(weights[part], x)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(tokens, folded, weights, pooled)
        return pooled, weights

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_pooled: Tensor | None, grad_weights: Tensor | None) -> tuple[Tensor | None, ...]:
        tokens, folded, weights, pooled = ctx.saved_tensors
        if grad_pooled is None:
            grad_pooled = torch.zeros_like(pooled)
        needs_tokens, _, _, needs_bias = ctx.needs_input_grad
        grad_folded = torch.zeros_like(folded)
        grad_tokens = torch.empty_like(tokens) if needs_tokens else None
        grad_bias = folded.new_zeros(weights.shape[1:]) if needs_bias else None
        mean = (grad_pooled * pooled).sum(-1, keepdim=True)  # (B, M, 1)
        if grad_weights is not None:
            mean = mean + (grad_weights * weights).sum(-1, keepdim=True)
        for part in _sample_blocks(tokens):
            x, weight, grad = tokens[part].to(folded.dtype), weights[part], grad_pooled[part]
            grad_weight = torch.matmul(x, grad.transpose(1, 2)).transpose(1, 2)  # (b, M, L)
            if grad_weights is not None:
                grad_weight = grad_weight + grad_weights[part]
            grad_logits = grad_weight.sub(mean[part]).mul_(weight)  # (b, M, L)
            grad_folded += torch.matmul(grad_logits, x).sum(0)
            if grad_bias is not None:
                grad_bias += grad_logits.sum(0)
            if grad_tokens is not None:
                grad_x = torch.matmul(weight.transpose(1, 2), grad)  # (b, L, D)
                grad_tokens[part] = grad_x + torch.matmul(grad_logits.transpose(1, 2), folded)
        return grad_tokens, grad_folded, None, grad_bias


def _sample_blocks(tokens: Tensor) -> Iterator[slice]:
    """As many samples as fit a block, at least one: on a CPU the second pass over them finds them in the cache."""
    sample_bytes = max(1, 4 * tokens.shape[1] * tokens.shape[2])
    step = max(1, (_CPU_BLOCK_BYTES if tokens.device.type == "cpu" else _DEVICE_BLOCK_BYTES) // sample_bytes)
    for first in range(0, len(tokens), step):
        yield slice(first, first + step)


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

    def forward(self, tokens: Tensor, mask: Tensor | None = None, positions: Positions | None = None) -> Tensor:
        """Pool tokens `(B, L, D)` -> `(B, D)`; mask `(B, L)`, True = attend; positions are added to the tokens."""
        query = self.q(self.query[0]).unflatten(1, (self.heads, -1))  # (1, H, hd)
        query = query * query.shape[-1] ** -0.5
        if self.per_dim_scale is not None:
            query = query * (F.softplus(self.per_dim_scale) / F.softplus(torch.zeros_like(self.per_dim_scale)))
        weights = self.k.weight, self.v.weight, self.v.bias
        pooled = attention_pool(tokens, query.flatten(1), *weights, self.heads, mask, positions)  # (B, 1, inner)
        # The key bias cancels in the softmax. Adding zero times it gives it the zero gradient it has in the textbook
        # form, where distributed training would miss a gradient that is None.
        return self.o(pooled[:, 0]) + 0.0 * self.k.bias.sum()  # (B, D)
