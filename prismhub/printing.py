"""Results on stdout: tables for people, JSON for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

from core_encoder.errors import one_line

WIDTH = 200  # of a table that goes into a file or another program


def print_results(results: Sequence[Any]) -> None:
    from benchmarks.results import table_rows

    header, rows = table_rows(results)
    print_table(header, rows)


def answer_records(done: Any, top: int | None, all_scores: bool) -> list[dict[str, Any]]:
    """The answers as JSON has them, and after them the videos that could not be read."""
    rows: list[dict[str, Any]] = []
    for prediction in done.predictions:
        record = prediction.describe(top, all_scores)
        rows.append({"video": record.pop("id")} | record | done.about)
    return rows + [{"video": failure.path, "error": failure.reason} for failure in done.failures]


def print_failures(failures: Sequence[Any]) -> None:
    for failure in failures:
        print(f"{one_line(failure.path)}: not read: {failure.reason}", file=sys.stderr)


def print_predictions(predictions: Sequence[Any], top: int | None, all_scores: bool) -> None:
    columns = max((prediction.columns for prediction in predictions), key=len, default=("answer",))
    table: list[list[str]] = []
    for prediction in predictions:
        before = [""] * (len(columns) - len(prediction.columns))  # start and end: this one is of the whole video
        nothing = ("-",) * len(prediction.columns)  # the video was looked at
        for place, row in enumerate(prediction.rows(top, all_scores) or [nothing]):
            table.append(["" if place else prediction.sample_id, *before, *row])
    print_table(["video", *columns], table)


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table; a single row that is too wide for the terminal stands upright, a line a column."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    def drawn(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
        table = Table(box=SIMPLE_HEAD, pad_edge=False, show_header=any(header))
        for name in header:
            table.add_column(name, overflow="fold")
        for row in rows:
            table.add_row(*map(Text, row))  # as it is: no [markup] and no :emoji: in the names of classes and files
        return table

    table = drawn(header, rows)
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    wanted = console.measure(table, options=console.options.update(width=100 * WIDTH)).maximum
    if len(rows) == 1 and wanted > console.width:
        table = drawn(["", ""], list(zip(header, rows[0], strict=True)))
    with console.capture() as shown:  # rich would end the program when the reader of its output goes away
        console.print(table)
    print(shown.get(), end="")


def print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))


def cell_text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and value >= 1_000_000:
        return f"{value / 1e6:.1f} M"
    if isinstance(value, list | tuple):
        return ", ".join(str(one) for one in value) or "-"
    return "-" if value is None else str(value)


def number_text(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def spread_text(values: Sequence[float | None]) -> str:
    import statistics

    known = [value for value in values if value is not None]
    return f"mean {statistics.mean(known):.4f}, standard deviation {statistics.stdev(known):.4f}"
