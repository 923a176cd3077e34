"""A miniature of the data set of each benchmark, by its folder below the root of all data sets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from tasks.benchmark import Benchmark
from tests.tasks.miniatures import (
    activitynet,
    activitynet_captions,
    ava,
    calms21,
    charades_sta,
    chimpact,
    crim13,
    diving48,
    fly_vs_fly,
    kabr,
    kinetics,
    moments_in_time,
    msr_vtt,
    next_qa,
    something_something,
    vatex,
    video_qa,
    videocon,
    youcook2,
)

KINETICS600 = ("abseiling", "arguing", "sleeping", "yarn spinning")  # three are not in Kinetics-400


def _write_ssv2(folder: Path) -> Path:
    return videocon.write(something_something.write(folder))


def _write_activitynet(folder: Path) -> Path:
    return activitynet_captions.write(activitynet.write(folder))


def _write_kinetics600(folder: Path) -> Path:
    return kinetics.write(folder, KINETICS600, train=0, val=1, test=1)


WRITERS: Mapping[str, Callable[[Path], Path]] = {
    "kinetics400": kinetics.write,
    "kinetics600": _write_kinetics600,
    "moments-in-time": moments_in_time.write,
    "ssv2": _write_ssv2,
    "diving48": diving48.write,
    "charades": charades_sta.write,
    "activitynet": _write_activitynet,
    "ava": ava.write,
    "ava-kinetics": ava.write_with_kinetics,
    "msrvtt": video_qa.write_msrvtt_qa,
    "msvd": video_qa.write_msvd_qa,
    "nextqa": next_qa.write,
    "vatex": vatex.write,
    "youcook2": youcook2.write,
    "fly-vs-fly": fly_vs_fly.write,
    "calms21": calms21.write,
    "crim13": crim13.write,
    "kabr": kabr.write,
    "chimpact": chimpact.write,
}


VARIANTS: Mapping[str, tuple[tuple[str, ...], Callable[[Path], object]]] = {
    "Frozen in Time": (("msrvtt-t2v", "msrvtt-cap"), msr_vtt.as_frozen_in_time),
    "UMT": (("msrvtt-t2v",), msr_vtt.as_umt),
    "two files": (("msrvtt-cap",), msr_vtt.as_two_files),
}
"""Other official files of the same data: of which benchmarks, and what makes them of a miniature."""


def write_data_of(benchmark: Benchmark, root: Path, variant: str = "") -> Path:
    """Write the data set of a benchmark below `root`, unless it is there; returns its folder."""
    folder = root / variant / (benchmark.folder or benchmark.name)
    if not folder.exists():
        folder.mkdir(parents=True)
        WRITERS[folder.name](folder)
        if variant:
            VARIANTS[variant][1](folder)
    return folder
