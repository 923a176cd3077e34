"""Checkpoint folders in `transformers` format, read and written: VideoPrism, its video-text model, CLIP.

Every tensor of a file must be expected and every expected tensor present, in the right shape; nothing is guessed and
nothing is unpickled. Tensor names of the files appear only here and in `flax_checkpoint`.
"""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from core_encoder.contrastive import VideoHeadConfig, VideoTextConfig, VideoTextModel
from core_encoder.errors import InputError
from core_encoder.storage import atomic_path, read_json, read_tensors, write_json, write_tensors
from core_encoder.text_tower import TextConfig, TextTokenizer, Tokenizer
from core_encoder.video import Preprocessing
from core_encoder.vivit import ViViTConfig

log = logging.getLogger(__name__)

WEIGHTS, INDEX, CONFIG = "model.safetensors", "model.safetensors.index.json", "config.json"
_SUPPORTED = "'videoprism_vision_model', 'videoprism' and 'clip'"


@dataclass(frozen=True)
class Checkpoint:
    """What a file or folder held."""

    model: nn.Module
    preprocessing: Preprocessing
    tokenizer: Tokenizer | None = None
    trained: bool = True


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


def read_folder(folder: Path) -> Checkpoint:
    """Read a folder in `transformers` format.

    Raises:
        InputError: no or a broken config, an unsupported architecture, weights that do not fit it.
    """
    config_file = folder / CONFIG
    if not config_file.is_file():
        raise InputError(f"{folder}: no {CONFIG}: a folder in transformers format holds {CONFIG} and {WEIGHTS}")
    config = read_json(config_file)
    kind = config.get("model_type") if isinstance(config, dict) else None
    if kind == "clip":
        from core_encoder.clip import read_clip_folder

        return read_clip_folder(folder)
    if kind not in ("videoprism_vision_model", "videoprism"):
        raise InputError(f"{config_file}: model_type {kind!r} is not supported; supported are {_SUPPORTED}")
    tensors, trained = read_weights(folder)
    try:
        architecture, prefix, ignored = _architecture(config, tensors)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{config_file}: {' '.join(str(error).split())}") from error
    model = build(architecture)
    extra = sorted(name for name in tensors if ignored and name.startswith(ignored))
    if extra:
        log.info("%s: the classifier on top is left out: %s", folder, ", ".join(extra))
    sources = transformers_sources(model, prefix)
    optional = {"text_model.embeddings.position_ids", *extra}
    assign(model, sources, tensors, optional, folder)
    tokenizer = None
    if architecture.text is not None:
        tokenizer = TextTokenizer.find(folder, architecture.text.vocab_size, architecture.text.max_length)
    return Checkpoint(model, Preprocessing(architecture.vision.image_size), tokenizer, trained)


def write_folder(folder: Path, model: VideoTextModel, tokenizer: Tokenizer | None, trained: bool) -> None:
    """Write a folder that `transformers.AutoModel` opens; each file is whole or absent.

    Raises:
        InputError: the model has parts that `transformers` has no class for, or the disk is full.
    """
    config = model.config
    if config.video_head is not None and config.video_head.pooling_dim != config.vision.mlp_dim:
        raise InputError("transformers knows no video head whose pooling width differs from the width of the MLP")
    if config.text is not None:
        prefix, kind, architecture = "video_model.vision_model.", "videoprism", "VideoPrismClipModel"
    elif config.video_head is not None:
        prefix, kind, architecture = "vision_model.", "videoprism_vision_model", "VideoPrismVideoModel"
    else:
        prefix, kind, architecture = "", "videoprism_vision_model", "VideoPrismVisionModel"
    vision, text = _describe_vision(config), _describe_text(config.text)
    about = {"architectures": [architecture], "model_type": kind}
    tensors: dict[str, Tensor] = {}
    state = model.state_dict()
    for name, source in transformers_sources(model, prefix).items():
        for part, tensor in zip(source.names, state[name].chunk(len(source.names)), strict=True):
            tensors[part] = tensor.reshape(source.shape).clone()
    if config.text is not None:
        tensors["text_model.embeddings.position_ids"] = torch.arange(config.text.max_length)[None]
        nested = {
            "text_config": {"model_type": "videoprism_text_model", **text},
            "vision_config": {"model_type": "videoprism_vision_model", **vision},
        }
        write_json(folder / CONFIG, about | nested)
    else:
        write_json(folder / CONFIG, about | vision)
    write_tensors(folder / WEIGHTS, tensors, {"format": "pt", "trained": str(trained).lower()})
    if tokenizer is not None:
        tokenizer.save(folder)


