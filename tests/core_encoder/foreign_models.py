"""Small folders of other people's encoders: `transformers` models with random weights, as they are published."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import (
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    DINOv3ViTConfig,
    DINOv3ViTModel,
    Siglip2Config,
    Siglip2Model,
    SiglipConfig,
    SiglipModel,
    VideoMAEConfig,
    VideoMAEModel,
    VJEPA2Config,
    VJEPA2Model,
)

from tests.core_encoder.checkpoint_files import clip_model, save, scatter

_SIZES: dict[str, Any] = {"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2, "patch_size": 8}
_TEXT: dict[str, Any] = {"hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 2}
_TEXT |= {"vocab_size": 60, "max_position_embeddings": 12, "projection_size": 24, "pad_token_id": 1}
_HALVES = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}
_IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
_SQUARE = {"size": {"height": 32, "width": 32}, "do_resize": True, "do_rescale": True, "do_normalize": True}


def clip_of(frames: int, height: int = 32, width: int = 32, batch: int = 2) -> Tensor:
    """A video (B, T, 3, H, W) of random pixels in [0, 1]."""
    return torch.rand(batch, frames, 3, height, width, generator=torch.Generator().manual_seed(frames))


def siglip_model(seed: int = 0, **vision: Any) -> SiglipModel:
    vision = {**_SIZES, "intermediate_size": 40, "image_size": 32, **vision}
    return scatter(SiglipModel(SiglipConfig(text_config=_TEXT, vision_config=vision)), seed)


def siglip2_model(seed: int = 0) -> Siglip2Model:
    vision = {**_SIZES, "intermediate_size": 40, "num_patches": 16}
    return scatter(Siglip2Model(Siglip2Config(text_config=_TEXT, vision_config=vision)), seed)


def dinov2_model(seed: int = 0) -> Dinov2Model:
    return scatter(Dinov2Model(Dinov2Config(**_SIZES, image_size=40, mlp_ratio=2)), seed)


def registers_model(seed: int = 0) -> Dinov2WithRegistersModel:
    config = Dinov2WithRegistersConfig(**_SIZES, image_size=40, mlp_ratio=2, num_register_tokens=3)
    return scatter(Dinov2WithRegistersModel(config), seed)


def dinov3_model(seed: int = 0) -> DINOv3ViTModel:
    config = DINOv3ViTConfig(**_SIZES, intermediate_size=40, image_size=32, num_register_tokens=4)
    return scatter(DINOv3ViTModel(config), seed)


def videomae_model(seed: int = 0, **config: Any) -> VideoMAEModel:
    sizes = {**_SIZES, "intermediate_size": 40, "image_size": 32, "num_frames": 8, "use_mean_pooling": False}
    return scatter(VideoMAEModel(VideoMAEConfig(**{**sizes, **config})), seed)


def vjepa2_model(seed: int = 0) -> VJEPA2Model:
    predictor = {"pred_hidden_size": 24, "pred_num_attention_heads": 2, "pred_num_hidden_layers": 1}
    config = VJEPA2Config(**_SIZES, **predictor, crop_size=32, frames_per_clip=8, pred_num_mask_tokens=2)
    return scatter(VJEPA2Model(config), seed)


BUILDERS: dict[str, Callable[[], Any]] = {
    "clip": clip_model,
    "siglip": siglip_model,
    "siglip2": siglip2_model,
    "dinov2": dinov2_model,
    "dinov2_with_registers": registers_model,
    "dinov3_vit": dinov3_model,
    "videomae": videomae_model,
    "vjepa2": vjepa2_model,
}
PROCESSORS: dict[str, tuple[str, dict[str, Any]]] = {
    "clip": ("preprocessor_config.json", {"size": 24, "crop_size": 24}),
    "siglip": ("preprocessor_config.json", {**_SQUARE, **_HALVES, "resample": 3, "rescale_factor": 1 / 255}),
    "siglip2": ("preprocessor_config.json", {**_HALVES, "resample": 2, "max_num_patches": 16, "patch_size": 8}),
    "dinov2": (
        "preprocessor_config.json",
        {"size": {"shortest_edge": 37}, "crop_size": {"height": 32, "width": 32}, "do_center_crop": True, **_IMAGENET},
    ),
    "dinov3_vit": ("preprocessor_config.json", {**_SQUARE, **_IMAGENET, "resample": 2}),
    "videomae": (
        "preprocessor_config.json",
        {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}, "resample": 2, **_IMAGENET},
    ),
    "vjepa2": (
        "video_preprocessor_config.json",
        {"size": {"shortest_edge": 36}, "crop_size": {"height": 32, "width": 32}, "resample": 2, **_IMAGENET},
    ),
}
PROCESSORS["dinov2_with_registers"] = PROCESSORS["dinov2"]
WITH_TEXT = ("clip", "siglip", "siglip2")


def foreign_folder(family: str, folder: Path, model: Any = None) -> Path:
    """A folder of a small encoder of `family` with its processor, and a tokenizer where it has a text tower."""
    save(model or BUILDERS[family](), folder)
    name, settings = PROCESSORS[family]
    (folder / name).write_text(json.dumps(settings))
    if family.startswith("siglip"):
        write_tokenizer(folder, "Siglip2Tokenizer" if family == "siglip2" else "SiglipTokenizer")
    if family == "clip":
        from tests.core_encoder.models.test_openai_clip import write_tokenizer as write_clip_tokenizer

        write_clip_tokenizer(folder)
    return folder


def write_tokenizer(folder: Path, tokenizer_class: str) -> None:
    """A `tokenizer.json` of whole words that ends every text, and the config beside it."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    words = ["<unk>", "</s>", "<pad>", "a", "video", "of", "dog", "cat", "runs", "!", "b", "d", "this", "is"]
    backend = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    backend.save(str(folder / "tokenizer.json"))
    pad = "<pad>" if tokenizer_class == "Siglip2Tokenizer" else "</s>"
    config = {"tokenizer_class": tokenizer_class, "pad_token": pad, "unk_token": "<unk>", "eos_token": "</s>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
