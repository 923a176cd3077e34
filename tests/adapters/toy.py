"""Small labelled features: one token of each sample carries its class, the others are noise of another scale."""

from __future__ import annotations

import torch

from adapters.features import InMemoryFeatures

DIM, FRAMES, PATCHES = 16, 4, 9
LABELS = ("ant", "bee", "cat")


def toy_features(
    num_samples: int,
    seed: int = 0,
    *,
    kind: str = "tokens",
    layers: int = 0,
    multi_label: bool = False,
    noise: float = 1.0,
    ids: list[str] | None = None,
) -> InMemoryFeatures:
    """Half-precision features as a store would hand them out, with every second sample's last frame padding."""
    prototypes = torch.randn(len(LABELS), DIM, generator=torch.Generator().manual_seed(99))
    source = torch.Generator().manual_seed(seed)
    labels = torch.arange(num_samples) % len(LABELS)
    tokens = noise * torch.randn(num_samples, FRAMES, PATCHES, DIM, generator=source)
    place = torch.randint(0, (FRAMES - 1) * PATCHES, (num_samples,), generator=source)
    tokens.flatten(1, 2)[torch.arange(num_samples), place] += 5 * prototypes[labels]
    tokens = 30 * tokens + 7  # raw features of some encoders are far from unit scale
    masks = torch.ones(num_samples, FRAMES, dtype=torch.bool)
    masks[::2, -1] = False
    if kind == "frames":
        tokens = tokens.mean(2)
    if kind == "clip":
        tokens = tokens.mean((1, 2))
    if layers:
        tokens = torch.stack([tokens * (index + 1) for index in range(layers)], 1)
    targets = torch.nn.functional.one_hot(labels, len(LABELS)).float() if multi_label else labels
    return InMemoryFeatures(tokens.half(), targets, masks, ids)
