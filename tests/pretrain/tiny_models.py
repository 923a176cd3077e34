"""Video-text models of a few thousand parameters, a tokenizer without files, and recipes around them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from core_encoder.models.model_configs import TextConfig, VideoHeadConfig, VideoTextConfig, ViViTConfig
from core_encoder.models.video_text import VideoTextModel

# 4 frames of 2 x 2 patches: 16 tokens.
VISION = ViViTConfig(
    width=16, heads=2, mlp_dim=32, spatial_layers=1, temporal_layers=1, patch_size=8, image_size=16, num_frames=4
)
TEXT = TextConfig(vocab_size=300, width=16, heads=2, mlp_dim=32, layers=1, max_length=12)


def tiny_model(seed: int = 0, auxiliary_layers: int = 0) -> VideoTextModel:
    """Random values for every parameter, so that none is left out unnoticed."""
    model = VideoTextModel(VideoTextConfig(VISION, VideoHeadConfig(auxiliary_layers, 32), TEXT))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.0, 0.3, generator=generator)
    return model


def random_frames(clips: int, frames: int = VISION.num_frames, seed: int = 0) -> Tensor:
    """uint8 (clips, frames, 16, 16, 3)"""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (clips, frames, 16, 16, 3), dtype=torch.uint8, generator=generator)


class LetterTokenizer:
    """One token for each letter."""

    def __call__(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        rows = [[ord(letter) % 300 for letter in text][:12] for text in texts]
        ids = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long)
        mask = torch.zeros_like(ids, dtype=torch.bool)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = torch.tensor(row)
            mask[i, : len(row)] = True
        return ids, mask

    def save(self, folder: Path) -> None:
        """Nothing to keep."""


def tiny_recipe(**changes: Any) -> dict[str, Any]:
    """A recipe of all four parts as it stands in a file; None removes a section."""
    part = {"steps": 4, "batch_size": 4, "num_frames": 4, "warmup_steps": 2}
    given: dict[str, Any] = {
        "name": "tiny",
        "seed": 3,
        "vision": {
            "width": 16,
            "heads": 2,
            "mlp_dim": 32,
            "spatial_layers": 1,
            "temporal_layers": 1,
            "patch_size": 8,
            "image_size": 16,
            "num_frames": 4,
        },
        "video_head": {"auxiliary_layers": 0, "pooling_dim": 32},
        "text": {"vocab_size": 300, "width": 16, "heads": 2, "mlp_dim": 32, "layers": 1, "max_length": 12},
        "corpus": "corpus.yaml",
        "images": part | {"num_frames": 1},
        "stage1": part,
        "stage2": part | {"decoder_layers": 1, "decoder_width": 16, "decoder_heads": 2, "decoder_mlp": 32},
        "alignment": part,
    }
    return {key: value for key, value in (given | changes).items() if value is not None}


def write_recipe(folder: Path, **changes: Any) -> Path:
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(tiny_recipe(**changes), sort_keys=False))
    return path
