"""AVA's CSV as columns of numbers, a million rows in seconds: what the judges of boxes read. No torch.

video_id,timestamp,x1,y1,x2,y2,action_id[,person_id or score]
video_id,timestamp                                                  somebody looked, and nobody is there
"""

from __future__ import annotations

import csv
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from core_encoder.errors import InputError
from tasks.metrics.frame_map import BoxTable

FIELDS = ("video_id", "timestamp", "x1", "y1", "x2", "y2", "action_id", "score")
_AT_ONCE = 65_536  # rows in memory as text


class Frames:
    """The numbers of frames by video and time; files that share this share the numbers."""

    def __init__(self) -> None:
        self.names: list[str] = []  # `video,902`
        self._numbers: dict[tuple[str, int], int] = {}
        self._as_written: dict[tuple[str, str], int] = {}

    def number(self, video: str, stamp: str) -> int:
        """The number of a frame, a new one where it is not known; times are told apart by the microsecond.

        Raises:
            ValueError: the stamp is no time.
        """
        known = self._as_written.get((video, stamp))
        if known is None:
            time_s = float(stamp)
            if not math.isfinite(time_s):
                raise ValueError(stamp)
            known = self._numbers.setdefault((video, round(1e6 * time_s)), len(self.names))
            if known == len(self.names):
                self.names.append(f"{video},{time_s:g}")
            self._as_written[video, stamp] = known
        return known


@dataclass(frozen=True, eq=False)
class AvaColumns:
    """The boxes of a file in its order, and the frames that it lists, with or without boxes.

    `table.labels` are action ids as written; `table.scores` the last column, 1 where there is none.
    """

    path: Path
    table: BoxTable
    listed: NDArray[np.int64]  # the numbers of frames, ascending

    def refuse_inverted(self, rows: NDArray[np.bool_]) -> None:
        """Refuse boxes whose right or lower edge comes before the other, among some rows `(N,)`.

        Raises:
            InputError: the first, by its line.
        """
        corners = self.table.corners
        wrong = np.flatnonzero(rows & ((corners[:, 2] < corners[:, 0]) | (corners[:, 3] < corners[:, 1])))
        if len(wrong):
            boxes = (line for line, cells in _numbered(self.path) if len(cells) > 2 and not _is_header(cells))
            line = next(itertools.islice(boxes, int(wrong[0]), None))
            left, top, right, bottom = corners[wrong[0]].tolist()
            raise InputError(
                f"{self.path}: line {line}: box {left:g} {top:g} {right:g} {bottom:g}: "
                "x2 and y2 must not be below x1 and y1; correct or remove it"
            )


def read_ava_columns(path: str | Path, frames: Frames) -> AvaColumns:
    """Read a file of ground truth or of detections; a header is skipped.

    Raises:
        InputError: one line with file, line, field and the fix.
    """
    path, parts, listed = Path(path), list[BoxTable](), set[int]()
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows: Iterator[list[str]] = filter(None, csv.reader(file))
            first = list(itertools.islice(rows, 1))
            if not first:
                raise InputError(f"{path}: holds no rows; they look like video,0902,0.077,0.151,0.283,0.811,80,0.9")
            rows = rows if _is_header(first[0]) else itertools.chain(first, rows)
            while several := list(itertools.islice(rows, _AT_ONCE)):
                numbers = [frames.number(row[0], row[1]) for row in several]
                listed.update(numbers)
                parts.append(_columns(several, numbers))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as CSV ({getattr(error, 'strerror', None) or error})") from error
    except (ValueError, IndexError, OverflowError) as error:
        if isinstance(error, InputError):
            raise
        _refuse(path, error)
    table = BoxTable(*(np.concatenate([getattr(one, name) for one in parts]) for name in _COLUMNS))
    return AvaColumns(path, table, np.array(sorted(listed), dtype=np.int64))


def read_frame_list(path: str | Path, frames: Frames) -> NDArray[np.int64]:
    """The frames of a file of `video_id,timestamp`, such as AVA's excluded time stamps.

    Raises:
        InputError: a line of another form.
    """
    found = []
    for line, cells in _numbered(Path(path)):
        if len(cells) != 2:
            raise InputError(f"{path}: line {line}: {len(cells)} fields, expected video_id,timestamp")
        try:
            found.append(frames.number(*cells))
        except ValueError:
            raise InputError(f"{path}: line {line}: timestamp {cells[1]!r} is not a time in seconds") from None
    return np.unique(np.array(found, dtype=np.int64))


_COLUMNS = ("frames", "labels", "corners", "scores")


def _columns(rows: Sequence[Sequence[str]], frames: Sequence[int]) -> BoxTable:
    """The rows that have a box, of seven or eight fields, as numbers.

    Raises:
        ValueError: a row of another length, or what is no number.
    """
    if not {len(row) for row in rows} <= {2, 7, 8}:
        raise ValueError("fields")
    numbers = np.array([frame for frame, row in zip(frames, rows, strict=True) if len(row) > 2], dtype=np.int64)
    rows = [row for row in rows if len(row) > 2]
    labels = np.fromiter((int(row[6]) for row in rows), np.int64, len(rows))
    cells = (cell for row in rows for cell in (*row[2:6], row[7] if len(row) == 8 else "1"))
    values = np.fromiter(map(float, cells), np.float64, 5 * len(rows)).reshape(-1, 5)
    if not np.isfinite(values).all():
        raise ValueError("not finite")
    return BoxTable(numbers, labels, values[:, :4], values[:, 4])


def _refuse(path: Path, error: Exception) -> NoReturn:
    """Find the first row that cannot be read.

    Raises:
        InputError: its line and field.
    """
    for place, (line, cells) in enumerate(_numbered(path)):
        if place == 0 and _is_header(cells):
            continue
        if len(cells) not in (2, 7, 8):
            expected = "video_id,timestamp,x1,y1,x2,y2,action_id,score (or person_id)"
            raise InputError(f"{path}: line {line}: {len(cells)} fields, expected {expected}") from error
        for name, cell in zip(FIELDS[1:], cells[1:], strict=False):
            if not _is_number(cell, int if name == "action_id" else float):
                kind = "a whole number" if name == "action_id" else "a finite number"
                raise InputError(f"{path}: line {line}: {name} {cell!r} is not {kind}") from error
    raise InputError(f"{path}: cannot be read as AVA's CSV ({error})") from error


def _numbered(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Rows that are not empty, with the numbers of their lines."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            for cells in reader:
                if cells:
                    yield reader.line_num, cells
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as CSV ({getattr(error, 'strerror', None) or error})") from error


def _is_header(cells: Sequence[str]) -> bool:
    return len(cells) > 6 and not any(_is_number(cell, float) for cell in cells[1:7])


def _is_number(cell: str, kind: type[int] | type[float]) -> bool:
    try:
        return math.isfinite(number := kind(cell)) and (kind is float or abs(number) < 2**63)
    except (ValueError, OverflowError):
        return False
