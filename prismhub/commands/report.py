"""`prismhub report`: what a folder of results says, as table, Markdown, CSV and page, and against another folder."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core_encoder.config import group, option
from core_encoder.errors import InputError
from core_encoder.files.storage import write_text
from prismhub.printing import print_json, print_table
from prismhub.progress import SILENT, Show
from prismhub.provenance import run_command
from prismhub.settings import OutputSettings

if TYPE_CHECKING:
    from benchmarks.report.comparison import Compared
    from benchmarks.report.matrix_report import MatrixReport


@dataclass(frozen=True, kw_only=True)
class ReportSettings:
    """Options of `prismhub report`."""

    results: Path = option(help="Folder of results of `prismhub bench`.", positional=True)
    against: Path | None = option(None, "Another such folder: compare cell by cell, with paired intervals.")
    html: Path | None = option(None, "Write one page that needs nothing else.")
    markdown: Path | None = option(None, "Write the tables as Markdown.")
    csv: Path | None = option(None, "Write a CSV with a row a cell.")
    show: OutputSettings = group()

    def __post_init__(self) -> None:
        named = [path for path in (self.html, self.markdown, self.csv) if path is not None]
        for path in named:
            if path.is_dir():
                raise InputError(f"{path}: is a folder; name a file")
            if named.count(path) > 1:
                raise InputError(f"{path}: is named for two formats; give each a file of its own")


@dataclass(frozen=True)
class Reported:
    """What the results say, and the files that were written."""

    report: MatrixReport
    files: tuple[Path, ...] = ()

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Column titles and rows of text."""
        from benchmarks.report.tables import matrix_table

        return matrix_table(self.report)

    def markdown(self) -> str:
        """All of it as Markdown."""
        from benchmarks.report.tables import markdown

        return markdown(self.report)

    def csv(self) -> str:
        """A row a cell."""
        from benchmarks.report.tables import csv_text

        return csv_text(self.report)

    def describe(self) -> dict[str, Any]:
        """All of it, ready for JSON."""
        comparison = self.report.comparison
        found = {
            "cells": [{"file": str(cell.path), **asdict(cell.result)} for cell in self.report.cells],
            "averages": [asdict(one) for one in self.report.averages],
            "videoglue": [asdict(one) for one in self.report.videoglue],
            "cited": {row.name: {"metric": row.metric, **asdict(row.cited)} for row in self.report.rows},
        }
        if comparison is not None:
            found["comparison"] = {
                "old": str(comparison.old),
                "pairs": [_described(one) for one in comparison.pairs],
                "only_new": [str(cell.path) for cell in comparison.only_new],
                "only_old": [str(cell.path) for cell in comparison.only_old],
            }
        return found


def _described(one: Compared) -> dict[str, Any]:
    numbers = ("new_score", "old_score", "change")
    scores = {name: None if (score := getattr(one, name)) is None else asdict(score) for name in numbers}
    plain = ("shared", "only_new", "only_old", "drawn", "reason")
    cells = {"new": str(one.new.path), "old": str(one.old.path)}
    return cells | scores | {name: getattr(one, name) for name in plain}


def report(settings: ReportSettings, show: Show = SILENT) -> Reported:
    """Read results, compare them where another folder is given, and write the files that are asked for.

    Raises:
        InputError: a folder holds no results, a file of it is damaged, or the disk is full.
    """
    from benchmarks.report.matrix_report import read_report

    found = read_report(settings.results)
    if settings.against is not None:
        from benchmarks.report.comparison import compare_folders

        found = replace(found, comparison=compare_folders(found.cells, settings.against, show))
    done = Reported(found)
    texts = {}
    if settings.markdown is not None:
        texts[settings.markdown] = done.markdown()
    if settings.csv is not None:
        texts[settings.csv] = done.csv()
    if settings.html is not None:
        from prismhub.pages.matrix_page import matrix_page

        texts[settings.html] = matrix_page(found, show, run_command())
    for path, text in texts.items():
        write_text(path, text)
    return replace(done, files=tuple(texts))


def print_report(settings: ReportSettings) -> None:
    """Show results beside the published numbers, as a table, Markdown, CSV or one HTML page; compare two folders.

    Example: prismhub report results/ --html report.html
    """
    done = report(settings, Show(settings.show.quiet))
    if settings.show.json:
        print_json(done.describe())
        return
    from benchmarks.report.tables import COMPARISON_HEADER, comparison_notes, comparison_table, notes, reasons

    print_table(*done.table())
    lines = [*notes(done.report), *reasons(done.report)]
    print("\n".join(lines))
    if done.report.comparison is not None:
        print(f"\nagainst {done.report.comparison.old}:")
        if rows := comparison_table(done.report):
            print_table(COMPARISON_HEADER, rows)
        print("\n".join(comparison_notes(done.report)))
    for path in done.files:
        print(f"written to {path}")
