"""Rows of official annotation tables: CSV with a header, each cell asked for by its column. No torch."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from core_encoder.errors import InputError
from core_encoder.fields import seconds_of


@dataclass(frozen=True)
class TableRow:
    """One row: its cells by column, and where it is written."""

    cells: Mapping[str, str]
    where: str

    def text(self, column: str) -> str:
        """A cell that must not be empty.

        Raises:
            InputError: it is.
        """
        value = self.cells[column].strip()
        if not value or "\0" in value:
            raise self.error(f"{column} is empty; give it or remove the row")
        return value

    def whole(self, column: str) -> int:
        """A cell that holds a whole number, 0 or more.

        Raises:
            InputError: it does not.
        """
        value = self.text(column)
        if not (value.isascii() and value.isdigit()):
            raise self.error(f"{column} {value!r} is no whole number")
        return int(value)

    def seconds(self, column: str) -> float:
        """A cell that holds a time in seconds.

        Raises:
            InputError: it does not.
        """
        value = self.text(column)
        try:
            return seconds_of(value)
        except ValueError:
            raise self.error(f"{column} {value!r} is not a time in seconds") from None

    def error(self, what: str) -> InputError:
        """An error that says where the row is."""
        return InputError(f"{self.where}: {what}")


def read_table(file: Path, columns: tuple[str, ...], delimiter: str = ",") -> list[TableRow]:
    """The rows of a table with a header that holds at least `columns`, in any order.

    Raises:
        InputError: not UTF-8, a column that is not there, a row of another length, or no row.
    """
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.DictReader(lines, delimiter=delimiter)
            header = [name.strip() for name in reader.fieldnames or ()]
            if missing := next((name for name in columns if name not in header), None):
                held = ", ".join(header[:12]) or "nothing"
                raise InputError(f"{file}: line 1: there is no column {missing!r}; it holds {held}")
            reader.fieldnames = header
            rows = [_row(file, reader.line_num, cells, columns) for cells in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{file}: cannot be read as CSV in UTF-8 ({error})") from error
    if not rows:
        raise InputError(f"{file}: holds a header and no rows")
    return rows


def _row(file: Path, line: int, cells: Mapping[str | None, str | None], columns: tuple[str, ...]) -> TableRow:
    where = f"{file}: line {line}"
    if None in cells:
        raise InputError(f"{where}: has more fields than the header; put fields with commas in quotes")
    if short := next((name for name in columns if cells.get(name) is None), None):
        raise InputError(f"{where}: has fewer fields than the header, {short} is missing")
    return TableRow({str(name): value or "" for name, value in cells.items()}, where)
