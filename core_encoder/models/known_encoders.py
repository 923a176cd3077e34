"""The encoders that have a name: bundled ones and published ones."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class EncoderInfo:
    """One encoder that `load_encoder` knows by name; any other folder, `.npz` or Hub id of these kinds works too."""

    name: str
    kind: str
    parameters: int
    num_frames: int
    image_size: int
    text: bool
    bundled: bool


_KNOWN = (
    EncoderInfo("nano", "video-text", 1_963_648, 8, 48, text=True, bundled=True),
    EncoderInfo("google/videoprism-base-f16r288", "video", 114_365_184, 16, 288, text=False, bundled=False),
    EncoderInfo("google/videoprism-large-f8r288", "video", 353_965_056, 8, 288, text=False, bundled=False),
    EncoderInfo("google/videoprism-lvt-base-f16r288", "video-text", 247_623_424, 16, 288, text=True, bundled=False),
    EncoderInfo("google/videoprism-lvt-large-f8r288", "video-text", 579_877_120, 8, 288, text=True, bundled=False),
    EncoderInfo("openai/clip-vit-large-patch14", "image-text", 427_616_513, 16, 224, text=True, bundled=False),
)


def encoders() -> list[EncoderInfo]:
    """The encoders known by name: bundled ones, then published ones."""
    return list(_KNOWN)
