"""Where adapters are found: kinds (built in, registered, plugged in by entry points) and saved adapters.

A reference to a saved adapter is a folder, a name in the local registry (`name` or `name@v2`), or a Hub id
(`org/name` or `org/name@revision`). The registry is `PRISMHUB_HOME/adapters/<name>/v1, v2, ...`; no save overwrites.
"""

from __future__ import annotations

import fnmatch
import importlib
import importlib.metadata
import logging
import os
import re
import shutil
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from adapters.card import CONFIG_FILE, AdapterInfo, read_info
from adapters.saved_adapter import aside_of, copy_adapter, files_of, write_adapter
from core_encoder.errors import InputError
from core_encoder.files.hub import snapshot
from core_encoder.files.storage import check_name, nearest, prismhub_home, write_text

if TYPE_CHECKING:
    from adapters.adapter import Adapter
    from adapters.context import TargetKind
    from core_encoder.encoder import Encoder

ENTRY_POINTS = "prismhub.adapters"
LAST_FILE = ".last"  # the highest version number ever given: a name@version never means other weights


class _BuiltIn(NamedTuple):
    """Where a kind of ours is, and what it learns: known without importing it, for it brings torch.

    Its options are `<name>Config` in `adapters.head_options`.
    """

    module: str
    name: str
    target_kind: TargetKind


class HeadOptions(NamedTuple):
    """The options of a kind, without the kind."""

    kind: str
    Config: type


_BUILT_IN = {
    "map_classifier": _BuiltIn("adapters.kinds.map_classifier", "MapClassifier", "classes"),
    "linear": _BuiltIn("adapters.kinds.linear", "Linear", "classes"),
    "lit_text": _BuiltIn("adapters.kinds.lit_text", "LitText", "pairs"),
    "llm_decoder": _BuiltIn("adapters.kinds.llm_decoder", "LlmDecoder", "text"),
    "temporal_localizer": _BuiltIn("adapters.kinds.temporal_localizer", "TemporalLocalizer", "segments"),
    "spatiotemporal_localizer": _BuiltIn("adapters.kinds.spatiotemporal_localizer", "SpatiotemporalLocalizer", "boxes"),
}
_registered: dict[str, type[Adapter]] = {}
_VERSION = re.compile(r"v([1-9]\d*)")
log = logging.getLogger(__name__)
AdapterClass = TypeVar("AdapterClass", bound="type[Adapter]")


def register_adapter(cls: AdapterClass) -> AdapterClass:
    """Make a head known under its `kind` in this process; usable as a decorator.

    Raises:
        InputError: the kind's name is taken by another class, or is no valid name.
    """
    kind = check_name(getattr(cls, "kind", ""), "adapter kind")
    taken = _registered.get(kind)
    if kind in _BUILT_IN or (taken is not None and taken.__qualname__ != cls.__qualname__):
        raise InputError(f"adapter kind {kind!r} exists already; choose another name")
    _registered[kind] = cls
    return cls


def adapter_kinds() -> list[str]:
    """The names of all known kinds; no plug-in is imported for it."""
    plugged = importlib.metadata.entry_points(group=ENTRY_POINTS)
    return sorted({*_BUILT_IN, *_registered, *(point.name for point in plugged)})


def adapter_kind(name: str) -> type[Adapter]:
    """The class of a kind; a plug-in is imported when it is the one asked for.

    Raises:
        InputError: no such kind (the nearest one is offered), or its plug-in cannot be imported.
    """
    if name in _BUILT_IN:
        return getattr(importlib.import_module(_BUILT_IN[name].module), _BUILT_IN[name].name)
    if name in _registered:
        return _registered[name]
    for point in importlib.metadata.entry_points(group=ENTRY_POINTS, name=name):
        try:
            found = point.load()
        except Exception as error:  # a plug-in may fail in any way; the others must not suffer
            raise InputError(f"adapter kind {name!r} of {_owner(point)} cannot be imported: {error}") from error
        if getattr(found, "kind", None) != name:  # what it saves could not be loaded again
            raise InputError(f"adapter kind {name!r} of {_owner(point)} is no adapter whose `kind` is {name!r}")
        return found
    raise InputError(f"unknown adapter kind {name!r}{nearest(name, adapter_kinds())}")


def target_kind(name: str) -> TargetKind:
    """What adapters of a kind learn; kinds of ours are not imported for it.

    Raises:
        InputError: no such kind, or its plug-in cannot be imported.
    """
    return _BUILT_IN[name].target_kind if name in _BUILT_IN else adapter_kind(name).target_kind


