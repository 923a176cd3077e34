"""SigLIP and SigLIP 2 as video encoders: every frame alone, and the text tower in the same space."""

from __future__ import annotations

import logging
import math
import re
import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from core_encoder.errors import InputError
from core_encoder.fields import whole_number
from core_encoder.files.storage import read_config_json
from core_encoder.models.checkpoints import Checkpoint, copy_files
from core_encoder.models.foreign_folders import open_model, write_model
from core_encoder.models.frame_models import FrameModel, Seen, numbers
from core_encoder.models.processor_config import processor_settings, read_preprocessing
from core_encoder.models.text_tower import Tokenizer, check_token_ids
from core_encoder.models.trunk import Trunk
from core_encoder.models.video_text import l2_normalize
from core_encoder.preprocessing import Preprocessing
from core_encoder.said_once import warn_once

log = logging.getLogger(__name__)

_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "spiece.model")
_HALVES = {"image_mean": (0.5, 0.5, 0.5), "image_std": (0.5, 0.5, 0.5)}
_PUNCTUATION = str.maketrans("", "", string.punctuation)


class FrameSiglip(FrameModel):
    """SigLIP, or SigLIP 2 of one resolution: the embedding is made by the pooling head of the vision tower.

    Texts fill all positions of the text tower, padding included, as in training: the last position speaks for the text.
    """

    def __init__(self, siglip: Any, pad_id: int) -> None:
        super().__init__()
        self.siglip = siglip
        self.pad_id = pad_id
        vision = siglip.config.vision_config
        self.patch_size, self.image_size = int(vision.patch_size), self._image_size(vision)
        self.dim, self.num_layers = int(vision.hidden_size), int(vision.num_hidden_layers)
        self.has_text = bool(vision.vision_use_head)
        self.embedding_dim = self.dim if self.has_text else None

    @staticmethod
    def _image_size(vision: Any) -> int:
        return int(vision.image_size)

    def describe(self) -> dict[str, Any]:
        """All numbers of the architecture, ready for JSON."""
        keys = ["hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "hidden_act"]
        keys += ["layer_norm_eps"]
        config = self.siglip.config
        vision = numbers(config.vision_config, [*keys, "patch_size"]) | {"image_size": self.image_size}
        text = numbers(config.text_config, [*keys, "max_position_embeddings", "projection_size"])
        return {"kind": config.model_type, "vision": vision, "text": text}

    def see(self, images: Tensor, grid: tuple[int, int], with_hidden: bool) -> Seen:
        resized = grid != (self.image_size // self.patch_size,) * 2
        seen = self.siglip.vision_model(
            images, interpolate_pos_encoding=resized, output_hidden_states=with_hidden, return_dict=True
        )
        return Seen(seen.last_hidden_state, seen.hidden_states[1:] if with_hidden else (), seen.pooler_output)

    def trunk(self) -> Trunk:
        vision = self.siglip.vision_model
        return Trunk(self.siglip, vision, tuple(vision.encoder.layers))

    def embed_token_ids(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Token ids (B, L) with the end token, mask (B, L), True = real -> unit vectors (B, E).

        Raises:
            ValueError: a shape that does not fit, more tokens than positions, or an id outside the vocabulary.
        """
        return l2_normalize(text_vectors(self.siglip.text_model, ids, mask, self.pad_id))

    def write(self, folder: Path, preprocessing: Preprocessing, tokenizer: Tokenizer | None) -> None:
        """Write a folder that `transformers.SiglipModel` opens."""
        write_model(folder, self.siglip, preprocessing, "SiglipImageProcessor", tokenizer)


def text_vectors(text_model: Any, ids: Tensor, mask: Tensor, pad_id: int) -> Tensor:
    """Token ids (B, L) and mask (B, L), True = real -> the text model's vectors (B, E), by texts filled with padding.

    Raises:
        ValueError: a shape that does not fit, more tokens than positions, or an id outside the vocabulary.
    """
    text = text_model.config
    length = int(text.max_position_embeddings)
    check_token_ids(ids, mask, int(text.vocab_size), length)
    filled = ids.masked_fill(~mask, pad_id)
    whole = torch.cat([filled, ids.new_full((ids.shape[0], length - ids.shape[1]), pad_id)], 1)  # (B, length)
    vectors: Tensor = text_model(input_ids=whole, return_dict=True).pooler_output
    return vectors


class FrameSiglip2(FrameSiglip):
    """SigLIP 2 of any resolution (NaFlex), which takes patches instead of pixels."""

    @staticmethod
    def _image_size(vision: Any) -> int:
        return math.isqrt(int(vision.num_patches)) * int(vision.patch_size)

    def see(self, images: Tensor, grid: tuple[int, int], with_hidden: bool) -> Seen:
        size = self.patch_size
        patches = images.unflatten(-2, (-1, size)).unflatten(-1, (-1, size))  # (b, 3, gh, p, gw, p)
        patches = patches.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)  # (b, N, p*p*3)
        seen = self.siglip.vision_model(
            patches,
            patches.new_ones(patches.shape[:2], dtype=torch.long),
            torch.tensor(grid).expand(len(patches), 2),
            output_hidden_states=with_hidden,
            return_dict=True,
        )
        return Seen(seen.last_hidden_state, seen.hidden_states[1:] if with_hidden else (), seen.pooler_output)

    def write(self, folder: Path, preprocessing: Preprocessing, tokenizer: Tokenizer | None) -> None:
        """Write a folder that `transformers.Siglip2Model` opens."""
        patches = {"patch_size": self.patch_size, "max_num_patches": (preprocessing.image_size // self.patch_size) ** 2}
        write_model(folder, self.siglip, preprocessing, "Siglip2ImageProcessor", tokenizer, **patches)


class SiglipTokenizer:
    """The `tokenizer.json` of a SigLIP folder, with the spelling that the text tower was trained on.

    SigLIP knows no capitals and no punctuation, SigLIP 2 (Gemma's vocabulary) no capitals.

    Raises:
        InputError: the files cannot be read, or name a padding token that is none.
    """

    def __init__(self, folder: Path, max_length: int, pad_id: int) -> None:
        from tokenizers import Tokenizer as Backend

        self.folder, self.max_length = folder, max_length
        path = folder / "tokenizer.json"
        try:
            self._backend = Backend.from_file(str(path))
        except Exception as error:  # the library raises bare Exception
            raise InputError(f"{path}: not a tokenizer file ({error})") from error
        self._backend.no_truncation()
        self._backend.no_padding()
        config = folder / "tokenizer_config.json"
        given = read_config_json(config) if config.is_file() else {}
        name = str(given.get("tokenizer_class", ""))
        self.punctuated = "Gemma" in name or "Siglip2" in name
        self.pads_left = given.get("padding_side") == "left"
        pad = given.get("pad_token")
        pad = pad.get("content") if isinstance(pad, dict) else pad
        known = self._backend.token_to_id(pad) if isinstance(pad, str) else pad_id
        if known is None:
            raise InputError(f"{config}: pad_token {pad!r} is not in {path.name}")
        self.pad_id = int(known)

    def __call__(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """`texts` -> ids (B, L) of all positions and mask (B, L), True = real; longer texts are cut, said once."""
        spelled = [self._spelled(text) for text in texts]
        rows = [row.ids for row in self._backend.encode_batch(spelled)]
        longest = max(map(len, rows), default=0)
        if longest > self.max_length:
            warn_once(log, f"texts longer than {self.max_length} tokens are cut", f"(this one has {longest})")
        ids = torch.full((len(rows), self.max_length), self.pad_id)
        mask = torch.zeros_like(ids, dtype=torch.bool)
        for i, row in enumerate(rows):
            if len(row) > self.max_length:
                row = [*row[: self.max_length - 1], row[-1]]  # the end token stays
            place = slice(self.max_length - len(row), None) if self.pads_left else slice(len(row))
            ids[i, place], mask[i, place] = torch.tensor(row, dtype=torch.long), True
        return ids, mask

    def _spelled(self, text: str) -> str:
        text = text.encode("utf-8", "replace").decode("utf-8").lower()
        return text if self.punctuated else re.sub(r"\s+", " ", text.translate(_PUNCTUATION)).strip()

    def save(self, folder: Path) -> None:
        """Copy the tokenizer files into `folder`."""
        copy_files(self.folder, folder, _FILES)


def read_siglip(folder: Path) -> Checkpoint:
    """Read a `SiglipModel` folder of `transformers`: SigLIP, and SigLIP 2 of one resolution.

    Raises:
        InputError: a broken config, preprocessor config or tokenizer, or weights that do not fit.
    """
    from transformers import SiglipModel

    siglip = open_model(SiglipModel, folder)
    size = int(siglip.config.vision_config.image_size)
    preprocessing = read_preprocessing(folder, {"size": {"height": size, "width": size}, **_HALVES})
    tokenizer = _tokenizer(folder, siglip)
    return Checkpoint(FrameSiglip(siglip, _pad_id(siglip, tokenizer)), preprocessing, tokenizer)


def read_siglip2(folder: Path) -> Checkpoint:
    """Read a `Siglip2Model` folder of `transformers`: SigLIP 2 of any resolution.

    Its processor keeps the shape of a picture; here every frame is squeezed to the square of as many patches.

    Raises:
        InputError: a broken config, preprocessor config or tokenizer, or weights that do not fit.
    """
    from transformers import Siglip2Model

    siglip = open_model(Siglip2Model, folder)
    most = siglip.config.vision_config.num_patches
    if (found := processor_settings(folder)) is not None and found[1].get("max_num_patches") is not None:
        most = whole_number(str(found[0]), "max_num_patches", found[1]["max_num_patches"])
    size = math.isqrt(most) * int(siglip.config.vision_config.patch_size)
    defaults = {"size": {"height": size, "width": size}, "resample": 2, **_HALVES}
    preprocessing = read_preprocessing(folder, defaults)
    tokenizer = _tokenizer(folder, siglip)
    return Checkpoint(FrameSiglip2(siglip, _pad_id(siglip, tokenizer)), preprocessing, tokenizer)


def _tokenizer(folder: Path, siglip: Any) -> SiglipTokenizer | None:
    text = siglip.config.text_config
    if not (folder / "tokenizer.json").is_file():
        return None
    return SiglipTokenizer(folder, int(text.max_position_embeddings), int(text.pad_token_id or 0))


def _pad_id(siglip: Any, tokenizer: SiglipTokenizer | None) -> int:
    """What texts are filled up with: the config of SigLIP 2 names a token of SigLIP's vocabulary, its tokenizer not."""
    return int(siglip.config.text_config.pad_token_id or 0) if tokenizer is None else tokenizer.pad_id
