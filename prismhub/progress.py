"""What a job tells the person who waits: notes and bars on stderr; stdout stays for results."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TaskID, TextColumn, TimeRemainingColumn


class Bar:
    """One bar; without a terminal it is silent."""

    def __init__(self, progress: Progress | None = None, task: TaskID = TaskID(0), in_seconds: bool = False) -> None:  # noqa: B008
        self._progress = progress
        self._task = task
        self._in_seconds = in_seconds

    def update(self, done: float, total: float | None, note: str = "") -> None:
        """`done` of `total` items, or seconds of video, with a note such as the rate; a total of None is not known."""
        if self._progress is not None:
            text = clock_text if self._in_seconds else str
            count = f"{text(done)}/{'?' if total is None else text(total)}"
            self._progress.update(self._task, completed=done, total=total, note=note, count=count)


class Show:
    """Notes and bars on stderr; `quiet` leaves both out. Bars are drawn only on a terminal."""

    def __init__(self, quiet: bool = True) -> None:
        self.quiet = quiet
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)

    def note(self, text: str) -> None:
        """One line of what is being done."""
        if not self.quiet:
            self._console.print(text, markup=False, emoji=False)

    @contextmanager
    def bar(self, what: str, in_seconds: bool = False) -> Iterator[Bar]:
        """Show one bar named `what` while the block runs; it counts items, or seconds of video."""
        if self.quiet or not sys.stderr.isatty():
            yield Bar()
            return
        columns: list[ProgressColumn] = [
            TextColumn("{task.description}"),
            BarColumn(16 if in_seconds else 40),  # the rest of a line of 80 characters is for the note
            TextColumn("{task.fields[count]}"),
            TextColumn("{task.fields[note]}"),
        ]
        if not in_seconds:  # the note says how long seconds of video take
            columns.append(TimeRemainingColumn(compact=True))
        with Progress(*columns, console=self._console) as progress:
            yield Bar(progress, progress.add_task(what, total=None, note="", count=""), in_seconds)


def clock_text(seconds: float) -> str:
    """Seconds as a player shows them: `0:09`, `12:30`, `1:02:03`."""
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


SILENT = Show()
