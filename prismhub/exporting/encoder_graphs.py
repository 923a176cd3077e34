"""The graphs of an encoder: pixels to features, texts to vectors.

Pixels are uint8 `(B, T, H, W, 3)` as decoders give them, resized and cut; scale, mean and deviation are in the graph.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from core_encoder.features.derivation import coarsen
from core_encoder.models.video_text import l2_normalize
from core_encoder.preprocessing import to_video_tensor
from prismhub.exporting.graphs import Axis, Graph, Port, batch_axis

if TYPE_CHECKING:
    from core_encoder.encoder import Encoder, VideoFeatures
    from core_encoder.features.feature_spec import FeatureSpec

USUAL_WORDS = 8  # tokens of a text that graphs are checked with


class SeenVideo(nn.Module):
    """What an encoder says of a video: tokens, and its embedding where it makes one."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, frames: Tensor, frame_mask: Tensor | None = None) -> tuple[Tensor, ...]:
        """Pixels (B, T, H, W, 3), real frames (B, T) -> tokens (B, T', N, D), embedding (B, E)."""
        seen = self.encoder(to_video_tensor(frames), frame_mask, embed=self.encoder.embedding_dim is not None)
        return (seen.tokens,) if seen.embedding is None else (seen.tokens, seen.embedding)


class VideoFeature(nn.Module):
    """The features of a spec, as a head reads them, and which of their time steps are real."""

    def __init__(self, encoder: Encoder, spec: FeatureSpec) -> None:
        super().__init__()
        self.encoder = encoder
        self.kind, self.layers = spec.kind, spec.layers

    def seen(self, frames: Tensor, frame_mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Pixels (B, T, H, W, 3) -> features of the kind, mask of time steps (B, T') or None."""
        embed = self.kind == "embedding"
        seen = self.encoder(to_video_tensor(frames), frame_mask, layers=self.layers, embed=embed)
        return self._of_kind(seen), seen.frame_mask

    def forward(self, frames: Tensor, frame_mask: Tensor | None = None) -> Tensor:
        """Pixels (B, T, H, W, 3) -> features of the kind."""
        return self.seen(frames, frame_mask)[0]

    def _of_kind(self, seen: VideoFeatures) -> Tensor:
        if self.kind == "embedding":
            assert seen.embedding is not None
            return seen.embedding  # (B, E)
        tokens = torch.stack([seen.hidden[one] for one in self.layers], 1) if self.layers else seen.tokens
        return coarsen(tokens, "tokens", self.kind, seen.frame_mask)


class ReadText(nn.Module):
    """Unit vectors of texts; `projection` follows the tower where there is one."""

    def __init__(self, tower: nn.Module, projection: nn.Module | None = None) -> None:
        super().__init__()
        self.tower, self.projection = tower, projection

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Token ids (B, L), real ones (B, L) -> (B, E)."""
        vectors = self.tower(ids, mask)
        return l2_normalize(vectors if self.projection is None else self.projection(vectors).float())


class _EncoderText(nn.Module):
    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        return self.encoder.embed_token_ids(ids, mask)


def frame_ports(encoder: Encoder, num_frames: int, side: int) -> tuple[Port, ...]:
    """Pixels, and which frames are real where a time step is one frame: others cannot leave padding out of a graph."""
    batch, tubelet = batch_axis(), encoder.tubelet
    frames = Axis("frames", num_frames, least=1 if tubelet == 1 else 2 * tubelet, multiple_of=tubelet)
    pixels = Port("frames", "pixels", (batch, frames, side, side, 3))
    return (pixels, Port("frame_mask", "mask", (batch, frames))) if tubelet == 1 else (pixels,)


def encoder_graph(encoder: Encoder) -> Graph:
    """Pixels to tokens, and to the embedding where the encoder makes one."""
    side = encoder.preprocessing.image_size
    steps: str | int = "frames" if encoder.tubelet == 1 else f"frames/{encoder.tubelet}"
    outputs: dict[str, tuple[int | str, ...]] = {
        "tokens": ("batch", steps, (side // encoder.patch_size) ** 2, encoder.dim)
    }
    if encoder.embedding_dim is not None:
        outputs["embedding"] = ("batch", encoder.embedding_dim)
    return Graph("model", SeenVideo(encoder), frame_ports(encoder, encoder.num_frames, side), outputs)


def text_graph(module: nn.Module, width: int, vocabulary: int, longest: int) -> Graph:
    """Token ids to unit vectors."""
    batch, length = batch_axis(), Axis("length", min(USUAL_WORDS, longest), most=longest)
    ports = (
        Port("ids", "ids", (batch, length), vocabulary),
        Port("mask", "mask", (batch, length)),
    )
    return Graph("text", module, ports, {"embedding": ("batch", width)})


def encoder_text_graph(encoder: Encoder, vocabulary: int, longest: int) -> Graph:
    """The text tower of an encoder."""
    assert encoder.embedding_dim is not None
    return text_graph(_EncoderText(encoder), encoder.embedding_dim, vocabulary, longest)
