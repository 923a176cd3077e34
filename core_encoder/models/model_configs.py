"""The numbers of the models: what a checkpoint, a recipe and a dry run know of them. No torch."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True)
class ViViTConfig:
    """The numbers of one encoder; `cap` bounds attention logits by `cap * tanh(logits / cap)`.

    Raises:
        ValueError: a size is not positive, `heads` does not divide `width`, or `patch_size` not `image_size`.
    """

    width: int
    heads: int
    mlp_dim: int
    spatial_layers: int
    temporal_layers: int
    patch_size: int
    image_size: int
    num_frames: int
    cap: float = 50.0

    def __post_init__(self) -> None:
        for field in fields(self):
            if not getattr(self, field.name) > 0:
                raise ValueError(f"{field.name} must be positive, not {getattr(self, field.name)}")
        if self.width % self.heads:
            raise ValueError(f"heads {self.heads} must divide width {self.width}")
        if self.image_size % self.patch_size:
            raise ValueError(f"patch_size {self.patch_size} must divide image_size {self.image_size}")

    @property
    def grid(self) -> int:
        """Patches along one side of a frame of the trained size."""
        return self.image_size // self.patch_size

    @property
    def num_layers(self) -> int:
        return self.spatial_layers + self.temporal_layers


PRESETS = {
    "nano": ViViTConfig(
        width=128,
        heads=4,
        mlp_dim=512,
        spatial_layers=6,
        temporal_layers=2,
        patch_size=8,
        image_size=48,
        num_frames=8,
    ),
    "base": ViViTConfig(
        width=768,
        heads=12,
        mlp_dim=3072,
        spatial_layers=12,
        temporal_layers=4,
        patch_size=18,
        image_size=288,
        num_frames=16,
    ),
    "large": ViViTConfig(
        width=1024,
        heads=16,
        mlp_dim=4096,
        spatial_layers=24,
        temporal_layers=4,
        patch_size=18,
        image_size=288,
        num_frames=8,
    ),
    "giant": ViViTConfig(
        width=1408,
        heads=16,
        mlp_dim=6144,
        spatial_layers=40,
        temporal_layers=4,
        patch_size=18,
        image_size=288,
        num_frames=8,
    ),
}


@dataclass(frozen=True)
class TextConfig:
    """The numbers of a text tower; texts are cut after `max_length` tokens.

    Raises:
        ValueError: a size is not positive, `heads` does not divide `width`, or `width` is odd.
    """

    vocab_size: int = 32000
    width: int = 768
    heads: int = 12
    mlp_dim: int = 3072
    layers: int = 12
    max_length: int = 64
    cap: float = 50.0

    def __post_init__(self) -> None:
        for field in fields(self):
            if not getattr(self, field.name) > 0:
                raise ValueError(f"{field.name} must be positive, not {getattr(self, field.name)}")
        if self.width % self.heads or self.width % 2:
            raise ValueError(f"width {self.width} must be even and a multiple of heads {self.heads}")


@dataclass(frozen=True)
class VideoHeadConfig:
    """The auxiliary layers and the inner width of the attention pooling."""

    auxiliary_layers: int = 2
    pooling_dim: int = 3072


@dataclass(frozen=True)
class VideoTextConfig:
    """An encoder, and what stands on it: nothing, a video head, or a video head and a text tower."""

    vision: ViViTConfig
    video_head: VideoHeadConfig | None = None
    text: TextConfig | None = None
