"""Rows of official annotation tables: CSV whose cells are asked for by their column. No torch."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from core_encoder.errors import InputError
from core_encoder.fields import seconds_of
from core_encoder.files.storage import read_utf8


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


def read_table(
    file: Path, columns: Sequence[str], *, delimiter: str = ",", header: bool = True, needed: bool = True
) -> list[TableRow]:
    """The rows of a table.

    Args:
        file: UTF-8, with or without a byte order mark, lines ended in any way.
        columns: those that are asked for; in any order where there is a header, else those that every row begins with.
            Without a header no row has more fields than the first.
        delimiter: between two cells.
        header: whether the first line names the columns.
        needed: whether a table without rows is refused.

    Raises:
        InputError: not UTF-8, a column that is not there or there twice, a row of another length, or no row.
    """
    lines = _lines(file, delimiter)
    if header:
        names = [name.strip() for name in next(lines, (1, []))[1]]
        for name in columns:
            if names.count(name) != 1:
                held = f"it holds {', '.join(_short(one) for one in names[:12]) or 'nothing'}"
                fault = "two columns are called" if name in names else "there is no column"
                raise InputError(f"{file}: line 1: {fault} {name!r}; {held}")
    else:
        names = list(columns)
    rows, first = [], None
    for line, cells in lines:
        where, first = f"{file}: line {line}", first or (line, len(cells))
        if not header and len(cells) > first[1]:
            raise InputError(f"{where}: has {len(cells)} fields, line {first[0]} has {first[1]}")
        rows.append(_row(where, cells, names, header))
    if needed and not rows:
        raise InputError(f"{file}: holds no rows")
    return rows


def columns_of(file: Path, delimiter: str = ",") -> list[str]:
    """The columns that the first line of a table names.

    Raises:
        InputError: the file is not UTF-8, or no CSV.
    """
    return [name.strip() for name in next(_lines(file, delimiter), (1, []))[1]]


def _row(where: str, cells: list[str], names: Sequence[str], whole: bool) -> TableRow:
    if whole and len(cells) > len(names):
        raise InputError(f"{where}: has more fields than the header; put fields that hold the delimiter in quotes")
    if len(cells) < len(names):
        missing = names[len(cells)]
        raise InputError(f"{where}: has {len(cells)} fields instead of {len(names)}: {missing} is missing")
    return TableRow(dict(zip(names, cells, strict=False)), where)


def _short(name: str) -> str:
    plain = " ".join(name.split())
    return plain if len(plain) <= 40 else f"{plain[:37]}..."


def _lines(file: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """The rows that hold anything, each with the number of its last line."""
    reader = csv.reader(io.StringIO(read_utf8(file), newline=""), delimiter=delimiter)
    try:
        for cells in reader:
            if any(cells):
                yield reader.line_num, cells
    except csv.Error as error:
        raise InputError(f"{file}: line {reader.line_num}: cannot be read as CSV ({error})") from error
