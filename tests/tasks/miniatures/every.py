"""A miniature of the data set of each benchmark, by its folder below the root of all data sets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from tasks.benchmark import Benchmark
from tests.tasks.miniatures import (
    activitynet,
    ava,
    calms21,
    charades,
    chimpact,
    crim13,
    diving48,
    fly_vs_fly,
    kabr,
    kinetics,
    moments_in_time,
    something_something,
)

WRITERS: Mapping[str, Callable[[Path], Path]] = {
    "kinetics400": kinetics.write,
    "moments-in-time": moments_in_time.write,
    "ssv2": something_something.write,
    "diving48": diving48.write,
    "charades": charades.write,
    "activitynet": activitynet.write,
    "ava": ava.write,
    "ava-kinetics": ava.write_with_kinetics,
    "fly-vs-fly": fly_vs_fly.write,
    "calms21": calms21.write,
    "crim13": crim13.write,
    "kabr": kabr.write,
    "chimpact": chimpact.write,
}


def write_data_of(benchmark: Benchmark, root: Path) -> Path:
    """Write the data set of a benchmark below `root`, unless it is there; returns its folder."""
    folder = root / (benchmark.folder or benchmark.name)
    if not folder.exists():
        folder.mkdir(parents=True)
        WRITERS[folder.name](folder)
    return folder
