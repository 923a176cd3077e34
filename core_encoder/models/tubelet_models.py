"""V-JEPA 2 and VideoMAE: video models that make one time step of tokens from the tubelets of two frames.

    video (B, T, 3, H, W) --tubelets of t x p x p--> (B, T / t, N, D) --all tokens see each other--> the same shape

The layers are those of `transformers`; the walk through them is ours, so that padding is left out and positions fit any
number of frames.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core_encoder.models.checkpoints import Checkpoint
from core_encoder.models.foreign_folders import open_model, write_model
from core_encoder.models.frame_models import IMAGENET, numbers
from core_encoder.models.processor_config import read_preprocessing
from core_encoder.models.text_tower import Tokenizer
from core_encoder.models.trunk import Trunk
from core_encoder.models.vivit import frames_to_mask, patch_grid, resolve_layers
from core_encoder.preprocessing import Preprocessing

_HALVES = {"image_mean": (0.5, 0.5, 0.5), "image_std": (0.5, 0.5, 0.5)}
_SIDE = 1 << 12  # more rows and columns of patches than any frame has


class TubeletModel(nn.Module, ABC):
    """A video model whose tokens all see each other. A subclass says its sizes, `patches`, `layers` and `norm`.

    Padding is never shown to the model: the tokens of its time steps are zeros. A step with a real frame is real; what
    of it is padding repeats the real frame.
    """

    has_halves = False
    embeds_tokens = False
    has_text = False
    embedding_dim = None
    num_frames: int
    tubelet: int
    image_size: int
    patch_size: int
    dim: int
    num_layers: int

    @abstractmethod
    def patches(self, video: Tensor) -> Tensor:
        """Video (B, T, 3, H, W) -> tubelets (B, T / tubelet, N, D), with positions where they are added."""

    @abstractmethod
    def layer(self, number: int, x: Tensor, places: Tensor) -> Tensor:
        """One layer: tokens (b, S, D), of which each lies at one of `places` (S,) -> (b, S, D)."""

    @abstractmethod
    def norm(self, x: Tensor) -> Tensor:
        """What follows the last layer."""

    def forward(
        self, video: Tensor, frame_mask: Tensor | None = None, layers: Sequence[int] = (), embed: bool = False
    ) -> tuple[Tensor, dict[int, Tensor], Tensor | None]:
        """Video (B, T, 3, H, W) -> tokens (B, T / tubelet, N, D), asked hidden layers like them, no embedding.

        Raises:
            ValueError: frames that are no multiple of `tubelet`, or another shape, mask or layer that does not fit.
        """
        wanted = resolve_layers(layers, self.num_layers)
        batch, frames, rows, columns = patch_grid(video, self.patch_size)
        if frames % self.tubelet:
            raise ValueError(
                f"{self.tubelet} frames make one time step: give a multiple of {self.tubelet} frames, not {frames}"
            )
        mask = frames_to_mask(frame_mask, batch, frames)
        if mask is not None:
            mask = mask.to(video.device)
            video = _filled_steps(video, mask, self.tubelet)
        x = self.patches(video)  # (B, T', N, D)
        places = _places(x.shape[1], rows, columns, x.device)  # (T', N)
        names = sorted({name for several in wanted.values() for name in several})
        if mask is None:
            tokens, hidden = self._walk(x, places, wanted)
            return tokens, hidden, None
        tokens, hidden = torch.zeros_like(x), {name: torch.zeros_like(x) for name in names}
        real = mask.unflatten(1, (-1, self.tubelet)).any(2)  # (B, T')
        for steps in real.unique(dim=0):  # samples with the same real steps go together
            here = (real == steps).all(1).nonzero()  # (b, 1)
            at = (here, steps.nonzero()[:, 0])
            tokens[at], seen = self._walk(x[at], places[steps], wanted)
            for name in names:
                hidden[name][at] = seen[name]
        return tokens, hidden, None

    def _walk(self, x: Tensor, places: Tensor, wanted: dict[int, list[int]]) -> tuple[Tensor, dict[int, Tensor]]:
        """Tubelets (b, S, N, D) at places (S, N) through all layers."""
        shape, hidden = x.shape[1:3], {}
        x, places = x.flatten(1, 2), places.flatten()  # (b, S*N, D)
        for number in range(self.num_layers):
            x = self.layer(number, x, places)
            for name in wanted.get(number, ()):
                hidden[name] = x.unflatten(1, shape)  # (b, S, N, D)
        return self.norm(x).unflatten(1, shape), hidden

    def encode_spatial(self, video: Tensor) -> Tensor:
        raise ValueError("this model has no half that sees single frames")

    def encode_temporal(self, spatial: Tensor, frame_mask: Tensor | None = None) -> Tensor:
        raise ValueError("this model has no half that sees single frames")

    def embed_tokens(self, tokens: Tensor, frame_mask: Tensor | None = None) -> Tensor:
        raise ValueError("this model makes no embeddings")

    def embed_token_ids(self, ids: Tensor, mask: Tensor) -> Tensor:
        raise ValueError("this model has no text tower")


class VideoMae(TubeletModel):
    """VideoMAE: fixed sinusoidal positions, interpolated for other numbers of frames and sizes than trained."""

    def __init__(self, videomae: Any) -> None:
        super().__init__()
        self.videomae = videomae
        config = videomae.config
        self.num_frames, self.tubelet = int(config.num_frames), int(config.tubelet_size)
        self.image_size, self.patch_size = int(config.image_size), int(config.patch_size)
        self.dim, self.num_layers = int(config.hidden_size), int(config.num_hidden_layers)

    def describe(self) -> dict[str, Any]:
        """All numbers of the architecture, ready for JSON."""
        keys = ["hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "hidden_act"]
        keys += ["layer_norm_eps", "qv_bias", "use_mean_pooling", "image_size", "patch_size", "num_frames"]
        return {"kind": "videomae", **numbers(self.videomae.config, [*keys, "tubelet_size"])}

    def trunk(self) -> Trunk:
        return Trunk(self.videomae, self.videomae, tuple(self.videomae.encoder.layer))

    def patches(self, video: Tensor) -> Tensor:
        x = self.videomae.embeddings.patch_embeddings.projection(video.transpose(1, 2))  # (B, D, T', gh, gw)
        positions = self._positions(x.shape[2], x.shape[3], x.shape[4]).to(x)  # (D, T', gh, gw)
        return (x + positions).flatten(3).permute(0, 2, 3, 1)  # (B, T', N, D)

    def _positions(self, steps: int, rows: int, columns: int) -> Tensor:
        """The table of `transformers`, trilinearly resized where the grid differs from the trained one."""
        grid, trained = self.image_size // self.patch_size, self.num_frames // self.tubelet
        table = self.videomae.embeddings.position_embeddings[0].float()  # (T'*N, D)
        table = table.T.unflatten(1, (trained, grid, grid))  # (D, T', g, g)
        if (steps, rows, columns) == (trained, grid, grid):
            return table
        return F.interpolate(table[None], size=(steps, rows, columns), mode="trilinear", align_corners=False)[0]

    def layer(self, number: int, x: Tensor, places: Tensor) -> Tensor:
        seen: Tensor = self.videomae.encoder.layer[number](x)
        return seen

    def norm(self, x: Tensor) -> Tensor:
        return x if self.videomae.layernorm is None else self.videomae.layernorm(x)

    def write(self, folder: Path, preprocessing: Preprocessing, tokenizer: Tokenizer | None) -> None:
        """Write a folder that `transformers.VideoMAEModel` opens."""
        write_model(folder, self.videomae, preprocessing, "VideoMAEImageProcessor", None)


class Vjepa2(TubeletModel):
    """The encoder of V-JEPA 2, without its predictor: rotary positions, for any number of frames and any size."""

    def __init__(self, vjepa2: Any) -> None:
        super().__init__()
        vjepa2.predictor = None  # guesses what the encoder did not see: no feature is made by it
        self.vjepa2 = vjepa2
        for layer in vjepa2.encoder.layer:
            layer.attention.get_position_ids = _time_row_column  # theirs takes every frame for one of the trained size
        config = vjepa2.config
        self.num_frames, self.tubelet = int(config.frames_per_clip), int(config.tubelet_size)
        self.image_size, self.patch_size = int(config.crop_size), int(config.patch_size)
        self.dim, self.num_layers = int(config.hidden_size), int(config.num_hidden_layers)

    def describe(self) -> dict[str, Any]:
        """All numbers of the architecture, ready for JSON."""
        keys = ["hidden_size", "mlp_ratio", "num_hidden_layers", "num_attention_heads", "hidden_act", "layer_norm_eps"]
        keys += ["qkv_bias", "crop_size", "patch_size", "frames_per_clip", "tubelet_size"]
        return {"kind": "vjepa2", **numbers(self.vjepa2.config, keys)}

    def trunk(self) -> Trunk:
        return Trunk(self.vjepa2, self.vjepa2.encoder, tuple(self.vjepa2.encoder.layer))

    def patches(self, video: Tensor) -> Tensor:
        x = self.vjepa2.encoder.embeddings.patch_embeddings.proj(video.transpose(1, 2))  # (B, D, T', gh, gw)
        return x.flatten(3).permute(0, 2, 3, 1)  # (B, T', N, D)

    def layer(self, number: int, x: Tensor, places: Tensor) -> Tensor:
        seen: Tensor = self.vjepa2.encoder.layer[number](x, places)[0]
        return seen

    def norm(self, x: Tensor) -> Tensor:
        normed: Tensor = self.vjepa2.encoder.layernorm(x)
        return normed

    def write(self, folder: Path, preprocessing: Preprocessing, tokenizer: Tokenizer | None) -> None:
        """Write a folder that `transformers.VJEPA2Model` opens; it draws a predictor, which the folder has none of."""
        write_model(folder, self.vjepa2, preprocessing, "VJEPA2VideoProcessor", None)


def _places(steps: int, rows: int, columns: int, device: torch.device) -> Tensor:
    """A number (T', N) for every tubelet, from which `_time_row_column` reads where it lies."""
    time, row, column = (torch.arange(count, device=device) for count in (steps, rows, columns))
    places = (time[:, None, None] * _SIDE + row[:, None]) * _SIDE + column  # (T', gh, gw)
    return places.flatten(1)  # (T', N)


def _time_row_column(x: Tensor, masks: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The place of every token, in place of `VJEPA2RopeAttention.get_position_ids`."""
    return masks // _SIDE**2, masks // _SIDE % _SIDE, masks % _SIDE


def _filled_steps(video: Tensor, mask: Tensor, tubelet: int) -> Tensor:
    """The video (B, T, 3, H, W) with padding frames that share a step with a real one replaced by the last such one."""
    real = mask.unflatten(1, (-1, tubelet))  # (B, T', t)
    within = torch.arange(tubelet, device=mask.device)
    before = torch.where(real, within, -1).cummax(2).values  # the last real one up to here, -1: none
    chosen = torch.where(before < 0, real.int().argmax(2, keepdim=True), before)  # (B, T', t)
    chosen = chosen + torch.arange(0, mask.shape[1], tubelet, device=mask.device)[:, None]
    return video[torch.arange(len(video), device=mask.device)[:, None], chosen.flatten(1)]


def read_videomae(folder: Path) -> Checkpoint:
    """Read a folder of VideoMAE: the encoder, without a decoder or classifier on top.

    Raises:
        InputError: a broken config or preprocessor config, or weights that do not fit.
    """
    from transformers import VideoMAEModel

    heads = ("classifier.", "fc_norm.", "decoder.", "encoder_to_decoder.", "mask_token", "position_embeddings")
    videomae = open_model(VideoMAEModel, folder, left_out=heads)
    size = int(videomae.config.image_size)
    defaults = {"size": {"shortest_edge": size}, "do_center_crop": True, "crop_size": size, "resample": 2}
    return Checkpoint(VideoMae(videomae), read_preprocessing(folder, {**defaults, **_HALVES}))


def read_vjepa2(folder: Path) -> Checkpoint:
    """Read a folder of V-JEPA 2: the encoder, without the predictor or a classifier on top.

    Raises:
        InputError: a broken config or preprocessor config, or weights that do not fit.
    """
    from transformers import VJEPA2Model

    vjepa2 = open_model(VJEPA2Model, folder, left_out=("predictor.", "pooler.", "classifier."))
    size = int(vjepa2.config.crop_size)
    defaults = {"size": {"shortest_edge": size}, "do_center_crop": True, "crop_size": size, "resample": 2}
    preprocessing = read_preprocessing(folder, {**defaults, **IMAGENET})
    if preprocessing.geometry == "center_crop":  # its processor ignores the size of the file, and so do we
        preprocessing = replace(preprocessing, short_side=preprocessing.image_size * 256 // 224)
    return Checkpoint(Vjepa2(vjepa2), preprocessing)
