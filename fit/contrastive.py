"""Contrastive losses over the batch of all processes, and how far its embeddings lie apart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from core_encoder.models.video_text import l2_normalize


class Belonging(NamedTuple):
    """Which pairs of a batch belong together though they were not drawn as one: they are no negatives of one another.

    `texts (b, B)`: whether text j (of all) belongs to video i (of this process); `videos (b, B)`: whether video j (of
    all) belongs to text i (of this process).
    """

    texts: Tensor
    videos: Tensor


def contrastive_loss(
    video: Tensor,
    text: Tensor,
    scale: Tensor,
    belonging: Belonging | None = None,
    gather: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Symmetric cross entropy of `scale` times the similarities of unit vectors (b, D), this process's rows.

    Negatives come from all processes, with gradients; the mean over processes is the loss of the whole batch. `gather`
    is how they come, by default `gather` of this module.
    """
    bring = gather or _gather
    with torch.autocast(video.device.type, enabled=False):  # between logits of 100 bfloat16 knows steps of 0.5
        video, text, scale = video.float(), text.float(), scale.float()
        to_text = scale * video @ bring(text).T  # (b, B)
        to_video = scale * text @ bring(video).T  # (b, B)
        targets = _own_places(to_text)
        if belonging is not None:
            to_text = to_text.masked_fill(_others(belonging.texts, targets), -torch.inf)
            to_video = to_video.masked_fill(_others(belonging.videos, targets), -torch.inf)
        return 0.5 * (F.cross_entropy(to_text, targets) + F.cross_entropy(to_video, targets))


def sigmoid_loss(
    video: Tensor,
    text: Tensor,
    scale: Tensor,
    bias: Tensor,
    belonging: Belonging | None = None,
    gather: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Every pair by itself: -log sigmoid of plus or minus `scale * similarity + bias`, summed over texts, a mean video.

    As `contrastive_loss`, but what belongs together without being drawn as one is left out.
    Source: SigLIP, Zhai et al., arXiv 2303.15343.
    """
    bring = gather or _gather
    with torch.autocast(video.device.type, enabled=False):
        logits = scale.float() * video.float() @ bring(text.float()).T + bias.float()  # (b, B)
        targets = _own_places(logits)
        own = F.one_hot(targets, logits.shape[1]).bool()
        losses = -F.logsigmoid(torch.where(own, logits, -logits))
        if belonging is not None:
            losses = losses.masked_fill(_others(belonging.texts, targets), 0.0)
        return losses.sum(1).mean()


def belonging_of(drawn: Tensor, known: Tensor, gather: Callable[[Tensor], Tensor] | None = None) -> Belonging:
    """Who belongs together by numbers that stand for texts: `drawn (b,)`, and all that a video has, `known (b, C)`."""
    bring = gather or _gather
    all_drawn, all_known = bring(drawn), bring(known)  # (B,), (B, C)
    texts = (known[:, None] == all_drawn[None, :, None]).any(-1)  # (b, B)
    videos = (drawn[:, None, None] == all_known[None]).any(-1)  # (b, B)
    return Belonging(texts, videos)


def _own_places(logits: Tensor) -> Tensor:
    """The column of each of this process's rows among the rows of all: (b,)."""
    own, all_rows = logits.shape
    first = torch.distributed.get_rank() * own if all_rows > own else 0
    return torch.arange(own, device=logits.device) + first


def _others(belong: Tensor, targets: Tensor) -> Tensor:
    """The pairs that belong together and are not the one drawn."""
    return belong & ~F.one_hot(targets, belong.shape[1]).bool()


def gather(rows: Tensor) -> Tensor:
    """Rows (b, D) of all processes, in order of rank: (B, D); gradients flow back to where each row came from."""
    return _Gather.apply(rows) if _several() else rows


_gather = gather  # where an argument is called so


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
