"""The manifest of a corpus: a YAML file of tiers, each one source of clips with a quality and a sampling weight.

    tiers:
      - name: curated
        quality: clean
        weight: 1
        table: curated/clips.csv          # or .tsv, .jsonl, .parquet: video,start,end,caption
      - name: web
        quality: noisy
        weight: 3
        caption_source: ASR
        shards: web/*.tar                 # samples of one .mp4 (.webm, .mkv, .avi, .mov) and one .txt or .json
      - name: pictures
        quality: noisy
        weight: 1
        media: image                      # one-frame clips
        hub: {path: org/pictures, split: train}
        columns: {caption: alt_text}      # where a column or JSON key carries another name
      - name: world
        quality: clean
        weight: 1
        synthetic: {seed: 0, length: 100000}

Relative paths are relative to the manifest; paths inside a table are relative to the table.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from core_encoder.config import config_from_dict, config_to_dict, option
from core_encoder.errors import InputError
from core_encoder.files.storage import check_name, expanded, is_file, is_folder, nearest, read_yaml, write_text
from pretrain.world.motions import check_motion

Quality = Literal["clean", "noisy"]
Media = Literal["video", "image"]
ROLES = ("video", "start", "end", "caption")
"""What `columns` can rename; `image` is another name of `video`."""

_SOURCES = ("table", "shards", "hub", "synthetic")


@dataclass(frozen=True)
class HubSpec:
    """A data set of the Hub, or of local files, as `datasets.load_dataset(..., streaming=True)` reads it."""

    path: str = option("", "Data set (org/name), local folder, or file format such as parquet with data_files.")
    name: str | None = option(None, "Configuration of the data set.")
    split: str = option("train", "Split.")
    revision: str | None = option(None, "Commit, tag or branch.")
    data_files: tuple[str, ...] = option((), "Files to read, of the data set or local.")
    shuffle_block: int = option(256, "So many rows are read ahead and shuffled; 1 keeps the order.")

    def __post_init__(self) -> None:
        if not self.path.strip():
            raise InputError("path is missing; name a data set, such as org/name")
        if self.shuffle_block < 1:
            raise InputError(f"shuffle_block must be 1 or more, not {self.shuffle_block}")


@dataclass(frozen=True)
class SyntheticSpec:
    """Clips of the synthetic world."""

    seed: int = option(0, "Seed of the world.")
    split: str = option("train", "Worlds of different splits share no clip.")
    size: int | None = option(None, "Height and width in pixels (default: the encoder's).")
    objects: Literal["seen", "held_out", "zero_shot", "all"] = option("all", "Which objects are drawn.")
    captions: Quality | None = option(None, "Captions that are always right, or as on the web (default: the quality).")
    motions: tuple[str, ...] = option((), "Which motions are shown (default: all).")
    reversals: bool = option(False, "Every second clip is the one before it, played backwards.")
    motion_share: float | None = option(
        None, "Share of the right captions that name the motion (default: 0.6); 0: no caption does."
    )
    spread: float = option(1.0, "Part of the picture in which objects are found halfway through a clip.")
    distractors: int = option(2, "At most so many small things move about.")
    neighbours: float = option(0.9, "Share of clips with a second, unnamed object.")
    background_contrast: float = option(0.5, "0: one flat colour; 1: strong clouds.")
    length: int = option(100_000, "Clips of an epoch.")

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise InputError(f"seed must be 0 or more, not {self.seed}")
        if self.length < 1:
            raise InputError(f"length must be 1 or more, not {self.length}")
        if self.size is not None and self.size < 8:
            raise InputError(f"size must be 8 pixels or more, not {self.size}")
        for motion in self.motions:
            check_motion(motion)
        for name in ("motion_share", "spread", "neighbours", "background_contrast"):
            if (value := getattr(self, name)) is not None and not 0 <= value <= 1:
                raise InputError(f"{name} must be between 0 and 1, not {value:g}")
        if self.distractors < 0:
            raise InputError(f"distractors must be 0 or more, not {self.distractors}")


@dataclass(frozen=True)
class Tier:
    """One source of clips; exactly one of `table`, `shards`, `hub` and `synthetic` is set.

    Raises:
        InputError: a field is out of range, or there is no source, or more than one.
    """

    name: str = option("", "Name of the tier.")
    quality: Quality = option("noisy", "Whether its captions can be trusted.")
    weight: float = option(1.0, "Share of the mini-batches, relative to the other tiers.")
    together: int = option(1, "So many clips in a row always come together; in the synthetic world, of one object.")
    caption_source: str = option("", "Where its captions come from (default: manual or web, by the quality).")
    media: Media = option("video", "Videos, or images as clips of one frame.")
    table: Path | None = option(None, "CSV, TSV, JSONL or Parquet file of video,start,end,caption.")
    shards: tuple[str, ...] = option((), "Tar files (patterns) of samples sharing a base name.")
    hub: HubSpec | None = option(None, "Data set streamed through `datasets`.")
    synthetic: SyntheticSpec | None = option(None, "Clips of the synthetic world.")
    columns: Mapping[str, str] = field(default_factory=dict)  # role -> column or JSON key: {video: file_name}
    labels: tuple[str, ...] = option(("label",), "Columns kept as labels of a clip, where they are present.")

    def __post_init__(self) -> None:
        check_name(self.name, "tier name")
        if self.weight <= 0:
            raise InputError(f"weight must be above 0, not {self.weight:g}; remove the tier if it is not to be seen")
        if self.together < 1:
            raise InputError(f"together must be 1 or more, not {self.together}")
        if self.together > 1 and self.hub:
            raise InputError("together means nothing for a Hub stream, whose clips come in its own order; leave it out")
        given = [source for source in _SOURCES if getattr(self, source)]
        if len(given) != 1:
            raise InputError(f"needs one source of {', '.join(_SOURCES)}; it has {' and '.join(given) or 'none'}")
        for role in self.columns:
            if role not in (*ROLES, "image"):
                raise InputError(f"columns: unknown role {role!r}{nearest(role, ROLES)}")
        if not self.caption_source:
            object.__setattr__(self, "caption_source", "manual" if self.quality == "clean" else "web")

    @property
    def source(self) -> str:
        """Which source it has: `table`, `shards`, `hub` or `synthetic`."""
        return next(source for source in _SOURCES if getattr(self, source))

    def shard_files(self) -> tuple[Path, ...]:
        """The tar files that the patterns match, sorted, each once."""
        return tuple(Path(file) for file in sorted({file for pattern in self.shards for file in _matching(pattern)}))

    def to_dict(self, folder: Path) -> dict[str, Any]:
        """The fields that differ from the defaults, ready for YAML, with paths below `folder` relative to it."""
        values: dict[str, Any] = {"name": self.name, "quality": self.quality, "weight": self.weight}
        values |= {name: value for name, value in _changed(self).items() if name not in values}
        if self.columns:
            values["columns"] = dict(self.columns)
        for name in ("hub", "synthetic"):
            if spec := getattr(self, name):
                values[name] = _changed(spec)
        if self.table:
            values["table"] = _shown(str(self.table), folder)
        if self.shards:
            values["shards"] = [_shown(pattern, folder) for pattern in self.shards]
        if self.hub and self.hub.data_files:
            values["hub"]["data_files"] = [_shown(file, folder) for file in self.hub.data_files]
        return values


@dataclass(frozen=True)
class Manifest:
    """The tiers of a corpus, their paths absolute.

    Raises:
        InputError: no tier, or two of one name.
    """

    tiers: tuple[Tier, ...]

    def __post_init__(self) -> None:
        if not self.tiers:
            raise InputError("a corpus needs at least one tier")
        names = [tier.name for tier in self.tiers]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise InputError(f"two tiers are called {repeated[0]!r}; rename one")

    @classmethod
    def load(cls, path: str | Path) -> Manifest:
        """Read a YAML manifest.

        Raises:
            InputError: the file or a file it names is missing, an unknown key, a value of the wrong type or range.
        """
        path = Path(os.path.normpath(expanded(path).absolute()))
        content = _read_yaml(path)
        for key in content:
            if key != "tiers":
                raise InputError(f"{path}: unknown key {key!r}{nearest(str(key), ['tiers'])}")
        listed = content.get("tiers")
        if not isinstance(listed, list) or not listed:
            raise InputError(f"{path}: needs a list `tiers:` of at least one tier")
        tiers = tuple(_read_tier(values, number, path) for number, values in enumerate(listed, start=1))
        try:
            return cls(tiers)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error

    def save(self, path: str | Path) -> Path:
        """Write the manifest as YAML, atomically; `load` reads an equal one back."""
        import yaml

        path = Path(os.path.normpath(expanded(path).absolute()))
        tiers = [tier.to_dict(path.parent) for tier in self.tiers]
        return write_text(path, yaml.safe_dump({"tiers": tiers}, sort_keys=False, allow_unicode=True))


def _read_yaml(path: Path) -> dict[Any, Any]:
    try:
        content = read_yaml(path)
    except InputError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            raise InputError(f"{path}: no such manifest") from error
        raise
    if not isinstance(content, dict):
        raise InputError(f"{path}: not a manifest; it needs a list `tiers:`")
    return content


def _read_tier(given: Any, number: int, path: Path) -> Tier:
    if not isinstance(given, dict):
        raise InputError(f"{path}: tier {number} must be a mapping such as {{name: web, table: clips.csv}}")
    name = given.get("name")
    where = f"{path}: tier {name!r}" if name is not None else f"{path}: tier {number}"
    for key in ("name", "quality"):
        if key not in given:
            raise InputError(f"{where}: {key} is missing")
    values = dict(given)
    if isinstance(values.get("shards"), str):
        values["shards"] = [values["shards"]]
    specs: dict[str, type[HubSpec] | type[SyntheticSpec]] = {"hub": HubSpec, "synthetic": SyntheticSpec}
    for key, spec in specs.items():
        if key in values:
            if not isinstance(values[key], Mapping):
                raise InputError(f"{where}: {key} must be a mapping, not {values[key]!r}")
            values[key] = config_from_dict(spec, values[key], f"{where}: {key}")
    return _placed(config_from_dict(Tier, values, where), path.parent, where)


def _placed(tier: Tier, folder: Path, where: str) -> Tier:
    """The tier with absolute paths, all of which exist."""
    if tier.table:
        table = Path(os.path.normpath(folder / expanded(tier.table)))
        if not is_file(table):
            raise InputError(f"{where}: table {table}: no such file")
        return replace(tier, table=table)
    if tier.shards:
        placed = replace(tier, shards=tuple(os.path.normpath(folder / expanded(name)) for name in tier.shards))
        for pattern in placed.shards:
            if not _matching(pattern):
                raise InputError(f"{where}: shards {pattern}: no such file")
        return placed
    if tier.hub:
        return replace(tier, hub=_placed_hub(tier.hub, folder, where))
    return tier


def _placed_hub(hub: HubSpec, folder: Path, where: str) -> HubSpec:
    """The spec with absolute paths where it names local files."""
    if is_folder(folder / hub.path):
        return replace(hub, path=str(folder / hub.path))
    if "/" in hub.path:
        return hub
    files = tuple(name if "://" in name else os.path.normpath(folder / name) for name in hub.data_files)
    for pattern in files:
        if "://" not in pattern and not _matching(pattern):
            raise InputError(f"{where}: hub: data_files {pattern}: no such file")
    return replace(hub, data_files=files)


def _matching(pattern: str) -> list[str]:
    """The files of a pattern; a file that is there under just this name is meant itself."""
    if is_file(pattern):
        return [pattern]
    return glob.glob(pattern, recursive=True)  # noqa: PTH207 (the pattern is absolute)


def _changed(spec: Tier | HubSpec | SyntheticSpec) -> dict[str, Any]:
    """The fields that differ from their defaults."""
    defaults = {field.name: field.default for field in fields(spec) if field.default is not MISSING}
    values = config_to_dict(spec)
    return {name: values[name] for name, default in defaults.items() if getattr(spec, name) != default}


def _shown(path: str, folder: Path) -> str:
    return str(Path(path).relative_to(folder)) if Path(path).is_relative_to(folder) else path
