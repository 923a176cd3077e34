"""Soft-capped attention in bounded memory: the `L x L` logits exist only one cache-sized block at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

# Bytes of logits held at once. On a CPU each core's share has to stay in its second-level cache, because several
# elementwise passes go over it; elsewhere a block only has to be large enough to keep the device busy.
_CORE_BLOCK_BYTES = 3 << 19
_DEVICE_BLOCK_BYTES = 256 << 20
# exp(60) times a million keys still fits float32, so logits capped below it need no maximum subtracted.
_LARGEST_PLAIN_CAP = 60.0


def soft_capped_attention(q: Tensor, k: Tensor, v: Tensor, cap: float | None, mask: Tensor | None = None) -> Tensor:
    """Attention whose logits are capped before the softmax: `cap * tanh(q k^T / sqrt(hd) / cap)`.

    Shapes: q `(B, H, Lq, hd)`, k and v `(B, H, Lk, hd)` -> `(B, H, Lq, hd)`. `mask` is boolean, broadcastable to
    `(B, H, Lq, Lk)`, True = attend; a query that may attend to nothing gets zeros. `cap=None` means no cap.
    Memory stays bounded in both directions: the backward pass computes the logits again, block by block.
    Raises ValueError when the shapes do not fit together or the mask is not boolean.
    """
    _check(q, k, v, mask)
    if cap is None:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    if mask is not None:
        mask = mask[(None,) * (4 - mask.ndim)]
    if torch.compiler.is_exporting():
        return _traced(q, k, v, cap, mask)
    if torch.is_grad_enabled() and (q.requires_grad or k.requires_grad or v.requires_grad):
        out: Tensor = _SoftCappedAttention.apply(q, k, v, cap, mask)
        return out
    return _forward(q, k, v, cap, mask)


def _check(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> None:
    if q.ndim != 4 or k.shape != v.shape or q.shape[:2] != k.shape[:2] or q.shape[3] != k.shape[3]:
        raise ValueError(
            f"attention wants q (B, H, Lq, hd) and k, v (B, H, Lk, hd), not {(*q.shape,)}, {(*k.shape,)}, {(*v.shape,)}"
        )
    if mask is None:
        return
    if mask.dtype is not torch.bool:
        raise ValueError(f"an attention mask is boolean, True = attend, not {mask.dtype}")
    target = (*q.shape[:3], k.shape[2])
    if mask.ndim > 4 or any(m not in (1, t) for m, t in zip(mask.shape[::-1], target[::-1], strict=False)):
        raise ValueError(f"an attention mask of shape {(*mask.shape,)} does not broadcast to {target}")


def _blocks(q: Tensor, k: Tensor) -> Iterator[tuple[slice, slice, slice]]:
    """Cut (batch, heads, queries) into boxes of one sample or of one head whose logits fit the block size.

    Such a box is a plain batch of matrices even where q, k, v are views of one fused projection: nothing is copied.
    """
    on_cpu = q.device.type == "cpu"
    room = (_CORE_BLOCK_BYTES * torch.get_num_threads() if on_cpu else _DEVICE_BLOCK_BYTES) // 4 // max(1, k.shape[2])
    steps = [1, 1, 1]
    for axis in (2, 1) if q.shape[1] >= q.shape[0] else (2, 0):
        steps[axis] = max(1, min(q.shape[axis], room))
        room //= steps[axis]
    for b in range(0, q.shape[0], steps[0]):
        for h in range(0, q.shape[1], steps[1]):
            for i in range(0, q.shape[2], steps[2]):
                yield slice(b, b + steps[0]), slice(h, h + steps[1]), slice(i, i + steps[2])


def _mask_block(mask: Tensor | None, box: tuple[slice, ...]) -> Tensor | None:
    """The box's part of a 4-D mask, `(n, rows, Lk)` or sizes of one."""
    if mask is None:
        return None
    part = mask[tuple(cut if size > 1 else slice(None) for cut, size in zip(box, mask.shape, strict=False))]
    return part.flatten(0, 1)


def _squashed_logits(q: Tensor, k: Tensor, cap: float) -> Tensor:
    """`tanh(q k^T / sqrt(hd) / cap)` of a block `(n, rows, Lk)`, in at least float32."""
    logits = q.new_empty(*q.shape[:2], k.shape[1])
    torch.baddbmm(logits, q, k.transpose(1, 2), beta=0, alpha=q.shape[2] ** -0.5 / cap, out=logits)
    return (logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits).tanh_()


def _softmax_(capped: Tensor, cap: float, mask: Tensor | None) -> Tensor:
    """Softmax over the keys, in place; a query without any key gets zeros. The cap spares the pass for the maximum."""
    if mask is not None:
        capped.masked_fill_(~mask, -torch.inf)
    if cap > _LARGEST_PLAIN_CAP:
        capped -= capped.amax(-1, keepdim=True).clamp_min_(-cap)
    total = capped.exp_().sum(-1, keepdim=True)
    return capped.div_(total if mask is None else total.masked_fill_(total == 0, 1.0))


def _traced(q: Tensor, k: Tensor, v: Tensor, cap: float, mask: Tensor | None) -> Tensor:
    """All logits at once: a graph that fits every size has no loop over blocks, whose number depends on them."""
    logits = cap * torch.tanh(q @ k.transpose(2, 3) * (q.shape[3] ** -0.5 / cap))  # (B, H, Lq, Lk)
    if mask is None:
        return logits.softmax(-1) @ v
    weights = logits.masked_fill(~mask, -torch.inf).softmax(-1)
    return weights.masked_fill(~mask, 0.0) @ v  # a query without any key has NaN everywhere before


