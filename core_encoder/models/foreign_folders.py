"""Folders of other people's encoders: the model class of `transformers` with all of its weights, or a clear no.

The class is ours to name, the config and the weights are data: no code of a folder is run and no pickle is read.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from core_encoder.errors import InputError
from core_encoder.fields import whole_number
from core_encoder.files.storage import atomic_path, read_config_json, write_json, writing_to
from core_encoder.models.checkpoints import CONFIG, far_too_many, shorten
from core_encoder.models.processor_config import IMAGE_FILE, VIDEO_FILE, describe_processor
from core_encoder.models.text_tower import Tokenizer
from core_encoder.models.transformers_files import UNREADABLE, check_safetensors, reason_of, without_bars
from core_encoder.preprocessing import Preprocessing

_ADAPTER = "adapter_config.json"
_SIDES = {"image_size", "patch_size", "crop_size"}
_COUNTS = {"hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_patches"}
_COUNTS |= {"num_frames", "frames_per_clip", "tubelet_size", "vocab_size", "max_position_embeddings"}


def open_model(model_class: Any, folder: Path, left_out: Sequence[str] = ()) -> Any:
    """A model of `model_class` with the weights of `folder`, in float32; heads, named by their prefixes, are left out.

    Raises:
        InputError: a broken config, weights that are no safetensors, or tensors that are missing, not of this model, or
            of another shape; all are named.
    """
    from huggingface_hub.errors import StrictDataclassError
    from safetensors import SafetensorError

    config_file = folder / CONFIG
    given = read_sizes(read_config_json(config_file), config_file)
    given.pop("quantization_config", None)  # weights are read as they are, or refused by their names and shapes
    check_safetensors(folder)
    _check_size(given, sum(path.stat().st_size for path in folder.glob("*.safetensors")), config_file)
    if (folder / _ADAPTER).is_file():  # transformers would read the model that it names, from wherever that lies
        raise InputError(f"{folder}: holds {_ADAPTER}, so a part of a model: merge it with its model first")
    try:
        with _silent():
            config = model_class.config_class.from_dict(given)
    except (StrictDataclassError, *UNREADABLE) as error:
        raise InputError(f"{config_file}: {reason_of(error)}") from error
    try:
        with _silent():
            model, said = model_class.from_pretrained(
                str(folder),
                config=config,
                dtype=torch.float32,
                use_safetensors=True,
                attn_implementation="sdpa",  # whatever the config names: some names are code to download
                local_files_only=True,
                ignore_mismatched_sizes=True,  # we refuse them below, by name
                output_loading_info=True,
            )
    except (SafetensorError, *UNREADABLE, ZeroDivisionError, AssertionError) as error:
        raise InputError(f"{folder}: not a model that transformers opens ({reason_of(error)})") from error
    _check(folder, said, set(model.state_dict()), tuple(left_out))
    return model


def _check_size(given: dict[str, Any], held: int, where: Path) -> None:
    """Refuse a config that describes many times the weights that files of so many bytes can hold, before they are made.

    Raises:
        InputError: how many both are.
    """
    for part in (given, given.get("vision_config"), given.get("text_config")):
        if isinstance(part, dict) and {"hidden_size", "num_hidden_layers"} <= part.keys():
            least = part["num_hidden_layers"] * part["hidden_size"] ** 2
            if far_too_many(least, held):
                raise InputError(f"{where}: describes {least:,} weights or more, and the files hold {held:,} bytes")


def read_sizes(given: dict[str, Any], where: Path) -> dict[str, Any]:
    """A config whose counts and sizes are whole numbers above 0, one for both sides of a square.

    Raises:
        InputError: one is not, or two sides differ.
    """
    found = dict(given)
    for name in sorted(_SIDES & found.keys()):
        sides = found[name] if isinstance(found[name], list) else [found[name]]
        if not sides or sides != sides[:1] * len(sides):
            raise InputError(f"{where}: {name} {found[name]} is not square, which is not supported")
        found[name] = sides[0]
    for name in sorted((_SIDES | _COUNTS) & found.keys()):
        whole_number(str(where), name, found[name])
    for name in ("vision_config", "text_config"):
        if isinstance(part := found.get(name), dict):
            found[name] = read_sizes(part, where)
    return found


def _check(folder: Path, said: dict[str, Any], ours: set[str], left_out: tuple[str, ...]) -> None:
    missing = sorted(name for name in said["missing_keys"] if not name.startswith(left_out))
    others = sorted(
        name for name in said["unexpected_keys"] if not name.startswith(left_out) and not name.endswith(".position_ids")
    )
    shapes = sorted(
        f"{name} {tuple(theirs)} instead of {tuple(wanted)}" for name, theirs, wanted in said["mismatched_keys"]
    )
    needed = {name for name in ours if not name.startswith(left_out)}
    if missing and set(missing) >= needed:
        held = sorted(said["unexpected_keys"]) or ["nothing of it"]
        raise InputError(f"{folder}: holds a head without its backbone: there are {shorten(held)}, none of the encoder")
    complaints = (
        ("tensors are missing", missing),
        ("tensors do not belong to this model", others),
        ("tensors have another shape than the model", shapes),
    )
    for complaint, names in complaints:
        if names:
            raise InputError(f"{folder}: {len(names)} {complaint}: {shorten(names)}")


def write_model(
    folder: Path, model: Any, preprocessing: Preprocessing, processor: str, tokenizer: Tokenizer | None, **more: Any
) -> None:
    """Write a folder that the model's class opens; each file is whole or absent.

    `processor` is the class that its processor config names, `more` what that alone knows.

    Raises:
        InputError: the disk is full, or the folder cannot be written to.
    """
    with writing_to(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".", dir=folder) as aside, _silent():
            model.save_pretrained(aside)  # it knows the names that published files have
            for file in sorted(Path(aside).iterdir(), key=lambda file: file.name == CONFIG):  # what names it comes last
                with atomic_path(folder / file.name) as target:
                    shutil.copyfile(file, target)
    name = VIDEO_FILE if processor.endswith("VideoProcessor") else IMAGE_FILE
    write_json(folder / name, describe_processor(preprocessing, processor, **more))
    if tokenizer is not None:
        tokenizer.save(folder)


@contextmanager
def _silent() -> Iterator[None]:
    """What `transformers` says of weights we say ourselves."""
    from transformers.utils import logging as theirs

    level = theirs.get_verbosity()
    theirs.set_verbosity_error()
    try:
        with without_bars():
            yield
    finally:
        theirs.set_verbosity(level)
