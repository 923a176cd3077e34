"""AVA's files: boxes with actions as CSV without a header, and time stamps that do not count. No torch.

    video_id,timestamp,x1,y1,x2,y2,action_id,person_id      one row a box and action
    video_id,timestamp,x1,y1,x2,y2,,score                   boxes of a detector
    video_id,timestamp                                      nobody is there

A last column of whole numbers alone is taken for persons, one with any other number for scores.
"""

from __future__ import annotations

import csv
import io
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from core_encoder.errors import InputError
from core_encoder.fields import seconds_of
from core_encoder.files.storage import read_utf8
from tasks.readers.box_rows import BoxRow


def read_ava(path: str | Path, needed: Sequence[str] = ()) -> list[BoxRow]:
    """The rows of an AVA CSV, in its order; times are as written, corners too.

    Args:
        path: UTF-8, with or without a header.
        needed: which of `action_id`, `person_id` and `score` every box has; then all boxes have equally many fields,
            and an eighth one is not empty. By default any may be lacking anywhere.

    Raises:
        InputError: one line with file, line, field and the fix.
    """
    path = Path(path)
    lines = list(_lines(path))
    if lines and len(lines[0][1]) > 1 and not any(map(_is_number, lines[0][1])):
        lines = lines[1:]  # a header
    if not lines:
        raise InputError(f"{path}: holds no rows; they look like video,0902,0.077,0.151,0.283,0.811,80,1")
    lasts = [cells[7] for _, cells in lines if len(cells) == 8]
    people = all(last.isdigit() for last in lasts)
    if needed:
        _refuse_lacking(path, lines, needed)
    return [_row(path, line, cells, people) for line, cells in lines]


def read_excluded(path: str | Path) -> set[tuple[str, int]]:
    """The moments of a file `video_id,timestamp` that do not count, as video and milliseconds.

    Raises:
        InputError: a line of another form.
    """
    path = Path(path)
    excluded = set()
    for line, cells in _lines(path):
        if len(cells) != 2:
            raise InputError(f"{path}: line {line}: {len(cells)} fields, expected video_id,timestamp")
        if not cells[0]:
            raise InputError(f"{path}: line {line}: video_id is empty")
        excluded.add((cells[0], round(1000 * _seconds(path, line, cells[1]))))
    return excluded


def _refuse_lacking(path: Path, lines: Sequence[tuple[int, list[str]]], needed: Sequence[str]) -> None:
    last = next((name for name in needed if name != "action_id"), "person_id")
    boxes = [(line, cells) for line, cells in lines if len(cells) != 2]
    most = Counter(len(cells) for _, cells in boxes).most_common(1)[0][0] if boxes else 8
    usual = 8 if last in needed else min(max(most, 7), 8)
    for line, cells in boxes:
        if len(cells) != usual:
            raise InputError(f"{path}: line {line}: {len(cells)} fields, expected {usual}, as in most rows with a box")
        for name, cell in zip(("action_id", last), cells[6:8], strict=False):
            if not cell and name in (*needed, last):
                raise InputError(f"{path}: line {line}: {name} is empty; give it or remove the row")


def _row(path: Path, line: int, cells: list[str], people: bool) -> BoxRow:
    if len(cells) not in (2, 6, 7, 8):
        raise InputError(
            f"{path}: line {line}: {len(cells)} fields, expected video_id,timestamp,x1,y1,x2,y2,action_id,person_id"
        )
    if not cells[0]:
        raise InputError(f"{path}: line {line}: video_id is empty")
    time_s = _seconds(path, line, cells[1])
    if len(cells) == 2:
        return BoxRow(path, f"line {line}", cells[0], None, time_s)
    for name, cell in zip(("x1", "y1", "x2", "y2"), cells[2:6], strict=True):
        if not _is_number(cell):
            raise InputError(f"{path}: line {line}: {name} {cell!r} is not a number")
    left, top, right, bottom = (float(cell) for cell in cells[2:6])
    label, last = [*cells[6:], "", ""][:2]
    if last and not people and not _is_number(last):
        raise InputError(f"{path}: line {line}: the last field {last!r} is neither a person's number nor a score")
    return BoxRow(
        path,
        f"line {line}",
        sys.intern(cells[0]),  # these three are the same in very many rows
        (left, top, right, bottom),
        time_s,
        label=sys.intern(label) or None,
        track=sys.intern(last) if people else "",
        score=1.0 if people or not last else float(last),
    )


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(read_utf8(path), newline=""))
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield reader.line_num, [cell.strip() for cell in cells]
    except csv.Error as error:
        raise InputError(f"{path}: line {reader.line_num}: cannot be read as CSV ({error})") from error


def _seconds(path: Path, line: int, text: str) -> float:
    try:
        return seconds_of(text)
    except ValueError:
        raise InputError(f"{path}: line {line}: timestamp {text!r} is not a time in seconds") from None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
