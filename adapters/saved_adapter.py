"""A saved adapter on disk: weights, configuration, model card, and the assets that its kind brings.

    adapter_model.safetensors   what the head saves
    adapter_config.json         all that is known about it, the digest of every other file among it
    README.md                   the model card
    .eval_results/              its results, for leaderboards on the Hub; where there are any
    ...                         assets, as listed in adapter_config.json

A folder is whole or not there, and is copied, pushed and pulled by the list in its configuration.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from adapters.card import (
    CARD_FILE,
    CONFIG_FILE,
    OWN_ENCODER_FOLDER,
    WEIGHTS_FILE,
    AdapterInfo,
    current_versions,
    metric_names,
    model_card,
    read_info,
    results_section,
)
from adapters.context import Context
from adapters.task_scores import EVAL_RESULTS_FILE, TaskScores, eval_results, eval_results_text, with_results
from core_encoder.config import config_from_dict
from core_encoder.errors import InputError
from core_encoder.files.hub import named_elsewhere
from core_encoder.files.storage import (
    check_finite,
    check_name,
    offline,
    read_tensors,
    write_json,
    write_tensors,
    write_text,
)

if TYPE_CHECKING:
    from torch import Tensor

    from adapters.adapter import Adapter
    from adapters.head_size import HeadSize
    from adapters.tuning.encoder_lora import EncoderLora
    from adapters.tuning.own_encoder import OwnEncoder

Kind = TypeVar("Kind", bound="Adapter")
OWN_FILES = frozenset({WEIGHTS_FILE, CONFIG_FILE, CARD_FILE, EVAL_RESULTS_FILE})
ASSET_SUFFIXES = (".safetensors", ".json", ".txt", ".model", ".md")  # nothing that could be run, nothing pickled


def write_adapter(adapter: Adapter, folder: Path, name: str) -> None:
    """Write every file of a saved adapter into `folder`; `name` heads the model card.

    Raises:
        InputError: the disk is full, or an asset's name or kind of file is not allowed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    adapter.write_assets(folder)
    if adapter.tuning is not None:
        adapter.tuning.write(folder, adapter.info.encoder_to_load)
    assets = {path: file_sha256(folder / path) for path in sorted(_files(folder))}
    for path in assets:
        check_asset(path, f"adapter {adapter.kind!r}")
    elsewhere = adapter.names_in_assets()
    own = {name: tensor for name, tensor in adapter.saved_state().items() if name not in elsewhere}
    weights = write_tensors(folder / WEIGHTS_FILE, own, {"format": "pt"})
    adapter.info = replace(
        adapter.info,
        created=adapter.info.created or datetime.now(UTC).isoformat(timespec="seconds"),
        versions=adapter.info.versions or current_versions(),
        weights_sha256=file_sha256(weights),
        assets=assets,
    )
    write_json(folder / CONFIG_FILE, adapter.info.to_json())
    write_text(folder / CARD_FILE, model_card(adapter.info, name, adapter.parts_elsewhere()))
    _write_eval_results(folder, adapter.info)


def _write_eval_results(folder: Path, info: AdapterInfo) -> None:
    if text := eval_results_text(info):
        write_text(folder / EVAL_RESULTS_FILE, text)
    else:
        (folder / EVAL_RESULTS_FILE).unlink(missing_ok=True)


def add_results(folder: Path, results: Sequence[TaskScores], name: str) -> AdapterInfo:
    """Record results in a saved adapter: its configuration, its model card, and the file for leaderboards.

    Of the card the scores are written anew, and what people wrote into the rest of it stays. `name` heads a card that
    is missing.

    Raises:
        InputError: no adapter there, a card that cannot be read, or the disk is full.
    """
    info = with_results(read_info(folder), results)
    card = _card_with_results(folder / CARD_FILE, info) if (folder / CARD_FILE).exists() else model_card(info, name)
    write_json(folder / CONFIG_FILE, info.to_json())
    write_text(folder / CARD_FILE, card)
    _write_eval_results(folder, info)
    return info


def _card_with_results(file: Path, info: AdapterInfo) -> str:
    from huggingface_hub import ModelCard
    from yaml import YAMLError

    try:
        card = ModelCard(file.read_text(encoding="utf-8"), ignore_metadata_errors=True)
    except (ValueError, YAMLError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"{file}: the front matter of the card cannot be read ({reason}); mend or remove it"
        ) from error
    front: Any = card.data
    front.eval_results = eval_results(info)
    front.model_name = front.model_name or card.text.strip().partition("\n")[0].lstrip("# ")
    front.metrics = metric_names(info)
    section = results_section(info) + "\n\n"
    text, found = re.subn(r"^## Results\n.*?(?=^## |\Z)", lambda _: section, card.text, count=1, flags=re.M | re.S)
    card.text = text if found else f"{card.text.rstrip()}\n\n{section}"
    return str(card)


