"""A folder of results: its cells, and the columns of a table that they make.

Whoever ran the matrix knew its columns; a folder holds only cells, of one command or of several. So they are found
again: a column is an encoder; where it answered a benchmark in several ways, an encoder with one of these ways.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.rescoring import PREDICTIONS, result_files
from benchmarks.results import Result
from core_encoder.errors import InputError

_SEED = re.compile(r"-s\d+$")


@dataclass(frozen=True)
class ReportedCell:
    """A result and the file it was read from."""

    path: Path
    result: Result

    @property
    def way(self) -> str:
        """How it was answered: the adapter with the hash of its settings; cells that differ in their seed share it."""
        return _SEED.sub("", self.path.stem)

    @property
    def seed(self) -> int | None:
        """Its seed, None where nothing was trained."""
        return int(found[0][2:]) if (found := _SEED.search(self.path.stem)) else None

    @property
    def predictions_path(self) -> Path:
        return self.path.with_suffix(PREDICTIONS)

    @property
    def name(self) -> str:
        """What is said of it."""
        seed = f", seed {self.seed}" if self.seed else ""
        return f"{self.result.task}, {self.result.encoder}, {self.result.adapter}{seed}"


@dataclass(frozen=True)
class ReportColumn:
    """A column of the table: an encoder, one way of answering, and its cells by benchmark, one a seed."""

    encoder: str
    fingerprint: str
    adapter: str  # empty where the encoder has one way alone
    cells: Mapping[str, tuple[ReportedCell, ...]]

    @property
    def title(self) -> str:
        """What stands above it."""
        return f"{self.encoder}, {self.adapter}" if self.adapter else self.encoder


def read_cells(folder: str | Path) -> list[ReportedCell]:
    """The cells below a folder of results.

    Raises:
        InputError: there is no such folder, it holds no results, or a file in it is none.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "no such folder"
        raise InputError(f"{folder}: {what}; give the folder of the results of `prismhub bench`")
    files = result_files(folder)
    if not files:
        inside = any(folder.glob("*.json")) or any(folder.glob("*/*.json"))
        above = "; results lie below it: give the folder that `prismhub bench --output` was given" if inside else ""
        raise InputError(f"{folder}: holds no results of `prismhub bench`{above}")
    cells = []
    for path in files:
        try:
            cells.append(ReportedCell(path, Result.read(path)))
        except InputError as error:
            raise InputError(f"{error}; delete the file, and `prismhub bench` runs its cell again") from error
    return cells


def columns_of(cells: Sequence[ReportedCell]) -> list[ReportColumn]:
    """The columns that cells make, encoder by encoder."""
    encoders: dict[str, list[ReportedCell]] = {}
    for cell in cells:
        encoders.setdefault(cell.result.encoder_fingerprint, []).append(cell)
    names = [own[0].result.encoder for own in encoders.values()]
    columns = []
    for (fingerprint, own), name in zip(encoders.items(), names, strict=True):
        shown = f"{name} ({fingerprint[:8]})" if names.count(name) > 1 else name
        columns += [ReportColumn(shown, fingerprint, way, by_task) for way, by_task in _ways(own).items()]
    return columns


def _ways(cells: Sequence[ReportedCell]) -> dict[str, dict[str, tuple[ReportedCell, ...]]]:
    """The cells of one encoder by way of answering, then by benchmark; what has one way alone is in all of them."""
    by_task: dict[str, dict[str, list[ReportedCell]]] = {}
    for cell in cells:
        by_task.setdefault(cell.result.task, {}).setdefault(cell.way, []).append(cell)
    labels = _labels(by_task)
    several = list(dict.fromkeys(labels[way] for ways in by_task.values() if len(ways) > 1 for way in ways))
    columns: dict[str, dict[str, tuple[ReportedCell, ...]]] = {label: {} for label in several or [""]}
    for task, ways in by_task.items():
        for way, own in ways.items():
            for label in [labels[way]] if len(ways) > 1 else columns:
                columns[label][task] = tuple(sorted(own, key=lambda cell: cell.seed or 0))
    return columns


def _labels(by_task: Mapping[str, Mapping[str, Sequence[ReportedCell]]]) -> dict[str, str]:
    """What each way is called: its adapter, with what else it takes to tell it from the others of its benchmark."""
    settings = {way: _plain_settings(own[0]) for ways in by_task.values() for way, own in ways.items()}
    adapters = {way: own[0].result.adapter for ways in by_task.values() for way, own in ways.items()}
    telling = sorted(
        {
            name
            for ways in by_task.values()
            for way in ways
            for other in ways
            if adapters[way] == adapters[other]
            for name in settings[way].keys() | settings[other].keys()
            if settings[way].get(name) != settings[other].get(name)
        }
    )
    labels = {}
    for way, own in settings.items():
        about = [f"{name}={own[name]}" for name in telling if name in own]
        labels[way] = ", ".join([adapters[way], *about])
    for ways in by_task.values():
        shown = [labels[way] for way in ways]
        for way in ways:
            if shown.count(labels[way]) > 1:
                labels[way] = way
    return labels


def _plain_settings(cell: ReportedCell) -> dict[str, str]:
    """The settings of a cell that all benchmarks may share, by name."""
    settings: Mapping[str, Any] = cell.result.config.get("cell", {})
    parts: Iterable[Mapping[str, Any]] = (settings.get("training", {}), settings.get("head", {}))
    found = {name: value for part in parts for name, value in part.items()}
    found |= {name: settings[name] for name in ("dtype", "precision", "val_fraction", "grid") if name in settings}
    found["frames"] = settings.get("plan", {}).get("num_frames")
    return {name: str(value) for name, value in found.items() if value not in (None, [{}], {})}
