"""The benchmarks that prismhub knows: declarations, imported by suite when one of them is asked for."""

from __future__ import annotations

import importlib
from collections.abc import Mapping

from tasks.benchmark import Benchmark

SUITES: Mapping[str, tuple[str, ...]] = {
    "videoglue": (
        *("kinetics400", "moments-in-time", "ssv2", "diving48", "charades"),
        *("activitynet", "ava", "ava-kinetics"),
    ),
    "retrieval": ("msrvtt-t2v", "msrvtt-v2t", "vatex-t2v", "vatex-v2t", "activitynet-t2v", "activitynet-v2t"),
    "zeroshot": (
        *("kinetics400-zs", "kinetics600-zs", "ssv2-temporal", "ssv2-events"),
        *("nextqa-atp-hard", "charades-zs", "charades-sta-mc"),
    ),
    "captioning": ("msrvtt-cap", "vatex-cap", "youcook2-cap"),
    "qa": ("msrvtt-qa", "msvd-qa", "nextqa-oe"),
    "science": ("fly-vs-fly", "calms21", "crim13-side", "crim13-top", "kabr", "chimpact"),
}
"""The names of each suite's benchmarks; its module bears its name."""


def catalog_names() -> list[str]:
    """The names of all benchmarks of the catalog; nothing is imported for it."""
    return [name for names in SUITES.values() for name in names]


def from_catalog(name: str) -> Benchmark | None:
    """The benchmark of a name, None where the catalog has none."""
    for suite, names in SUITES.items():
        if name in names:
            known: tuple[Benchmark, ...] = importlib.import_module(f"{__name__}.{suite}").BENCHMARKS
            return next(one for one in known if one.name == name)
    return None
