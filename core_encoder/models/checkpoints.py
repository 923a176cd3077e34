"""Checkpoint folders in `transformers` format, read and written: VideoPrism and its video-text model.

Every tensor of a file must be expected and every expected tensor present, in the right shape; nothing is guessed and
nothing is unpickled. The names inside the files are known to `transformers_format` and `flax_checkpoint` alone.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from core_encoder.errors import InputError
from core_encoder.files.storage import atomic_path, read_config_json, read_tensors, write_json, write_tensors
from core_encoder.models.known_encoders import FAMILIES
from core_encoder.models.model_configs import VideoTextConfig
from core_encoder.models.plug_ins import plugged_encoders
from core_encoder.models.text_tower import TextTokenizer, Tokenizer
from core_encoder.models.transformers_format import (
    Source,
    describe_text,
    describe_vision,
    read_config,
    transformers_sources,
    vision_prefix,
)
from core_encoder.models.video_text import VideoTextModel
from core_encoder.preprocessing import Preprocessing

log = logging.getLogger(__name__)

WEIGHTS, INDEX, CONFIG = "model.safetensors", "model.safetensors.index.json", "config.json"


@dataclass(frozen=True)
class Checkpoint:
    """What a file or folder held."""

    model: nn.Module
    preprocessing: Preprocessing
    tokenizer: Tokenizer | None = None


def folder_kind(folder: Path) -> str:
    """The `model_type` of a folder in `transformers` format, one of `FAMILIES` or of a plug-in.

    Raises:
        InputError: no or a broken config, or an unsupported architecture.
    """
    config_file = folder / CONFIG
    if not config_file.is_file():
        inner = folder / "encoder"  # of a pretraining run
        hint = f"; did you mean {inner}?" if (inner / CONFIG).is_file() else ""
        raise InputError(f"{folder}: no {CONFIG}: a folder in transformers format holds {CONFIG} and {WEIGHTS}{hint}")
    config = read_config_json(config_file)
    kind = config.get("model_type") if isinstance(config, dict) else None
    kind = kind if isinstance(kind, str) else None
    if kind not in FAMILIES and kind not in (plugged := plugged_encoders()):
        *others, last = (repr(name) for name in (*FAMILIES, *plugged))
        known = f"{', '.join(others)} and {last}"
        raise InputError(f"{config_file}: model_type {kind!r} is not supported; supported are {known}")
    return str(kind)


def read_folder(folder: Path) -> Checkpoint:
    """Read a folder of VideoPrism or its video-text model in `transformers` format.

    Raises:
        InputError: a config that does not describe one, or weights that do not fit it.
    """
    config_file = folder / CONFIG
    config = read_config_json(config_file)
    tensors = read_weights(folder)
    try:
        architecture, prefix, ignored = read_config(config, tensors)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{config_file}: {' '.join(str(error).split())}") from error
    _check_size(architecture, tensors, config_file)
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
    return Checkpoint(model, Preprocessing(architecture.vision.image_size), tokenizer)


def _check_size(config: VideoTextConfig, tensors: Mapping[str, Tensor], config_file: Path) -> None:
    """Refuse a config that describes many times the weights that there are, before memory is taken for them.

    Raises:
        InputError: how many both are.
    """
    vision, text = config.vision, config.text
    auxiliary = 0 if config.video_head is None else config.video_head.auxiliary_layers
    least = (vision.num_layers + auxiliary) * vision.width * (4 * vision.width + 2 * vision.mlp_dim)
    least += vision.width * (vision.grid**2 + vision.num_frames)
    if text is not None:
        least += text.layers * text.width * (4 * text.width + 2 * text.mlp_dim) + text.vocab_size * text.width
    held = sum(tensor.numel() for tensor in tensors.values())
    if far_too_many(least, held):
        raise InputError(f"{config_file}: describes {least:,} weights or more, and the files hold {held:,}")


def far_too_many(least: int, held: int) -> bool:
    """Whether a model of so many weights is far more than files of so many can be meant for.

    What is off by less is made, so that its reader can name the tensors that are missing.
    """
    return least > max(4 * held, 1 << 28)


def write_folder(folder: Path, model: VideoTextModel, tokenizer: Tokenizer | None) -> None:
    """Write a folder that `transformers.AutoModel` opens; each file is whole or absent.

    Raises:
        InputError: the model has parts that `transformers` has no class for, or the disk is full.
    """
    config = model.config
    if config.video_head is not None and config.video_head.pooling_dim != config.vision.mlp_dim:
        raise InputError("transformers knows no video head whose pooling width differs from the width of the MLP")
    if config.text is not None:
        kind, architecture = "videoprism", "VideoPrismClipModel"
    elif config.video_head is not None:
        kind, architecture = "videoprism_vision_model", "VideoPrismVideoModel"
    else:
        kind, architecture = "videoprism_vision_model", "VideoPrismVisionModel"
    vision, text = describe_vision(config), describe_text(config.text)
    about = {"architectures": [architecture], "model_type": kind}
    tensors: dict[str, Tensor] = {}
    state = model.state_dict()
    for name, source in transformers_sources(model, vision_prefix(config)).items():
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
    write_tensors(folder / WEIGHTS, tensors, {"format": "pt"})
    if tokenizer is not None:
        tokenizer.save(folder)


class _Undrawn(TorchFunctionMode):
    """Initial weights are not drawn: memory that is never touched costs nothing, and a checkpoint brings the values.

    A model on the meta device would do, but there torch imports its compiler for some draws, which takes a second.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == "torch.nn.init":
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        return func(*args, **kwargs)


def build(config: VideoTextConfig) -> VideoTextModel:
    """The model without any weights yet."""
    with _Undrawn():
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


def read_weights(folder: Path) -> dict[str, Tensor]:
    """All tensors of a folder, one file or several."""
    if (folder / WEIGHTS).is_file():
        return read_tensors(folder / WEIGHTS)
    if not (folder / INDEX).is_file():
        unsafe = sorted(path.name for path in folder.glob("*.bin"))
        advice = f"{unsafe[0]} may hold code: convert it to safetensors first" if unsafe else f"it holds no {WEIGHTS}"
        raise InputError(f"{folder}: {advice}")
    index = read_config_json(folder / INDEX)
    places = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(places, dict) or not all(isinstance(name, str) for name in places.values()):
        raise InputError(f"{folder / INDEX}: no weight_map")
    tensors: dict[str, Tensor] = {}
    for name in sorted(set(places.values())):
        if Path(name).name != name:
            raise InputError(f"{folder / INDEX}: {name!r} is not a file of this folder")
        tensors |= read_tensors(folder / name)
    return tensors


def copy_files(source: Path, target: Path, names: Iterable[str]) -> None:
    """Copy those of `names` that lie in `source`, each whole or not at all."""
    for name in names:
        if (source / name).is_file() and (source / name).resolve() != (target / name).resolve():
            with atomic_path(target / name) as aside:
                shutil.copyfile(source / name, aside)