def head_options(name: str) -> HeadOptions:
    """The options of a kind; kinds of ours are not imported for it.

    Raises:
        InputError: no such kind, or its plug-in cannot be imported.
    """
    from adapters import head_options as ours

    config = getattr(ours, f"{_BUILT_IN[name].name}Config") if name in _BUILT_IN else adapter_kind(name).Config
    return HeadOptions(name, config)


def _owner(point: importlib.metadata.EntryPoint) -> str:
    owner = point.dist.name if point.dist else point.value
    return f"plug-in {owner!r}"


@dataclass(frozen=True)
class RegisteredAdapter:
    """A row of the registry."""

    name: str
    version: str
    kind: str
    encoder: str
    task: str
    num_classes: int
    metric: str
    created: str
    path: Path

    @property
    def ref(self) -> str:
        """What `load_adapter` takes."""
        return f"{self.name}@{self.version}"


def registry_folder() -> Path:
    """Where the registry lies; it may not exist yet."""
    return prismhub_home() / "adapters"


def list_adapters(pattern: str = "*") -> list[RegisteredAdapter]:
    """The saved adapters whose name matches `pattern` (`*`, `?`), by name and version; unreadable ones are logged."""
    rows = []
    for folder in sorted(registry_folder().glob("*")):
        if not fnmatch.fnmatchcase(folder.name, pattern):
            continue
        for version in _versions(folder):
            path = folder / f"v{version}"
            try:
                info = read_info(path)
            except InputError as error:
                log.warning("%s", error)
                continue
            main = f"{info.evaluations[0].main_metric} {info.evaluations[0].main}" if info.evaluations else ""
            rows.append(
                RegisteredAdapter(
                    folder.name,
                    path.name,
                    info.kind,
                    info.encoder,
                    info.task,
                    len(info.label_names),
                    main,
                    info.created,
                    path,
                )
            )
    return rows


def save_to_registry(adapter: Adapter, name: str) -> RegisteredAdapter:
    """Save `adapter` as the next version of `name`; safe with several processes.

    Raises:
        InputError: the name cannot become a folder's name, or the disk is full.
    """
    folder = registry_folder() / check_name(name, "adapter name")
    folder.mkdir(parents=True, exist_ok=True)
    with aside_of(folder, name) as aside:
        write_adapter(adapter, aside, name)
        return _row(name, _place(aside, folder))


def save_once(adapter: Adapter, name: str) -> RegisteredAdapter:
    """Save as a new version, unless the newest version is this very adapter: a finished run that was run again."""
    versions = list_adapters(name)
    return versions[-1] if versions and _is_saved(adapter, versions[-1].path) else save_to_registry(adapter, name)


def _is_saved(adapter: Adapter, folder: Path) -> bool:
    """Whether `folder` holds an adapter that says and answers the same."""
    import torch

    try:
        before = type(adapter).from_folder(folder)
    except InputError:  # damaged, or of another kind
        return False
    said: tuple[str, ...] = ("config", "targets", "features", "encoder_source", "dataset", "evaluations", "tuned_from")
    said += ("blind",) if adapter.info.blind else ()  # it may have got its twin later
    old, new = before.info.to_json(), adapter.info.to_json()
    if any(old.get(name) != new.get(name) for name in said):
        return False
    ours, theirs = adapter.saved_state(), before.saved_state()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)


def load_adapter(
    ref: str | Path,
    encoder: Encoder | None = None,
    *,
    label_names: Sequence[str] | None = None,
    device: str = "cpu",
    local_files_only: bool = False,
    moved: Mapping[str, str] | None = None,
) -> Adapter:
    """Load a saved adapter, ready to predict; with `encoder`, it is checked and used.

    `moved` says where something lies now that the adapter names and does not hold: `{"text_tower": "towers/minilm"}`.

    Raises:
        InputError: nothing under `ref`, another schema version, damaged or foreign weights, an unknown kind, or classes
            other than `label_names`.
        EncoderMismatch: `encoder` is not the one the adapter was trained on.
    """
    folder = find_adapter(ref, local_files_only)
    info = read_info(folder)
    if label_names is not None:
        info.check_labels(label_names, f"adapter {str(ref)!r}")
    if encoder is not None:
        info.check_encoder(encoder.name, encoder.fingerprint, f"adapter {str(ref)!r}")
    adapter = adapter_kind(info.kind).from_folder(folder, moved).to(device)
    if encoder is not None:
        adapter.use_encoder(encoder)
    return adapter


