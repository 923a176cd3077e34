"""What of a benchmark's data is there: annotations read, samples counted, videos looked for and opened. No torch."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from core_encoder.errors import InputError, UnreadableVideo
from tasks.benchmark import Benchmark
from tasks.readers.dataset_folder import MissingData
from tasks.splits import SPLIT_NAMES

Opened = Callable[[int, int], None]
"""Told how many videos were opened, and how many are to be."""


@dataclass(frozen=True)
class SplitCheck:
    """What was found of one split.

    `error` says what is wrong with its annotations; then nothing else is known. `absent` says the same of a split that
    nothing is trained or judged on unless it is asked for, and of which no annotations are there. `missing` are the
    paths at which videos would lie, `unreadable` are paths with reasons, of the `opened` ones.
    """

    split: str
    official: str
    declared: int | None = None
    samples: int = 0
    videos: int = 0
    missing: tuple[str, ...] = ()
    opened: int = 0
    unreadable: tuple[tuple[str, str], ...] = ()
    error: str = ""
    absent: str = ""


@dataclass(frozen=True)
class DataCheck:
    """What was found of all splits of a benchmark."""

    benchmark: str
    protocol: str
    folder: str
    classes: int
    splits: tuple[SplitCheck, ...]

    @property
    def errors(self) -> list[str]:
        """What is wrong with annotations, one line each; several splits may be of one file."""
        return list(dict.fromkeys(one.error for one in self.splits if one.error))

    @property
    def lacks_videos(self) -> bool:
        """Whether a video is missing or cannot be read."""
        return any(one.missing or one.unreadable for one in self.splits)

    def describe(self) -> dict[str, Any]:
        """All of it, ready for JSON."""
        return asdict(self)


def check_data(
    benchmark: Benchmark, folder: Path, most_opened: int = 200, opened: Opened = lambda done, total: None
) -> DataCheck:
    """Read the annotations of every split, look for every video, and open some.

    Args:
        benchmark: whose data.
        folder: of its data set.
        most_opened: so many videos of a split are opened at most, evenly spread over it; none is decoded whole.
        opened: told after each.

    Raises:
        InputError: there is no such folder, or the class names cannot be read; what is wrong with a split is recorded.
    """
    task = benchmark.open(folder)
    splits = []
    for ours, theirs in benchmark.splits.items():
        about = SplitCheck(ours, theirs, benchmark.sizes.get(ours))
        try:
            samples = task.samples(ours)
        except InputError as error:
            further = isinstance(error, MissingData) and ours not in SPLIT_NAMES.values()
            splits.append(replace(about, absent=str(error)) if further else replace(about, error=str(error)))
            continue
        paths = list(dict.fromkeys(sample.clip.path for sample in samples))
        there = {path: os.path.isfile(path) for path in paths}  # noqa: PTH113 (Path raises on names too long)
        tried = _spread([path for path in paths if there[path]], most_opened)
        found: dict[str, Any] = {
            "samples": len(samples),
            "videos": len(paths),
            "missing": tuple(path for path in paths if not there[path]),
            "opened": len(tried),
            "unreadable": _unreadable(tried, opened),
        }
        splits.append(replace(about, **found))
    return DataCheck(benchmark.name, benchmark.protocol, str(folder), len(task.label_names), tuple(splits))


def _spread(paths: Sequence[str], most: int) -> list[str]:
    """At most so many of the paths, evenly spread, the first among them."""
    if len(paths) <= most:
        return list(paths)
    return [paths[place * len(paths) // most] for place in range(most)]


def _unreadable(paths: Sequence[str], opened: Opened) -> tuple[tuple[str, str], ...]:
    from core_encoder.video.decoders import read_facts

    bad = []
    for done, path in enumerate(paths, start=1):
        try:
            read_facts(path)
        except UnreadableVideo as error:
            bad.append((path, error.reason))
        opened(done, len(paths))
    return tuple(bad)
