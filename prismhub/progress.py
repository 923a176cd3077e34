"""Progress bars on stderr, with rate and time left; none where stderr is no terminal or the user asked for quiet."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class Bar(Protocol):
    """What a job tells its bar."""

    def update(self, done: int, total: int, note: str = "") -> None: ...


class _NoBar:
    def update(self, done: int, total: int, note: str = "") -> None:
        pass


class _RichBar:
    def __init__(self, progress: Progress, what: str) -> None:
        self._progress = progress
        self._task = progress.add_task(what, total=None, note="")

    def update(self, done: int, total: int, note: str = "") -> None:
        self._progress.update(self._task, completed=done, total=total, note=note)


@contextmanager
def bar(what: str, quiet: bool = False) -> Iterator[Bar]:
    """Show one bar named `what` while the block runs."""
    if quiet or not sys.stderr.isatty():
        yield _NoBar()
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeRemainingColumn(compact=True),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        yield _RichBar(progress, what)