def describe_adapter(ref: str | Path, local_files_only: bool = False) -> AdapterInfo:
    """What a saved adapter records, without loading its weights."""
    return read_info(find_adapter(ref, local_files_only))


def find_adapter(ref: str | Path, local_files_only: bool = False) -> Path:
    """The folder a reference stands for; a Hub id is downloaded.

    Raises:
        InputError: there is no such adapter; the nearest registered name is offered.
    """
    text = os.fspath(ref)
    path = Path(text).expanduser()
    if path.is_dir() and (isinstance(ref, Path) or os.sep in text or (path / CONFIG_FILE).exists()):
        return path
    name, _, version = text.partition("@")
    if re.fullmatch(r"[\w.-]+/[\w.-]+", name) and not name.startswith(".") and not isinstance(ref, Path):
        return _download(name, version or None, local_files_only)
    if isinstance(ref, Path) or "/" in text or os.sep in text:
        raise InputError(f"{text}: no adapter here (no such folder)")
    return _registered_folder(name, version)


def remove_adapter(ref: str) -> list[Path]:
    """Delete `name@version`, or every version of `name`; returns the folders that are gone.

    Raises:
        InputError: no such adapter in the registry.
    """
    name, _, version = ref.partition("@")
    newest = _registered_folder(name, version)
    folder = newest.parent
    doomed = [newest] if version else [folder / f"v{number}" for number in _versions(folder)]
    for path in doomed:  # out of sight first, so that nobody loads half of it
        aside = folder / f".{path.name}-{uuid.uuid4().hex[:8]}.tmp"
        path.rename(aside)
        shutil.rmtree(aside)
    return doomed


def pull(ref: str, name: str | None = None, moved: Mapping[str, str] | None = None) -> RegisteredAdapter:
    """Copy an adapter from the Hub (or a folder) into the registry, under its own name unless `name` is given.

    That it can be loaded is tried first, with what `moved` says of where its parts lie here (see `load_adapter`).

    Raises:
        InputError: nothing under `ref`, no network, or it is not a whole adapter.
    """
    source = find_adapter(ref)
    info = read_info(source)
    adapter_kind(info.kind).from_folder(source, moved)  # refuse here what could not be loaded later
    own = name or Path(ref.partition("@")[0]).name
    folder = registry_folder() / check_name(own, "adapter name")
    folder.mkdir(parents=True, exist_ok=True)
    with aside_of(folder, own) as aside:
        copy_adapter(source, aside)
        return _row(own, _place(aside, folder))


def _place(aside: Path, folder: Path) -> Path:
    """Rename a whole adapter to the next version, never a removed one; another process may take it in between."""
    last = folder / LAST_FILE
    number = max([*_versions(folder), int(last.read_text()) if last.exists() else 0]) + 1
    while True:
        target = folder / f"v{number}"
        try:
            aside.rename(target)  # fails when the target holds files
            write_text(last, str(number))
            return target
        except OSError:
            if not target.exists():
                raise
            number += 1


def _versions(folder: Path) -> list[int]:
    found = [_VERSION.fullmatch(path.name) for path in folder.glob("v*")]
    return sorted(int(match[1]) for match in found if match)


def _row(name: str, path: Path) -> RegisteredAdapter:
    return next(row for row in list_adapters(name) if row.path == path)


def _registered_folder(name: str, version: str) -> Path:
    root = registry_folder()
    folder = root / check_name(name, "adapter name")
    versions = _versions(folder)
    if not versions:
        known = [path.name for path in root.glob("*") if _versions(path)]
        raise InputError(f"no adapter named {name!r}{nearest(name, known)}")
    if not version:
        return folder / f"v{versions[-1]}"
    names = [f"v{number}" for number in versions]
    if version not in names:
        raise InputError(f"adapter {name!r} has no version {version!r}; it has {', '.join(names)}")
    return folder / version


def _download(repo: str, revision: str | None, local_files_only: bool) -> Path:
    """The local copy of an adapter on the Hub: its own files and the assets that its configuration lists."""
    what = f"adapter {repo}" + (f"@{revision}" if revision else "")
    instead = "the name or the folder of a saved adapter"
    folder = snapshot(what, repo, revision, [CONFIG_FILE], instead, local_files_only=local_files_only)
    if not (folder / CONFIG_FILE).is_file():
        raise InputError(f"{what}: the repository holds no adapter (no {CONFIG_FILE})")
    return snapshot(what, repo, revision, sorted(files_of(folder)), instead, local_files_only=local_files_only)