def build(config: VideoTextConfig) -> VideoTextModel:
    """The model without any weights yet."""
    with torch.device("meta"):
        return VideoTextModel(config)


def assign(
    model: nn.Module, sources: Mapping[str, Source], tensors: Mapping[str, Tensor], optional: set[str], where: Path
) -> None:
    """Give `model` its weights, in float32.

    Raises:
        InputError: a tensor is missing, unexpected (and not in `optional`) or of another shape; all are named.
    """
    expected = {name: source.shape for source in sources.values() for name in source.names}
    complaints = (
        ("tensors are missing", sorted(expected.keys() - tensors.keys())),
        ("tensors do not belong to this model", sorted(tensors.keys() - expected.keys() - optional)),
        (
            "tensors have another shape than the model",
            sorted(
                f"{name} {tuple(tensors[name].shape)} instead of {shape}"
                for name, shape in expected.items()
                if name in tensors and tuple(tensors[name].shape) != shape
            ),
        ),
    )
    for complaint, names in complaints:
        if names:
            raise InputError(f"{where}: {len(names)} {complaint}: {shorten(names)}")

    def value(source: Source) -> Tensor:
        parts = []
        for name in source.names:
            part = tensors[name] if source.layer is None else tensors[name][source.layer]
            parts.append(part if source.convert is None else source.convert(part))
        return parts[0] if len(parts) == 1 else torch.cat([part.float() for part in parts])

    ours = model.state_dict()
    state = {name: value(source).float().reshape(ours[name].shape).contiguous() for name, source in sources.items()}
    model.load_state_dict(state, assign=True)


def shorten(names: Iterable[str], most: int = 6) -> str:
    """The first few names and how many more there are."""
    names = list(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


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


def read_weights(folder: Path) -> tuple[dict[str, Tensor], bool]:
    """All tensors of a folder, one file or several, and whether they were trained."""
    if (folder / WEIGHTS).is_file():
        tensors = read_tensors(folder / WEIGHTS)
        with safe_open(str(folder / WEIGHTS), framework="pt") as file:
            return tensors, (file.metadata() or {}).get("trained") != "false"
    if not (folder / INDEX).is_file():
        unsafe = sorted(path.name for path in folder.glob("*.bin"))
        advice = f"{unsafe[0]} may hold code: convert it to safetensors first" if unsafe else f"it holds no {WEIGHTS}"
        raise InputError(f"{folder}: {advice}")
    index = read_json(folder / INDEX)
    places = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(places, dict) or not all(isinstance(name, str) for name in places.values()):
        raise InputError(f"{folder / INDEX}: no weight_map")
    tensors = {}
    for name in sorted(set(places.values())):
        if Path(name).name != name:
            raise InputError(f"{folder / INDEX}: {name!r} is not a file of this folder")
        tensors |= read_tensors(folder / name)
    return tensors, True


def copy_files(source: Path, target: Path, names: Iterable[str]) -> None:
    """Copy those of `names` that lie in `source`, each whole or not at all."""
    for name in names:
        if (source / name).is_file() and (source / name).resolve() != (target / name).resolve():
            with atomic_path(target / name) as aside:
                shutil.copyfile(source / name, aside)


def _architecture(
    config: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> tuple[VideoTextConfig, str, tuple[str, ...]]:
    """The architecture, the prefix of its vision tensors, and the prefixes of tensors to leave out."""
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


def _describe_vision(config: VideoTextConfig) -> dict[str, Any]:
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


def _describe_text(config: TextConfig | None) -> dict[str, Any]:
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