def _forward(q: Tensor, k: Tensor, v: Tensor, cap: float, mask: Tensor | None) -> Tensor:
    batch, heads, queries, head_dim = q.shape
    out = q.new_empty(batch, queries, heads, head_dim).transpose(1, 2)  # (B, H, Lq, hd), stored as (B, Lq, H, hd)
    for box in _blocks(q, k):
        keys, values = k[box[:2]].flatten(0, 1), v[box[:2]].flatten(0, 1)  # (n, Lk, hd)
        weights = _squashed_logits(q[box].flatten(0, 1), keys, cap).mul_(cap)  # (n, rows, Lk)
        weights = _softmax_(weights, cap, _mask_block(mask, box))
        out[box] = torch.bmm(weights.to(v.dtype), values).view_as(out[box])
    return out


class _SoftCappedAttention(torch.autograd.Function):
    """The training path: keeps nothing but its arguments and result, and computes the logits again on the way back."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, cap: float, mask: Tensor | None) -> Tensor:
        out = _forward(q, k, v, cap, mask)
        ctx.save_for_backward(q, k, v, out, mask)
        ctx.cap = cap
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, out, mask = ctx.saved_tensors
        scale, cap = q.shape[-1] ** -0.5, ctx.cap
        grad_q, grad_k, grad_v = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
        for box in _blocks(q, k):
            pair = box[:2]
            queries, grad, result = (x[box].flatten(0, 1) for x in (q, grad_out, out))  # (n, rows, hd)
            keys, values = k[pair].flatten(0, 1), v[pair].flatten(0, 1)  # (n, Lk, hd)
            squashed = _squashed_logits(queries, keys, cap)  # (n, rows, Lk)
            weights = _softmax_(squashed * cap, cap, _mask_block(mask, box))
            grad_v[pair] += torch.bmm(weights.to(grad.dtype).transpose(1, 2), grad).view_as(grad_v[pair])
            # Backwards through the softmax, the tanh and the scale.
            mean = (grad * result).sum(-1, keepdim=True, dtype=weights.dtype)
            grad_logits = weights.mul_(torch.bmm(grad, values.transpose(1, 2)) - mean)
            grad_logits = grad_logits.mul_(1.0 - squashed.square_()).mul_(scale).to(q.dtype)
            grad_q[box] = torch.bmm(grad_logits, keys).view_as(grad_q[box])
            grad_k[pair] += torch.bmm(grad_logits.transpose(1, 2), queries).view_as(grad_k[pair])
        return grad_q, grad_k, grad_v, None, None


@dataclass(frozen=True)
class TokenGroups:
    """Which tokens of a packed `(V, D)` sequence attend to each other: those of the same group, all of them.

    Groups of (nearly) one size form a bucket and are computed together. `buckets` holds, per bucket, the positions of
    its tokens `(G, S)` and, where some groups are shorter than S, which of them are real; `order` brings the real
    tokens of all buckets back to packed order, None when they already are.
    """

    buckets: tuple[tuple[Tensor, Tensor | None], ...]
    order: Tensor | None

    @classmethod
    def from_ids(cls, ids: Tensor, max_buckets: int = 16) -> TokenGroups:
        """Group packed tokens by equal integers `ids (V,)`; groups of at most `max_buckets` sizes need no padding.

        A token with an id of its own attends to itself alone, which is how padding is kept away from real tokens.
        Build it once per batch: it waits for the device. Raises ValueError when ids is not one-dimensional.
        """
        if ids.ndim != 1:
            raise ValueError(f"group ids are (V,), not {(*ids.shape,)}")
        sorted_ids, positions = ids.sort(stable=True)
        sizes = torch.unique_consecutive(sorted_ids, return_counts=True)[1]  # (groups,)
        starts = sizes.cumsum(0) - sizes
        distinct = sizes.unique().tolist()
        if len(distinct) > max_buckets:
            step = -(-distinct[-1] // max_buckets)
            widths = (sizes + step - 1) // step * step
        else:
            widths = sizes
        buckets: list[tuple[Tensor, Tensor | None]] = []
        packed: list[Tensor] = []
        for width in widths.unique().tolist():
            members = widths == width
            slot = torch.arange(width, device=ids.device)
            real = slot < sizes[members, None]  # (G, S)
            index = positions[(starts[members, None] + slot).clamp_(max=len(ids) - 1)]  # (G, S)
            padded = not bool(real.all())
            buckets.append((index, real if padded else None))
            packed.append(index[real] if padded else index.flatten())
        order = torch.cat(packed).argsort() if packed else positions
        in_order = bool((order == torch.arange(len(order), device=ids.device)).all())
        return cls(tuple(buckets), None if in_order else order)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, cap: float | None) -> Tensor:
        """Attention inside every group; q, k, v `(V, H, hd)` -> `(V, H, hd)`."""
        parts = []
        for index, real in self.buckets:
            if self.order is None and real is None and len(self.buckets) == 1:  # the tokens lie group by group
                bucket = [x.unflatten(0, index.shape) for x in (q, k, v)]
            else:
                bucket = [x[index] for x in (q, k, v)]  # (G, S, H, hd)
            mask = None if real is None else real[:, None, None, :]
            q_heads, k_heads, v_heads = (x.transpose(1, 2) for x in bucket)  # (G, H, S, hd)
            out = soft_capped_attention(q_heads, k_heads, v_heads, cap, mask).transpose(1, 2)  # (G, S, H, hd)
            parts.append(out.flatten(0, 1) if real is None else out[real])
        if not parts:
            return v
        out = parts[0] if len(parts) == 1 else torch.cat(parts)  # (V, H, hd)
        return out if self.order is None else out[self.order]