def save_adapter(adapter: Adapter, folder: str | Path) -> Path:
    """Write a saved adapter to `folder`, whole or not at all; an adapter that lies there is replaced.

    Raises:
        InputError: the folder holds something else, or the disk is full.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or set(_files(folder)) - files_of(folder)):
        raise InputError(f"{folder}: holds something else than an adapter; choose a new folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with aside_of(folder.parent, folder.name) as aside:
        write_adapter(adapter, aside, folder.name)
        if folder.exists():
            shutil.rmtree(folder)
        aside.rename(folder)
    return folder


def read_adapter(cls: type[Kind], folder: str | Path, moved: Mapping[str, str] | None = None) -> Kind:
    """Load a saved adapter of the kind `cls`, strictly, in evaluation mode; `moved` replaces options that are places.

    Raises:
        InputError: the folder holds no adapter, one of another kind, or files that are not the ones saved.
    """
    folder = Path(folder)
    info = read_info(folder)
    if info.kind != cls.kind:
        raise InputError(f"{folder}: holds a {info.kind!r} adapter, not {cls.kind!r}")
    check_assets(folder, info)
    tensors = read_tensors(folder / WEIGHTS_FILE)
    if file_sha256(folder / WEIGHTS_FILE) != info.weights_sha256:
        raise InputError(
            f"{folder / WEIGHTS_FILE}: not the weights that were saved (their sha256 differs); fetch or train again"
        )
    check_finite(tensors, folder / WEIGHTS_FILE)
    config: Any = config_from_dict(cls.Config, info.config | dict(moved or {}), str(folder / CONFIG_FILE))
    context = Context(info.dim, info.targets, info.features, info.grid, folder, info.encoder_source)
    with _size_limit(folder, info, tensors):
        adapter = cls.build(config, context)
    elsewhere = adapter.names_in_assets()
    tensors |= {name: tensor for name, tensor in adapter.saved_state().items() if name in elsewhere}
    adapter.load_weights(tensors, str(folder / WEIGHTS_FILE))
    adapter.info = info
    adapter.tuning = _read_tuning(folder, info)
    return adapter.eval()


def _size_limit(folder: Path, info: AdapterInfo, tensors: Mapping[str, Tensor]) -> HeadSize:
    """The bound of a head's size, by its weights and those of its assets."""
    from adapters.head_size import HeadSize

    assets = sum((folder / path).stat().st_size for path in info.assets if path.endswith(".safetensors"))
    held = sum(tensor.numel() for tensor in tensors.values()) + assets // 2
    return HeadSize(held, len(tensors), str(folder / CONFIG_FILE))


def _read_tuning(folder: Path, info: AdapterInfo) -> EncoderLora | OwnEncoder | None:
    """What became of the encoder of the adapter in `folder`; None where it is frozen."""
    if info.tuned_from is None:
        return None
    from adapters.tuning.encoder_lora import EncoderLora
    from adapters.tuning.own_encoder import OwnEncoder

    return EncoderLora.read(folder) if info.tuned_from.how == "lora" else OwnEncoder(folder / OWN_ENCODER_FOLDER)


def copy_adapter(source: Path, target: Path) -> None:
    """Copy the files of a saved adapter, those its configuration lists and no others."""
    for path in files_of(source):
        if (source / path).exists():  # a card may be missing; what must be there is checked on loading
            (target / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / path, target / path)


def check_assets(folder: Path, info: AdapterInfo) -> None:
    """Refuse assets that are missing or not the ones saved.

    Raises:
        InputError: which file, and what is wrong with it.
    """
    for path, digest in info.assets.items():
        check_asset(path, str(folder / CONFIG_FILE))
        file = folder / path
        if not file.is_file():
            raise InputError(f"{file}: missing, though {CONFIG_FILE} lists it; fetch or train again")
        if file_sha256(file) != digest:
            raise InputError(f"{file}: not the file that was saved (its sha256 differs); fetch or train again")


def check_asset(path: str, where: str) -> None:
    """Refuse names that lead out of the folder and kinds of files that could hold code.

    Raises:
        InputError: the name or its suffix is not allowed.
    """
    parts = path.split("/")
    for part in parts:
        check_name(part, f"{where}: asset")
    if path in OWN_FILES or not path.endswith(ASSET_SUFFIXES):
        raise InputError(f"{where}: asset {path!r} is not allowed; assets end in {', '.join(ASSET_SUFFIXES)}")


def push_adapter(adapter: Adapter, repo_id: str, private: bool, message: str) -> str:
    """Upload the saved form to the Hub and return its URL.

    Raises:
        InputError: no token, no network, or the Hub refuses.
    """
    import tempfile

    from huggingface_hub import HfApi, get_token
    from huggingface_hub.errors import HFValidationError, HTTPError

    if offline():
        raise InputError("PRISMHUB_OFFLINE or HF_HUB_OFFLINE is set: nothing can be pushed to the Hub")
    if get_token() is None:
        raise InputError("no Hugging Face token: run `hf auth login` or set HF_TOKEN, then push again")
    info, source = adapter.info, adapter.info.encoder_source
    places = {name: named_elsewhere(place) for name in adapter.places if (place := info.config.get(name))}
    here = Path(source).expanduser().exists() or Path(source).is_absolute()
    adapter.info = replace(info, config=info.config | places, encoder_source="" if here else source)
    try:
        with tempfile.TemporaryDirectory() as folder:
            write_adapter(adapter, Path(folder), repo_id)
            url = str(HfApi().create_repo(repo_id, private=private, exist_ok=True))
            HfApi().upload_folder(repo_id=repo_id, folder_path=folder, commit_message=message)
    except (HFValidationError, HTTPError, OSError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"cannot push to {repo_id!r}: {reason}") from error
    finally:
        adapter.info = info
    return url


@contextmanager
def aside_of(parent: Path, name: str) -> Iterator[Path]:
    """A hidden folder in `parent` to write to and then to rename; what is left of it is removed."""
    aside = parent / f".{name}.{os.getpid()}-{uuid.uuid4().hex[:8]}.tmp"
    try:
        aside.mkdir()
        yield aside
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def file_sha256(path: Path) -> str:
    """sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _files(folder: Path) -> list[str]:
    """The files below a folder, as paths with `/`."""
    return [path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()]


def files_of(folder: Path) -> set[str]:
    """The files of the adapter in `folder`, which may not all be there; the usual three without a readable config."""
    try:
        info = read_info(folder)
    except InputError:
        return set(OWN_FILES)
    for path in info.assets:
        check_asset(path, str(folder / CONFIG_FILE))
    return {*OWN_FILES, *info.assets}
