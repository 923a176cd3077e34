"""Image models as video encoders: every frame alone, with the time of its own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from core_encoder.models.checkpoints import Checkpoint
from core_encoder.models.foreign_folders import open_model, write_model
from core_encoder.models.processor_config import read_preprocessing
from core_encoder.models.text_tower import Tokenizer
from core_encoder.models.trunk import Trunk
from core_encoder.models.video_text import l2_normalize
from core_encoder.models.vivit import frames_to_mask, patch_grid, resolve_layers
from core_encoder.preprocessing import Preprocessing

NUM_FRAMES = 16  # image models know none; VideoPrism's count makes them comparable
_FRAMES_AT_ONCE = 32
IMAGENET = {"image_mean": (0.485, 0.456, 0.406), "image_std": (0.229, 0.224, 0.225)}


class Seen(NamedTuple):
    """What a model says about images: patches (b, N, D), the raw outputs of its layers like them where they were asked
    for, and a vector of each (b, E) where it makes one."""

    patches: Tensor
    hidden: Sequence[Tensor]
    pooled: Tensor | None


class FrameModel(nn.Module, ABC):
    """An image model over the frames of a clip: patch tokens per frame; the embedding is the mean over real frames.

    The temporal half is the identity, so that windows of one video share all of their work. A subclass says its sizes
    and `see`; class and register tokens are no patches.
    """

    tubelet = 1
    has_halves = True
    embeds_tokens = False  # its embedding is made of a class token, or by a head of its own
    has_text = False
    num_frames = NUM_FRAMES
    image_size: int
    patch_size: int
    dim: int
    num_layers: int
    embedding_dim: int | None

    @abstractmethod
    def see(self, images: Tensor, grid: tuple[int, int], with_hidden: bool) -> Seen:
        """Normalized images (b, 3, H, W) of `grid` rows and columns of patches -> what the model says of them."""

    def forward(
        self, video: Tensor, frame_mask: Tensor | None = None, layers: Sequence[int] = (), embed: bool = False
    ) -> tuple[Tensor, dict[int, Tensor], Tensor | None]:
        """Video (B, T, 3, H, W) -> tokens (B, T, N, D), asked hidden layers, embedding (B, E) when `embed`."""
        wanted = resolve_layers(tuple(dict.fromkeys(layers)), self.num_layers)
        batch, frames, *grid = self._grid(video)
        mask = frames_to_mask(frame_mask, batch, frames)
        tokens, pooled = [], []
        hidden: dict[int, list[Tensor]] = {name: [] for names in wanted.values() for name in names}
        for images in video.flatten(0, 1).split(_FRAMES_AT_ONCE):  # (b, 3, H, W)
            seen = self.see(images, (grid[0], grid[1]), bool(wanted))
            tokens.append(seen.patches)  # (b, N, D)
            for number, names in wanted.items():
                for name in names:
                    hidden[name].append(seen.hidden[number])
            if embed and seen.pooled is not None:
                pooled.append(l2_normalize(seen.pooled))  # (b, E)

        def by_clip(parts: list[Tensor]) -> Tensor:
            return torch.cat(parts).unflatten(0, (batch, frames))

        embedding = None
        if pooled:
            each = by_clip(pooled)  # (B, T, E)
            if mask is not None:
                each = each * mask.to(each.device)[..., None]
            embedding = l2_normalize(each.sum(1))  # (B, E)
        return by_clip(tokens), {name: by_clip(parts) for name, parts in hidden.items()}, embedding

    def _grid(self, video: Tensor) -> tuple[int, int, int, int]:
        """`patch_grid`; of frames as trained, what is left over beside whole patches is never looked at."""
        if video.ndim == 5 and video.shape[2:] == (3, self.image_size, self.image_size):
            return len(video), video.shape[1], *(self.image_size // self.patch_size,) * 2
        return patch_grid(video, self.patch_size)

    def encode_spatial(self, video: Tensor) -> Tensor:
        """All there is: video (B, T, 3, H, W) -> tokens (B, T, N, D)."""
        tokens: Tensor = self(video)[0]
        return tokens

    def encode_temporal(self, spatial: Tensor, frame_mask: Tensor | None = None) -> Tensor:
        return spatial

    def embed_tokens(self, tokens: Tensor, frame_mask: Tensor | None = None) -> Tensor:
        raise ValueError("this model does not make its embedding of patch tokens")

    def embed_token_ids(self, ids: Tensor, mask: Tensor) -> Tensor:
        raise ValueError("this model has no text tower")


class FrameDino(FrameModel):
    """DINOv2 and DINOv3: the embedding is made of the class token."""

    def __init__(self, dino: Any, image_size: int) -> None:
        super().__init__()
        self.dino = dino
        config = dino.config
        self.image_size, self.patch_size = image_size, int(config.patch_size)
        self.dim = self.embedding_dim = int(config.hidden_size)
        self.num_layers = int(config.num_hidden_layers)
        self._before = 1 + int(getattr(config, "num_register_tokens", 0))  # class and register tokens

    def describe(self) -> dict[str, Any]:
        """All numbers of the architecture, ready for JSON."""
        keys = ["hidden_size", "num_hidden_layers", "num_attention_heads", "hidden_act", "layer_norm_eps", "patch_size"]
        if self.dino.config.model_type == "dinov3_vit":
            keys += ["intermediate_size", "use_gated_mlp", "num_register_tokens", "rope_theta"]
        else:
            keys += ["image_size", "mlp_ratio", "use_swiglu_ffn"]
            keys += ["num_register_tokens"] if self._before > 1 else []
        return {"kind": self.dino.config.model_type, **numbers(self.dino.config, keys)}

    def trunk(self) -> Trunk:
        inside = self.dino.model if self.dino.config.model_type == "dinov3_vit" else self.dino.encoder
        return Trunk(self.dino, self.dino, tuple(inside.layer))

    def see(self, images: Tensor, grid: tuple[int, int], with_hidden: bool) -> Seen:
        seen = self.dino(images, output_hidden_states=with_hidden, return_dict=True)
        hidden = [one[:, self._before :] for one in seen.hidden_states[1:]] if with_hidden else []
        return Seen(seen.last_hidden_state[:, self._before :], hidden, seen.pooler_output)

    def write(self, folder: Path, preprocessing: Preprocessing, tokenizer: Tokenizer | None) -> None:
        """Write a folder that `transformers` opens."""
        name = "DINOv3ViTImageProcessor" if self.dino.config.model_type == "dinov3_vit" else "BitImageProcessor"
        write_model(folder, self.dino, preprocessing, name, None)


def numbers(config: Any, keys: Sequence[str]) -> dict[str, Any]:
    """Those entries of a config, ready for JSON."""
    return {key: list(value) if isinstance(value := getattr(config, key), tuple) else value for key in keys}


def read_dinov2(folder: Path) -> Checkpoint:
    """Read a folder of DINOv2.

    Raises:
        InputError: a broken config or preprocessor config, or weights that do not fit.
    """
    from transformers import Dinov2Model

    return _read_cropped(folder, Dinov2Model)


def read_dinov2_with_registers(folder: Path) -> Checkpoint:
    """Read a folder of DINOv2 with register tokens.

    Raises:
        InputError: a broken config or preprocessor config, or weights that do not fit.
    """
    from transformers import Dinov2WithRegistersModel

    return _read_cropped(folder, Dinov2WithRegistersModel)


def _read_cropped(folder: Path, model_class: Any) -> Checkpoint:
    dino = open_model(model_class, folder, left_out=("classifier.",))
    side = 224 // int(dino.config.patch_size) * int(dino.config.patch_size)
    defaults = {"size": {"shortest_edge": max(256, side)}, "do_center_crop": True, "crop_size": side, **IMAGENET}
    preprocessing = read_preprocessing(folder, defaults)
    return Checkpoint(FrameDino(dino, preprocessing.image_size), preprocessing)


def read_dinov3(folder: Path) -> Checkpoint:
    """Read a folder of a DINOv3 vision transformer.

    Raises:
        InputError: a broken config or preprocessor config, or weights that do not fit.
    """
    from transformers import DINOv3ViTModel

    dino = open_model(DINOv3ViTModel, folder)
    preprocessing = read_preprocessing(folder, {"size": int(dino.config.image_size), "resample": 2, **IMAGENET})
    return Checkpoint(FrameDino(dino, preprocessing.image_size), preprocessing)
