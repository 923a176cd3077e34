"""The words of `transformers` for our models: tensor names and config entries, in both directions."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from core_encoder.models.model_configs import TextConfig, VideoHeadConfig, VideoTextConfig, ViViTConfig
from core_encoder.models.video_text import VideoTextModel


@dataclass(frozen=True)
class Source:
    """Where one of our tensors lies in a file.

    The tensors `names`, each of `shape`, and of each only `[layer]` where layers are stacked, are turned by `convert`
    and put together along axis 0.
    """

    names: tuple[str, ...]
    shape: tuple[int, ...]
    layer: int | None = None
    convert: Callable[[Tensor], Tensor] | None = None


_IN_A_LAYER = {"norm1": "layernorm_before", "norm2": "layernorm_after", "out": "attention.o_proj"}
_IN_A_LAYER |= {"fc1": "mlp.fc1", "fc2": "mlp.fc2"}
_OF_VISION = {
    "patch_projection": "spatial_embeddings.patch_embeddings.projection",
    "spatial_positions": "spatial_embeddings.position_embeddings",
    "temporal_positions": "temporal_embeddings.position_embeddings",
    "spatial_norm": "layernorm1",
    "temporal_norm": "layernorm2",
}
_OF_THE_HEAD = {"pooling.query": "head.pooling_attention_query", "pooling.per_dim_scale": "head.per_dim_scale"}
_OF_THE_HEAD |= {f"pooling.{name}": f"head.{name}_proj" for name in "qkvo"} | {"norm": "head_layernorm"}
_OF_TEXT = {
    "token_embedding": "embeddings.token_embedding",
    "class_embedding": "embeddings.cls_emb",
    "positions": "embeddings.position_embedding",
    "norm": "layernorm",
}


def transformers_sources(model: VideoTextModel, vision_prefix: str) -> dict[str, Source]:
    """Our tensor names -> where a `transformers` checkpoint whose vision part has `vision_prefix` keeps them."""
    prefixes = {
        "vision": vision_prefix,
        "video_head": vision_prefix.removesuffix("vision_model."),
        "text_tower": "text_model.",
    }
    words = {"vision": _OF_VISION, "video_head": _OF_THE_HEAD, "text_tower": _OF_TEXT}
    size = model.config.vision.patch_size
    sources = {}
    for name, tensor in model.state_dict().items():
        part, rest = name.split(".", 1)
        shape = tuple(tensor.shape)
        in_layer = re.fullmatch(r"(\w*layers\.\d+)\.(\w+)\.(weight|bias)", rest)
        if in_layer and in_layer[2] == "qkv":
            theirs = tuple(f"{in_layer[1]}.attention.{which}_proj.{in_layer[3]}" for which in "qkv")
            shape = (shape[0] // 3, *shape[1:])
        elif in_layer:
            theirs = (f"{in_layer[1]}.{_IN_A_LAYER[in_layer[2]]}.{in_layer[3]}",)
        elif rest in words[part]:
            theirs = (words[part][rest],)
        else:
            stem, leaf = rest.rsplit(".", 1)
            theirs = (f"{words[part][stem]}.{leaf}",)
        if rest == "patch_projection.weight":
            shape = (shape[0], 3, 1, size, size)
        elif part == "vision" and rest.endswith("_positions"):
            shape = (1, *shape)
        sources[name] = Source(tuple(prefixes[part] + their for their in theirs), shape)
    return sources


def vision_prefix(config: VideoTextConfig) -> str:
    """What the names of vision tensors begin with in the class of `transformers` that has all parts of a model."""
    if config.text is not None:
        return "video_model.vision_model."
    return "" if config.video_head is None else "vision_model."


def read_config(
    config: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> tuple[VideoTextConfig, str, tuple[str, ...]]:
    """The architecture, the prefix of its vision tensors, and the prefixes of tensors to leave out.

    Raises:
        KeyError, TypeError, ValueError: an entry is missing or outside what our models can do.
    """
    if config["model_type"] == "videoprism":
        given = config.get("vision_config") or {}
        video_text = VideoTextConfig(_vision(given), _video_head(given), _text(config.get("text_config") or {}))
        return video_text, "video_model.vision_model.", ()
    vision_only = VideoTextConfig(_vision(config))
    if not any(name.startswith("vision_model.") for name in tensors):
        return vision_only, "", ()
    if any(name.startswith("classifier.") for name in tensors):
        return vision_only, "vision_model.", ("head.", "head_layernorm.", "classifier.")
    return replace(vision_only, video_head=_video_head(config)), "vision_model.", ()


def _vision(given: Mapping[str, Any]) -> ViViTConfig:
    size = given.get("image_size", 288)
    tubelet = list(given.get("tubelet_size", (1, 18, 18)))
    if not isinstance(size, int):
        height, width = size
        if height != width:
            raise ValueError(f"image_size {list(size)}: only square frames are supported")
        size = height
    if len(tubelet) != 3 or tubelet[0] != 1 or tubelet[1] != tubelet[2]:
        raise ValueError(f"tubelet_size {tubelet}: only square patches of one frame are supported")
    _require(given, "num_channels", 3, 3)
    _require(given, "hidden_act", "gelu_python", "gelu_python", "gelu")
    _require_common(given)
    return ViViTConfig(
        width=given.get("hidden_size", 768),
        heads=given.get("num_attention_heads", 12),
        mlp_dim=given.get("intermediate_size", 3072),
        spatial_layers=given.get("num_spatial_layers", 12),
        temporal_layers=given.get("num_temporal_layers", 4),
        patch_size=tubelet[1],
        image_size=size,
        num_frames=given.get("num_frames", 16),
        cap=float(given.get("attn_logit_softcapping", 50.0)),
    )


def _video_head(given: Mapping[str, Any]) -> VideoHeadConfig:
    _require(given, "apply_l2norm", True, True)
    return VideoHeadConfig(given.get("num_auxiliary_layers", 2), given.get("intermediate_size", 3072))


def _text(given: Mapping[str, Any]) -> TextConfig:
    _require(given, "apply_l2norm", True, True)
    _require(given, "hidden_act", "relu", "relu")
    _require_common(given)
    return TextConfig(
        vocab_size=given.get("vocab_size", 32000),
        width=given.get("hidden_size", 768),
        heads=given.get("num_attention_heads", 12),
        mlp_dim=given.get("intermediate_size", 3072),
        layers=given.get("num_hidden_layers", 12),
        max_length=given.get("max_position_embeddings", 64),
        cap=float(given.get("attn_logit_softcapping", 50.0)),
    )


def _require_common(given: Mapping[str, Any]) -> None:
    _require(given, "qkv_bias", True, True)
    _require(given, "layer_norm_eps", 1e-6, 1e-6)


def _require(given: Mapping[str, Any], key: str, default: Any, *supported: Any) -> None:
    if given.get(key, default) not in supported:
        raise ValueError(f"{key} {given[key]!r} is not supported, only {supported[0]!r}")


def describe_vision(config: VideoTextConfig) -> dict[str, Any]:
    """The entries of a vision config."""
    vision = config.vision
    return {
        "hidden_size": vision.width,
        "num_attention_heads": vision.heads,
        "intermediate_size": vision.mlp_dim,
        "num_spatial_layers": vision.spatial_layers,
        "num_temporal_layers": vision.temporal_layers,
        "num_auxiliary_layers": 0 if config.video_head is None else config.video_head.auxiliary_layers,
        "tubelet_size": [1, vision.patch_size, vision.patch_size],
        "image_size": vision.image_size,
        "num_frames": vision.num_frames,
        "attn_logit_softcapping": vision.cap,
        "hidden_act": "gelu_python",
    }


def describe_text(config: TextConfig | None) -> dict[str, Any]:
    """The entries of a text config."""
    if config is None:
        return {}
    return {
        "vocab_size": config.vocab_size,
        "hidden_size": config.width,
        "num_attention_heads": config.heads,
        "intermediate_size": config.mlp_dim,
        "num_hidden_layers": config.layers,
        "max_position_embeddings": config.max_length,
        "attn_logit_softcapping": config.cap,
        "hidden_act": "relu",
    }
