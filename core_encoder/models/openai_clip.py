"""CLIP as a video encoder: every frame alone, through the `CLIPModel` of `transformers`."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from core_encoder.errors import InputError
from core_encoder.files.storage import read_config_json, write_json, write_tensors
from core_encoder.models.checkpoints import CONFIG, WEIGHTS, Checkpoint, assign, copy_files, read_weights
from core_encoder.models.foreign_folders import read_sizes
from core_encoder.models.frame_models import FrameModel, Seen
from core_encoder.models.processor_config import IMAGE_FILE, describe_processor, read_preprocessing
from core_encoder.models.text_tower import Tokenizer, check_token_ids
from core_encoder.models.transformers_format import Source
from core_encoder.models.trunk import Trunk
from core_encoder.models.video_text import l2_normalize
from core_encoder.preprocessing import Preprocessing
from core_encoder.said_once import warn_once

log = logging.getLogger(__name__)

_TOKENIZER_FILES = (
    "tokenizer.json",
    "vocab.json",
    "merges.txt",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)
_MEAN, _STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


class FrameClip(FrameModel):
    """CLIP over the frames of a clip: its embedding is made of the class token."""

    has_text = True

    def __init__(self, clip: Any) -> None:
        super().__init__()
        self.clip = clip
        vision = clip.config.vision_config
        self.image_size, self.patch_size = int(vision.image_size), int(vision.patch_size)
        self.dim, self.num_layers = int(vision.hidden_size), int(vision.num_hidden_layers)
        self.embedding_dim = int(clip.config.projection_dim)

    def describe(self) -> dict[str, Any]:
        """All numbers of the architecture, ready for JSON."""
        keys = ["hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "hidden_act"]
        keys += ["layer_norm_eps"]
        config = self.clip.config
        vision = {key: getattr(config.vision_config, key) for key in [*keys, "image_size", "patch_size"]}
        text = {key: getattr(config.text_config, key) for key in [*keys, "max_position_embeddings", "eos_token_id"]}
        return {"kind": "clip", "projection_dim": config.projection_dim, "vision": vision, "text": text}

    def see(self, images: Tensor, grid: tuple[int, int], with_hidden: bool) -> Seen:
        resized = grid != (self.image_size // self.patch_size,) * 2
        seen = self.clip.vision_model(
            images, interpolate_pos_encoding=resized, output_hidden_states=with_hidden, return_dict=True
        )
        hidden = [one[:, 1:] for one in seen.hidden_states[1:]] if with_hidden else []
        return Seen(seen.last_hidden_state[:, 1:], hidden, self.clip.visual_projection(seen.pooler_output))

    def trunk(self) -> Trunk:
        vision = self.clip.vision_model
        return Trunk(self.clip, vision, tuple(vision.encoder.layers))

    def embed_token_ids(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Token ids (B, L) with CLIP's begin and end tokens, mask (B, L), True = real -> unit vectors (B, E).

        Raises:
            ValueError: a shape that does not fit, more tokens than positions, or an id outside the vocabulary.
        """
        text = self.clip.config.text_config
        check_token_ids(ids, mask, int(text.vocab_size), int(text.max_position_embeddings))
        seen = self.clip.text_model(input_ids=ids, attention_mask=mask.long(), return_dict=True)
        return l2_normalize(self.clip.text_projection(seen.pooler_output))

    def write(self, folder: Path, preprocessing: Preprocessing, tokenizer: Tokenizer | None) -> None:
        """Write a folder that `transformers.CLIPModel` opens; each file is whole or absent."""
        config = json.loads(self.clip.config.to_json_string(use_diff=False))
        write_json(folder / CONFIG, config | {"architectures": ["CLIPModel"], "model_type": "clip"})
        write_json(folder / IMAGE_FILE, describe_processor(preprocessing, "CLIPImageProcessor"))
        write_tensors(folder / WEIGHTS, self.clip.state_dict(), {"format": "pt"})
        if tokenizer is not None:
            tokenizer.save(folder)


class ClipTokenizer:
    """CLIP's own tokenizer, from the files of its folder."""

    def __init__(self, folder: Path, max_length: int) -> None:
        from transformers import CLIPTokenizer

        self.folder, self.max_length = folder, max_length
        try:
            self._tokenizer = CLIPTokenizer.from_pretrained(str(folder), local_files_only=True)
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise InputError(f"{folder}: the tokenizer cannot be read ({' '.join(str(error).split())})") from error

    def __call__(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """`texts` -> ids (B, L) and mask (B, L), True = real token; longer texts are cut, which is said once."""
        whole = self._tokenizer(list(texts))["input_ids"]
        longest = max(map(len, whole), default=0)
        if longest > self.max_length:
            warn_once(log, f"texts longer than {self.max_length} tokens are cut", f"(this one has {longest})")
        rows = self._tokenizer(
            list(texts), padding=True, truncation=True, max_length=self.max_length, return_tensors="pt"
        )
        return rows["input_ids"], rows["attention_mask"].bool()

    def save(self, folder: Path) -> None:
        """Copy the tokenizer files into `folder`."""
        copy_files(self.folder, folder, _TOKENIZER_FILES)


def read_clip_folder(folder: Path) -> Checkpoint:
    """Read a `CLIPModel` folder of `transformers`.

    Raises:
        InputError: a broken config or preprocessor config, or weights that do not fit.
    """
    from huggingface_hub.errors import StrictDataclassError
    from transformers import CLIPConfig, CLIPModel

    given = read_sizes(read_config_json(folder / CONFIG), folder / CONFIG)
    try:
        with torch.device("meta"):
            clip = CLIPModel(CLIPConfig.from_dict(given))
    except (StrictDataclassError, ValueError, TypeError, KeyError, AttributeError, RuntimeError) as error:
        raise InputError(f"{folder / CONFIG}: {' '.join(str(error).split())}") from error
    tensors = read_weights(folder)
    sources = {name: Source((name,), tuple(tensor.shape)) for name, tensor in clip.state_dict().items()}
    optional = {name for name in tensors if name.endswith(".position_ids")}
    assign(clip, sources, tensors, optional, folder)
    for part in (clip.text_model.embeddings, clip.vision_model.embeddings):
        part.position_ids = torch.arange(part.position_ids.shape[-1])[None]  # files do not hold it
    tokenizer = None
    if any((folder / name).is_file() for name in ("tokenizer.json", "vocab.json")):
        tokenizer = ClipTokenizer(folder, int(clip.config.text_config.max_position_embeddings))
    size = int(clip.config.vision_config.image_size)
    defaults = {"size": size, "do_center_crop": True, "image_mean": _MEAN, "image_std": _STD}
    return Checkpoint(FrameClip(clip), read_preprocessing(folder, defaults), tokenizer)
