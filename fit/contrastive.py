"""The symmetric contrastive loss over the batch of all processes, and how far its embeddings are spread."""

from __future__ import annotations

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
    """Rows (b, D) of all processes, in order of rank: (B, D).

    The gradient of a row is the sum of what all processes give it, as in `Fabric.all_gather(..., sync_grads=True)`,
    which calls the same function but needs a Fabric at hand.
    """
    if not _several():
        return rows
    from torch.distributed.nn.functional import all_gather

    return torch.cat(all_gather(rows.contiguous()))


def spread(embeddings: Tensor) -> Tensor:
    """Variance of unit vectors (b, D) of all processes, summed over their directions: 0 when all are one, at most 1.

    A single vector, which can say nothing about it, gets 1.
    """
    rows = gather(l2_normalize(embeddings.detach().float()))  # (B, D)
    return rows.var(0, correction=0).sum() if len(rows) > 1 else rows.new_ones(())


def _several() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()
