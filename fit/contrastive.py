"""The symmetric contrastive loss over the batch of all processes, and how far its embeddings lie apart."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from core_encoder.models.video_text import l2_normalize


def contrastive_loss(video: Tensor, text: Tensor, scale: Tensor) -> Tensor:
    """Symmetric cross entropy of `scale` times the similarities of unit vectors (b, D), this process's rows.

    Negatives come from all processes, with gradients; the mean over processes is the loss of the whole batch.
    """
    rank = torch.distributed.get_rank() if _several() else 0
    targets = torch.arange(len(video), device=video.device) + rank * len(video)
    with torch.autocast(video.device.type, enabled=False):  # between logits of 100 bfloat16 knows steps of 0.5
        video, text, scale = video.float(), text.float(), scale.float()
        to_text = scale * video @ gather(text).T  # (b, B)
        to_video = scale * text @ gather(video).T  # (b, B)
        return 0.5 * (F.cross_entropy(to_text, targets) + F.cross_entropy(to_video, targets))


def gather(rows: Tensor) -> Tensor:
    """Rows (b, D) of all processes, in order of rank: (B, D); gradients flow back to where each row came from."""
    return _Gather.apply(rows) if _several() else rows


def uniformity(rows: Tensor) -> Tensor:
    """Log of the mean potential `exp(-2 |x - y|^2)` of unit vectors (b, D) of all processes: 0 when they are all close.

    Equal vectors are left out: they are those of equal texts. Source: Wang and Isola, arXiv 2005.10242.
    """
    with torch.autocast(rows.device.type, enabled=False):
        rows = gather(rows.float())  # (B, D)
        squared = 2 - 2 * rows @ rows.T  # (B, B)
        apart = squared[squared > 1e-6]
        return (-2 * apart).exp().mean().log() if len(apart) else 0.0 * rows.sum()


def spread(embeddings: Tensor) -> Tensor:
    """Variance of unit vectors (b, D) of all processes, summed over their directions: 0 when all are one, at most 1.

    A single vector, which can say nothing about it, gets 1.
    """
    rows = gather(l2_normalize(embeddings.detach().float()))  # (B, D)
    return rows.var(0, correction=0).sum() if len(rows) > 1 else rows.new_ones(())


class _Gather(torch.autograd.Function):
    """As `Fabric.all_gather(..., sync_grads=True)`, which calls a deprecated function of torch that warns."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        parts = [torch.empty_like(rows) for _ in range(torch.distributed.get_world_size())]
        torch.distributed.all_gather(parts, rows.contiguous())
        ctx.size = len(rows)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        grad = grad.contiguous()
        torch.distributed.all_reduce(grad)
        first = torch.distributed.get_rank() * ctx.size
        return grad[first : first + ctx.size]


def _several() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()
