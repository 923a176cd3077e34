"""Small matrices for tests: miniatures of public data sets, and the command that runs benchmarks over them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.rescoring import result_files
from benchmarks.results import Result
from tasks.registry import find_benchmark
from tests.tasks.miniatures.every import write_data_of


def write_root(root: Path, names: Sequence[str]) -> Path:
    """The data sets of some benchmarks below one folder."""
    for name in names:
        write_data_of(find_benchmark(name), root)
    return root


def bench_words(root: Path, output: Path, names: Sequence[str], *more: str) -> list[str]:
    """The words of a command that runs benchmarks with `nano`, fast."""
    chosen = [word for name in names for word in ("--task", name)]
    about = ["--encoder", "nano", "--data-root", str(root), "--output", str(output)]
    return ["bench", *chosen, *about, "--epochs", "1", "--accelerator", "cpu", *more]


def results_in(output: Path) -> dict[str, Result]:
    """The results below a folder by benchmark; there must be one of each."""
    found = {}
    for path in result_files(output):
        result = Result.read(path)
        assert result.task not in found
        found[result.task] = result
    return found
