"""How good an encoder is while it is being made: retrieval, zero-shot names and a small probe on held-out clips."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core_encoder.models.pooling import AttentionPooling
from core_encoder.models.text_tower import Tokenizer
from core_encoder.models.video_text import VideoTextModel
from core_encoder.preprocessing import to_video_tensor

_CLIPS_AT_ONCE = 32
_PROBE_EPOCHS = 20


@dataclass(frozen=True)
class HeldOut:
    """Clips that are never trained on: frames uint8 (n, T, H, W, 3), captions and labels (one dict per clip)."""

    frames: Tensor
    captions: tuple[str, ...]
    labels: tuple[dict[str, str], ...]


@torch.no_grad()
def encode(model: VideoTextModel, frames: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    """Frames uint8 (n, T, H, W, 3) -> tokens (n, L, D) and video embeddings (n, D), on the CPU."""
    tokens, embeddings = [], []
    for part in frames.split(_CLIPS_AT_ONCE):
        seen, _, embedding = model(to_video_tensor(part.to(device)), embed=True)
        assert embedding is not None
        tokens.append(seen.flatten(1, 2).float().cpu())
        embeddings.append(embedding.float().cpu())
    return torch.cat(tokens), torch.cat(embeddings)


@torch.no_grad()
def embed_texts(model: VideoTextModel, tokenizer: Tokenizer, texts: Sequence[str], device: torch.device) -> Tensor:
    """Texts -> unit vectors (n, D), on the CPU."""
    parts = [texts[first : first + 64] for first in range(0, len(texts), 64)]
    return torch.cat([model.embed_token_ids(*(t.to(device) for t in tokenizer(part))).float().cpu() for part in parts])


def evaluate(
    model: VideoTextModel, tokenizer: Tokenizer | None, held_out: HeldOut, device: torch.device, seed: int
) -> dict[str, float]:
    """Scores in [0, 1] of a model on held-out clips.

    `recall@1/text` and `recall@1/video`: whether the best text of a video (video of a text) carries the right caption;
    equal captions count as one. `zero_shot/<label>`: the label's name nearest to the video. `probe/<label>`: an
    attention-pooling probe trained on the first half of the clips, judged on the second.
    """
    was_training = model.training
    model.eval()
    tokens, videos = encode(model, held_out.frames, device)
    scores: dict[str, float] = {}
    if tokenizer is not None and any(held_out.captions):
        texts = sorted({caption for caption in held_out.captions if caption})
        kept = torch.tensor([i for i, caption in enumerate(held_out.captions) if caption])
        right = torch.tensor([texts.index(held_out.captions[i]) for i in kept.tolist()])
        similarity = videos[kept] @ embed_texts(model, tokenizer, texts, device).T  # (n, texts)
        scores["recall@1/text"] = float((similarity.argmax(1) == right).float().mean())
        scores["recall@1/video"] = float((right[similarity.argmax(0)] == torch.arange(len(texts))).float().mean())
    for label in sorted({name for labels in held_out.labels for name in labels}):
        kept = torch.tensor([i for i, labels in enumerate(held_out.labels) if label in labels])
        values = [held_out.labels[i][label] for i in kept.tolist()]
        names = sorted(set(values))
        if not 2 <= len(names) < len(values):
            continue
        targets = torch.tensor([names.index(value) for value in values])
        if tokenizer is not None:
            similarity = videos[kept] @ embed_texts(model, tokenizer, names, device).T  # (n, names)
            scores[f"zero_shot/{label}"] = float((similarity.argmax(1) == targets).float().mean())
        scores[f"probe/{label}"] = probe(tokens[kept], targets, len(names), seed)
    model.train(was_training)
    return scores


def probe(tokens: Tensor, targets: Tensor, classes: int, seed: int) -> float:
    """Accuracy of attention pooling and a linear layer on tokens (n, L, D): trained on the first half, judged on the
    second.
    """
    half = len(tokens) // 2
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(seed)
        width = tokens.shape[-1]
        head = nn.Sequential(AttentionPooling(width, math.gcd(width, 4)), nn.Linear(width, classes))
        optimizer = torch.optim.AdamW(head.parameters(), lr=2e-3, weight_decay=0.01)
        for _ in range(_PROBE_EPOCHS):
            for rows in torch.randperm(half).split(32):
                optimizer.zero_grad()
                F.cross_entropy(head(tokens[rows]), targets[rows]).backward()
                optimizer.step()
    with torch.no_grad():
        guesses = torch.cat([head(part).argmax(1) for part in tokens[half:].split(64)])
    return float((guesses == targets[half:]).float().mean())
