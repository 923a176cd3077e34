"""`prismhub tasks list|show|check`."""

from __future__ import annotations

import fnmatch
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from core_encoder.config import option
from core_encoder.errors import InputError, one_line
from prismhub.options import command_signature
from prismhub.printing import print_json, print_table

if TYPE_CHECKING:
    from tasks.data_check import DataCheck, SplitCheck

WRONG_INPUT, FAILED_ITEMS = 2, 3
_SHOWN = 5  # missing videos that are named, of each split

app = typer.Typer(help="Benchmarks: what is known, and whether its data is there.", no_args_is_help=True)


@dataclass(frozen=True)
class TaskListSettings:
    """Options of `prismhub tasks list`."""

    pattern: str = option("all", "Names of benchmarks or suites to list; * and ? match.", positional=True)
    json: bool = option(False, "The result as JSON on stdout.")


@dataclass(frozen=True)
class TaskShowSettings:
    """Options of `prismhub tasks show`."""

    name: str = option(help="A benchmark, or the YAML file of one.", positional=True)
    json: bool = option(False, "The result as JSON on stdout.")


@dataclass(frozen=True, kw_only=True)
class TaskCheckSettings:
    """Options of `prismhub tasks check`."""

    name: str = option(help="A benchmark, or the YAML file of one.", positional=True)
    root: Path | None = option(None, "Folder of all data sets: that of the benchmark is looked for in it by name.")
    folder: Path | None = option(None, "Folder of this data set, instead of --root.")
    open: int = option(200, "Open so many videos of each split at most, to see whether they can be read.")
    quiet: bool = option(False, "No progress on stderr.")
    json: bool = option(False, "The result as JSON on stdout.")

    def __post_init__(self) -> None:
        if self.open < 0:
            raise InputError(f"open must be 0 or more, not {self.open}")
        if self.root is not None and self.folder is not None:
            raise InputError("give root or folder, not both")


def tasks_list(settings: TaskListSettings) -> None:
    """List the benchmarks.

    Example: prismhub tasks list videoglue
    """
    from tasks.registry import benchmark_names, find_benchmark

    rows: list[dict[str, Any]] = []
    for name in benchmark_names():
        try:
            about = find_benchmark(name).describe()
        except InputError as error:  # a broken plug-in must not hide the others
            about = {"name": name, "suite": "-", "family": "-", "metric": "-", "protocol": str(error), "folder": "-"}
        names = (about["name"], about["suite"], "all")
        if any(fnmatch.fnmatchcase(known, settings.pattern) for known in names):
            rows.append(about)
    rows.sort(key=lambda row: row["suite"])
    if not rows:
        raise InputError(f"no benchmark or suite matches {settings.pattern!r}; `prismhub tasks list` shows all")
    if settings.json:
        print_json(rows)
        return
    header = ["benchmark", "suite", "family", "metric", "protocol", "folder"]
    print_table(header, [[row[name.replace("benchmark", "name")] for name in header] for row in rows])


def tasks_show(settings: TaskShowSettings) -> None:
    """Show what is declared of a benchmark: files, splits, protocol, licence, what is unverified, published scores.

    Example: prismhub tasks show kinetics400
    """
    from tasks.registry import find_benchmark

    about = find_benchmark(settings.name).describe()
    if settings.json:
        print_json(about)
        return
    published = about.pop("published")
    rows = []
    for name, value in about.items():
        several = (
            value
            if isinstance(value, list)
            else [f"{k}: {v}" for k, v in value.items()]
            if isinstance(value, dict)
            else [value]
        )
        rows += [["" if place else name, str(one)] for place, one in enumerate(several)]
    print_table(["", ""], rows)
    print_table(
        ["published", "metric", "%"],
        [[model, metric, f"{value:g}"] for metric, by in published.items() for model, value in by.items()],
    )


def tasks_check(settings: TaskCheckSettings) -> None:
    """Check the data of a benchmark before anything is computed: annotations, counts, missing and unreadable videos.

    Example: prismhub tasks check kinetics400 --root data/
    """
    from prismhub.progress import Show
    from tasks.data_check import check_data
    from tasks.registry import find_benchmark

    benchmark = find_benchmark(settings.name)
    folder = settings.folder
    if folder is None:
        if settings.root is None:
            raise InputError("give root, the folder of all data sets, or folder, that of this one")
        folder = benchmark.folder_in(settings.root)
    with Show(settings.quiet or settings.json).bar("opening videos") as bar:
        found = check_data(benchmark, folder, settings.open, bar.update)
    if settings.json:
        print_json(found.describe())
    else:
        _print_check(found, benchmark.videos)
    if found.errors:
        raise typer.Exit(WRONG_INPUT)
    if found.lacks_videos:
        raise typer.Exit(FAILED_ITEMS)


def _print_check(found: DataCheck, source: str) -> None:
    print(f"{found.benchmark} in {found.folder}: protocol {found.protocol}, {found.classes} classes")
    header = ["split", "official", "samples", "declared", "videos", "missing", "opened", "unreadable"]
    print_table(header, [_row(one) for one in found.splits])
    for error in found.errors:
        print(f"prismhub: {error}", file=sys.stderr)
    for one in found.splits:
        for path in one.missing[:_SHOWN]:
            print(f"{one.split}: missing: {one_line(path)}", file=sys.stderr)
        if len(one.missing) > _SHOWN:
            print(f"{one.split}: missing: {len(one.missing) - _SHOWN} more (--json names all)", file=sys.stderr)
        for path, reason in one.unreadable:
            print(f"{one.split}: not read: {one_line(path)}: {reason}", file=sys.stderr)
    if any(one.missing for one in found.splits) and source:
        print(f"looked for by name anywhere below {found.folder}; they are: {source}", file=sys.stderr)


def _row(one: SplitCheck) -> list[str]:
    declared = "-" if one.declared is None else str(one.declared)
    if one.error or one.absent:
        return [one.split, one.official, "wrong" if one.error else "not there", declared, *"----"]
    counts = (one.videos, len(one.missing), one.opened, len(one.unreadable))
    return [one.split, one.official, str(one.samples), declared, *map(str, counts)]


app.command("list")(command_signature(TaskListSettings, tasks_list))
app.command("show")(command_signature(TaskShowSettings, tasks_show))
app.command("check")(command_signature(TaskCheckSettings, tasks_check))
