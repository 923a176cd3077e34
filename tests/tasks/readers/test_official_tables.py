"""Official tables: cells by column in any order, and errors that name file, line and field."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from core_encoder.errors import InputError
from tasks.readers.official_tables import read_table
from tests.tasks.miniatures.clips import in_latin1, reordered, with_windows_ends, without_column

TABLE = 'id,start,said\n7,1.5,"to be, or not"\n08,0:02,x\n'


@pytest.fixture
def table(tmp_path: Path) -> Path:
    file = tmp_path / "t.csv"
    file.write_text(TABLE)
    return file


def test_cells_are_asked_for_by_column(table: Path) -> None:
    one, two = read_table(table, ("said", "id"))
    assert (one.text("id"), one.whole("id"), one.seconds("start"), one.text("said")) == ("7", 7, 1.5, "to be, or not")
    assert (two.text("id"), two.whole("id"), two.seconds("start")) == ("08", 8, 2.0)
    assert (one.where, two.where) == (f"{table}: line 2", f"{table}: line 3")


def test_windows_ends_and_another_order_mean_the_same(table: Path) -> None:
    plain = [row.cells for row in read_table(table, ("id", "start"))]
    with_windows_ends(table)
    assert [row.cells for row in read_table(table, ("id", "start"))] == plain
    table.write_text("a,b\n1,2\n")
    reordered(table)
    assert table.read_text() == "b,a\n2,1\n"
    assert read_table(table, ("a", "b"))[0].cells == {"a": "1", "b": "2"}


def test_a_table_without_a_header_and_with_another_delimiter(tmp_path: Path) -> None:
    file = tmp_path / "t.txt"
    file.write_text("a b 3\n\nc d\n")
    rows = read_table(file, ("x", "y"), delimiter=" ", header=False)
    assert [row.cells for row in rows] == [{"x": "a", "y": "b"}, {"x": "c", "y": "d"}] and rows[1].where.endswith("3")
    with pytest.raises(InputError, match=r"line 3: has 2 fields instead of 3: z is missing"):
        read_table(file, ("x", "y", "z"), delimiter=" ", header=False)


def test_what_is_wrong_is_named_with_its_line(table: Path) -> None:
    for content, message in (
        ("id,start\n1,2\n", r"line 1: there is no column 'said'; it holds id, start"),
        ("id,begin,said,id\n1,2,x,3\n", r"line 1: two columns are called 'id'"),
        ("", r"line 1: there is no column 'id'; it holds nothing"),
        ("id,said\n", r"t.csv: holds no rows"),
        ("id,said\n1,a,b\n", r"line 2: has more fields than the header; put fields that hold the delimiter in quotes"),
        ("id,said\n1,a\n2\n", r"line 3: has 1 fields instead of 2: said is missing"),
    ):
        table.write_text(content)
        with pytest.raises(InputError, match=message):
            read_table(table, ("id", "said"))
    assert not read_table_of(table, "id,said\n")


def read_table_of(file: Path, content: str) -> list[object]:
    file.write_text(content)
    return [*read_table(file, ("id",), needed=False)]


def test_damage_is_named(table: Path) -> None:
    line = in_latin1(table)
    with pytest.raises(InputError, match=rf"t.csv: line {line}: byte 0xe9 is not UTF-8"):
        read_table(table, ("id",))
    table.write_text("id,start\n1,2\n")
    without_column(table, "start")
    with pytest.raises(InputError, match=r"line 1: there is no column 'start'"):
        read_table(table, ("start",))
    with pytest.raises(InputError, match=r"none.csv: no such file"):
        read_table(table.with_name("none.csv"), ("id",))


def test_a_cell_that_is_none_is_named(table: Path) -> None:
    table.write_text("id,start\n ,2x\n-1,-2\n")
    one, two = read_table(table, ("id", "start"))
    for ask, message in (
        (lambda: one.text("id"), "line 2: id is empty"),
        (lambda: one.seconds("start"), "line 2: start '2x' is not a time in seconds"),
        (lambda: two.whole("id"), "line 3: id '-1' is no whole number"),
        (lambda: two.seconds("start"), "line 3: start '-2' is not a time in seconds"),
    ):
        with pytest.raises(InputError, match=re.escape(message)):
            ask()
