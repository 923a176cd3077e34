"""Compare speeds on a machine that is never quite quiet: runs take turns, and ratios are medians over the turns."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from core_encoder.files.storage import write_json


def arguments(description: str, rounds: int) -> argparse.ArgumentParser:
    """The options every speed script has: `--threads`, `--rounds`, `--json`."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--rounds", type=int, default=rounds, help="how often every candidate is timed")
    parser.add_argument("--json", type=Path, help="also write the result to this file")
    return parser


@dataclass(frozen=True)
class Timings:
    """Seconds of every candidate in every round; round i of all candidates ran back to back."""

    seconds: Mapping[str, tuple[float, ...]]

    def median_s(self, name: str) -> float:
        return statistics.median(self.seconds[name])

    def ratio(self, slower: str, faster: str) -> float:
        """How many times longer `slower` took: the median of the ratios within each round."""
        pairs = zip(self.seconds[slower], self.seconds[faster], strict=True)
        return statistics.median(slow / fast for slow, fast in pairs)


def take_turns(candidates: Mapping[str, Callable[[], object]], rounds: int, warm_up: bool = True) -> Timings:
    """Time every candidate once per round, in alternating order, so that a slow minute hits them all alike."""
    if rounds < 1:
        raise ValueError(f"at least one round, not {rounds}")
    if warm_up:
        for run in candidates.values():
            run()
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for number in range(rounds):
        for name in list(candidates)[:: -1 if number % 2 else 1]:
            start = time.perf_counter()
            candidates[name]()
            seconds[name].append(time.perf_counter() - start)
    return Timings({name: tuple(values) for name, values in seconds.items()})


@dataclass
class Report:
    """One comparison: timings, ratios and differences, each with the bound it must keep."""

    title: str
    timings: Timings
    settings: dict[str, Any]
    rows: list[dict[str, Any]] = field(default_factory=list)

    def at_least(self, what: str, value: float, bound: float) -> None:
        self.rows.append({"what": what, "value": value, "must_be": f">= {bound:g}", "ok": value >= bound})

    def at_most(self, what: str, value: float, bound: float) -> None:
        self.rows.append({"what": what, "value": value, "must_be": f"<= {bound:g}", "ok": value <= bound})

    def note(self, what: str, value: float) -> None:
        self.rows.append({"what": what, "value": value, "must_be": "", "ok": True})

    def as_dict(self) -> dict[str, Any]:
        times = {
            name: {"median_s": statistics.median(values), "min_s": min(values), "all_s": [round(s, 5) for s in values]}
            for name, values in self.timings.seconds.items()
        }
        return {
            "benchmark": self.title,
            "settings": self.settings,
            "machine": _machine(),
            "times": times,
            "results": self.rows,
        }

    def publish(self, path: Path | None) -> None:
        """Print the table and the JSON, and write the JSON to `path` when one is given."""
        width = max(len(text) for text in [*self.timings.seconds, *(row["what"] for row in self.rows)])
        print(f"{self.title}  ({', '.join(f'{key} {value}' for key, value in self.settings.items())})\n")
        print(f"{'':{width}}  {'median s':>9}  {'min s':>9}")
        for name, values in self.timings.seconds.items():
            print(f"{name:{width}}  {statistics.median(values):9.4f}  {min(values):9.4f}")
        print(f"\n{'':{width}}  {'value':>9}  must be")
        for row in self.rows:
            verdict = "" if not row["must_be"] else f"{row['must_be']:8}  {'met' if row['ok'] else 'MISSED'}"
            print(f"{row['what']:{width}}  {row['value']:9.4g}  {verdict}".rstrip())
        print("\n" + json.dumps(self.as_dict(), indent=1))
        if path is not None:
            write_json(path, self.as_dict())


def _machine() -> dict[str, Any]:
    info = Path("/proc/cpuinfo")
    models = [line for line in info.read_text().splitlines() if line.startswith("model name")] if info.exists() else []
    return {
        "cpu": models[0].partition(":")[2].strip() if models else platform.processor(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load_average": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
