"""CLIP as a video encoder: every frame alone, through the `CLIPModel` of `transformers`."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from core_encoder.errors import InputError
from core_encoder.files.storage import read_json, write_json, write_tensors
from core_encoder.models.checkpoints import CONFIG, WEIGHTS, Checkpoint, assign, copy_files, read_weights
from core_encoder.models.text_tower import check_token_ids
from core_encoder.models.transformers_format import Source
from core_encoder.models.video_text import l2_normalize
from core_encoder.models.vivit import frames_to_mask, patch_grid, resolve_layers
from core_encoder.preprocessing import Preprocessing
from core_encoder.said_once import warn_once

log = logging.getLogger(__name__)

_NUM_FRAMES = 16  # CLIP knows none; VideoPrism's count makes the two comparable
_FRAMES_AT_ONCE = 32
_PREPROCESSOR = "preprocessor_config.json"
_TOKENIZER_FILES = (
    "tokenizer.json",
    "vocab.json",
    "merges.txt",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)
_MEAN, _STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


class FrameClip(nn.Module):
    """CLIP over the frames of a clip: patch tokens per frame; the embedding is the mean over real frames.

    The temporal half is the identity, so that windows of one video share all of their work.
    """

    has_text = True
    has_halves = True
    tubelet = 1
    embeds_tokens = False  # its embedding is made of the class token
    num_frames = _NUM_FRAMES

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

    def forward(
        self, video: Tensor, frame_mask: Tensor | None = None, layers: Sequence[int] = (), embed: bool = False
    ) -> tuple[Tensor, dict[int, Tensor], Tensor | None]:
        """Video (B, T, 3, H, W) -> tokens (B, T, N, D), asked hidden layers, embedding (B, E) when `embed`."""
        wanted = resolve_layers(layers, self.num_layers)
        batch, frames, rows, columns = patch_grid(video, self.patch_size)
        resized = (rows, columns) != (self.image_size // self.patch_size,) * 2
        tokens, embeddings = [], []
        hidden: dict[int, list[Tensor]] = {name: [] for names in wanted.values() for name in names}
        for images in video.flatten(0, 1).split(_FRAMES_AT_ONCE):  # (b, 3, H, W)
            seen = self.clip.vision_model(
                images, interpolate_pos_encoding=resized, output_hidden_states=bool(wanted), return_dict=True
            )
            tokens.append(seen.last_hidden_state[:, 1:])  # (b, N, D), without the class token
            for number, names in wanted.items():
                for name in names:
                    hidden[name].append(seen.hidden_states[number + 1][:, 1:])
            if embed:
                embeddings.append(l2_normalize(self.clip.visual_projection(seen.pooler_output)))  # (b, E)

        def by_clip(parts: list[Tensor]) -> Tensor:
            return torch.cat(parts).unflatten(0, (batch, frames))

        embedding = None
        if embed:
            each = by_clip(embeddings)  # (B, T, E)
            if (mask := frames_to_mask(frame_mask, batch, frames)) is not None:
                each = each * mask.to(each.device)[..., None]
            embedding = l2_normalize(each.sum(1))  # (B, E)
        return by_clip(tokens), {name: by_clip(parts) for name, parts in hidden.items()}, embedding

    def encode_spatial(self, video: Tensor) -> Tensor:
        """All there is: video (B, T, 3, H, W) -> tokens (B, T, N, D)."""
        tokens: Tensor = self(video)[0]
        return tokens

    def encode_temporal(self, spatial: Tensor, frame_mask: Tensor | None = None) -> Tensor:
        return spatial

    def embed_tokens(self, tokens: Tensor, frame_mask: Tensor | None = None) -> Tensor:
        raise ValueError("CLIP embeds its class token, not its patch tokens")

    def embed_token_ids(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Token ids (B, L) with CLIP's begin and end tokens, mask (B, L), True = real -> unit vectors (B, E).

        Raises:
            ValueError: a shape that does not fit, more tokens than positions, or an id outside the vocabulary.
        """
        text = self.clip.config.text_config
        check_token_ids(ids, mask, int(text.vocab_size), int(text.max_position_embeddings))
        seen = self.clip.text_model(input_ids=ids, attention_mask=mask.long(), return_dict=True)
        return l2_normalize(self.clip.text_projection(seen.pooler_output))


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

    given = read_json(folder / CONFIG)
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
    return Checkpoint(FrameClip(clip), _preprocessing(folder, clip.config.vision_config.image_size), tokenizer)


def write_clip_folder(folder: Path, model: FrameClip, preprocessing: Preprocessing, tokenizer: Any | None) -> None:
    """Write a folder that `transformers.CLIPModel` opens; each file is whole or absent."""
    config = json.loads(model.clip.config.to_json_string(use_diff=False))
    write_json(folder / CONFIG, config | {"architectures": ["CLIPModel"], "model_type": "clip"})
    size = preprocessing.image_size
    square = {"height": size, "width": size}
    cropped = preprocessing.geometry == "center_crop"
    about = {
        "image_processor_type": "CLIPImageProcessor",
        "do_resize": True,
        "size": {"shortest_edge": size} if cropped else square,
        "do_center_crop": cropped,
        "crop_size": square,
        "resample": 3 if preprocessing.interpolation == "bicubic" else 2,
        "do_rescale": True,
        "do_normalize": True,
        "image_mean": list(preprocessing.mean),
        "image_std": list(preprocessing.std),
    }
    write_json(folder / _PREPROCESSOR, about)
    write_tensors(folder / WEIGHTS, model.clip.state_dict(), {"format": "pt"})
    if tokenizer is not None:
        tokenizer.save(folder)


def _preprocessing(folder: Path, image_size: int) -> Preprocessing:
    """What `preprocessor_config.json` says, or CLIP's defaults."""
    path = folder / _PREPROCESSOR
    given: Mapping[str, Any] = read_json(path) if path.is_file() else {}
    try:
        size = _side(given.get("size", image_size))
        cropped = bool(given.get("do_center_crop", True))
        crop = _side(given.get("crop_size", size)) if cropped else size
        if crop != size:
            raise ValueError(f"a short side of {size} with a crop of {crop} is not supported: they must be equal")
        resample = given.get("resample", 3)
        if resample not in (2, 3):
            raise ValueError(f"resample {resample} is not supported, only 2 (bilinear) and 3 (bicubic)")
        normalized = bool(given.get("do_normalize", True))
        return Preprocessing(
            image_size=size,
            geometry="center_crop" if cropped else "resize",
            interpolation="bicubic" if resample == 3 else "bilinear",
            mean=tuple(given.get("image_mean", _MEAN)) if normalized else (0.0, 0.0, 0.0),
            std=tuple(given.get("image_std", _STD)) if normalized else (1.0, 1.0, 1.0),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path}: {' '.join(str(error).split())}") from error


def _side(size: Any) -> int:
    """224 from 224, {"shortest_edge": 224} or {"height": 224, "width": 224}."""
    if isinstance(size, int):
        return size
    if "shortest_edge" in size:
        return int(size["shortest_edge"])
    if size["height"] != size["width"]:
        raise ValueError(f"size {size} is not square")
    return int(size["height"])
