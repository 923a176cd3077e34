"""The video-text model (LvT) around the video encoder: videos and texts as unit vectors of one space."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from core_encoder.models.layers import LayerNorm, TransformerLayer
from core_encoder.models.model_configs import VideoHeadConfig, VideoTextConfig, ViViTConfig
from core_encoder.models.pooling import AttentionPooling
from core_encoder.models.text_tower import TextTower
from core_encoder.models.trunk import Trunk
from core_encoder.models.vivit import ViViT, frames_to_mask


class VideoHead(nn.Module):
    """Auxiliary layers over all tokens of a clip, attention pooling, norm, unit length."""

    def __init__(self, vision: ViViTConfig, config: VideoHeadConfig) -> None:
        super().__init__()
        width, heads = vision.width, vision.heads
        self.auxiliary_layers = nn.ModuleList(
            TransformerLayer(width, heads, vision.mlp_dim, activation="gelu", cap=vision.cap)
            for _ in range(config.auxiliary_layers)
        )
        self.pooling = AttentionPooling(width, heads, config.pooling_dim, per_dim_scale=True)
        self.norm = LayerNorm(width)

    def forward(self, tokens: Tensor, frame_mask: Tensor | None = None) -> Tensor:
        """Tokens (B, T, N, D), of whose frames `frame_mask` (B, T) marks the real ones -> unit vectors (B, D)."""
        batch, frames, patches, _ = tokens.shape
        mask = frames_to_mask(frame_mask, batch, frames)
        if mask is not None:
            mask = mask.to(tokens.device).repeat_interleave(patches, dim=1)  # (B, T*N)
        x = tokens.flatten(1, 2)  # (B, T*N, D)
        for layer in self.auxiliary_layers:
            x = layer(x, mask=mask)
        return l2_normalize(self.norm(self.pooling(x, mask)))  # (B, D)


class VideoTextModel(nn.Module):
    """VideoPrism, with as much of the video-text model around it as the checkpoint has."""

    tubelet = 1
    has_halves = True

    def __init__(self, config: VideoTextConfig) -> None:
        super().__init__()
        self.config = config
        self.vision = ViViT(config.vision)
        self.video_head = None if config.video_head is None else VideoHead(config.vision, config.video_head)
        self.text_tower = None if config.text is None else TextTower(config.text)

    @property
    def num_frames(self) -> int:
        return self.config.vision.num_frames

    @property
    def image_size(self) -> int:
        return self.config.vision.image_size

    @property
    def patch_size(self) -> int:
        return self.config.vision.patch_size

    @property
    def dim(self) -> int:
        return self.config.vision.width

    @property
    def num_layers(self) -> int:
        return self.config.vision.num_layers

    @property
    def embedding_dim(self) -> int | None:
        return None if self.video_head is None else self.config.vision.width

    @property
    def embeds_tokens(self) -> bool:
        return self.video_head is not None

    @property
    def has_text(self) -> bool:
        return self.text_tower is not None

    def describe(self) -> dict[str, Any]:
        """All numbers of the architecture, ready for JSON."""
        return asdict(self.config)

    def trunk(self) -> Trunk:
        """The video encoder: tokens come of nothing else."""
        from core_encoder.models.transformers_format import transformers_sources, vision_prefix

        theirs = {
            name.removesuffix(".weight"): tuple(one.removesuffix(".weight") for one in source.names)
            for name, source in transformers_sources(self, vision_prefix(self.config)).items()
            if name.endswith(".weight")
        }
        return Trunk(self, self.vision, (*self.vision.spatial_layers, *self.vision.temporal_layers), theirs, once=True)

    def forward(
        self, video: Tensor, frame_mask: Tensor | None = None, layers: Sequence[int] = (), embed: bool = False
    ) -> tuple[Tensor, dict[int, Tensor], Tensor | None]:
        """Video (B, T, 3, H, W) -> tokens (B, T, N, D), asked hidden layers, embedding (B, D) when `embed`."""
        tokens, hidden = self.vision(video, frame_mask, layers=layers)
        return tokens, hidden, self.video_head(tokens, frame_mask) if embed and self.video_head is not None else None

    def encode_spatial(self, video: Tensor) -> Tensor:
        return self.vision.encode_spatial(video)

    def encode_temporal(self, spatial: Tensor, frame_mask: Tensor | None = None) -> Tensor:
        return self.vision.encode_temporal(spatial, frame_mask)

    def embed_tokens(self, tokens: Tensor, frame_mask: Tensor | None = None) -> Tensor:
        """Tokens (B, T, N, D) -> unit vectors (B, D)."""
        if self.video_head is None:
            raise ValueError("this model has no video head")
        return self.video_head(tokens, frame_mask)  # (B, D)

    def embed_token_ids(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Token ids (B, L) and mask (B, L), True = real token -> unit vectors (B, D)."""
        if self.text_tower is None:
            raise ValueError("this model has no text tower")
        return l2_normalize(self.text_tower(ids, mask))  # (B, D)


def l2_normalize(x: Tensor) -> Tensor:
    """Unit length along the last axis, computed in float32."""
    values = x.float()
    return (values * torch.rsqrt(values.square().sum(-1, keepdim=True) + 1e-12)).to(x.dtype)
