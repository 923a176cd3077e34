"""Tables with a header, row by row, for judges: every cell has a line and a column to be named by. No torch."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from core_encoder.errors import InputError
from core_encoder.files.storage import nearest


@dataclass(frozen=True, slots=True)
class Line:
    """A row of a table: its cells in the order of the columns."""

    file: Path
    number: int
    cells: list[str]

    def error(self, message: str) -> InputError:
        """An error that says where."""
        return InputError(f"{self.file}: line {self.number}: {message}")

    def finite(self, column: str, cell: str) -> float:
        """A cell as a number.

        Raises:
            InputError: it is none, or not finite.
        """
        try:
            number = float(cell)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise self.error(f"{column} {cell!r} is not a finite number")
        return number


def read_table(file: Path, needed: Sequence[str]) -> tuple[list[str], Iterator[Line]]:
    """The columns of a CSV file with a header, and its rows; those without any cell are left out.

    Raises:
        InputError: the file cannot be read, lacks a column or has one twice, or, in its turn, a row of another width.
    """
    lines = _lines(file)
    first = next(lines, None)
    if first is None:
        raise InputError(f"{file}: is empty; it begins with a header such as {','.join(needed)}")
    header = [cell.strip() for cell in first.cells]
    for name in needed:
        if name not in header:
            raise first.error(f"no column {name!r}{nearest(name, header)}")
    if twice := [name for name in header if header.count(name) > 1]:
        raise first.error(f"two columns are called {twice[0]!r}; rename one")
    return header, _of_width(lines, len(header))


def _of_width(lines: Iterator[Line], width: int) -> Iterator[Line]:
    for line in lines:
        if len(line.cells) != width:
            raise line.error(f"{len(line.cells)} fields where the header has {width}")
        yield line


def _lines(file: Path) -> Iterator[Line]:
    try:
        with file.open(encoding="utf-8-sig", newline="") as text:
            reader = csv.reader(text)
            for cells in reader:
                if cells:
                    yield Line(file, reader.line_num, cells)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{file}: cannot be read as CSV ({getattr(error, 'strerror', None) or error})") from error
