"""NExT-QA's CSV: `video,frame_count,width,height,question,answer,qid,type` and five options `a0` to `a4`, or none.

Source: doc-doc/NExT-QA, where `answer` is the index of an option, and doc-doc/NExT-OE, where it is the text. The file
`map_vid_vidorID.json`, where it lies beside them, says what the videos are called on disk.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from core_encoder.errors import InputError
from core_encoder.files.storage import read_json

MAP = "map_vid_vidorID.json"
_COLUMNS = {"video", "frame_count", "question", "answer", "qid", "type"}


@dataclass(frozen=True)
class AskedVideo:
    """A question about a video, the right answer, and the options it is one of, if any; `id` is NExT-QA's own."""

    id: str
    video: str  # as it is called on disk
    question: str
    answer: str
    options: tuple[str, ...]
    where: str


def is_next_qa(file: Path) -> bool:
    """Whether a file begins with NExT-QA's columns."""
    if file.suffix.lower() != ".csv":
        return False
    with file.open(encoding="utf-8-sig", errors="replace") as lines:
        return set(lines.readline().strip().split(",")) >= _COLUMNS


def read_next_qa(file: Path) -> list[AskedVideo]:
    """The questions of a file, in its order.

    Raises:
        InputError: one line with file, line, field and the fix.
    """
    names = _names_on_disk(file.parent / MAP)
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.DictReader(lines)
            asked = [_question(row, names, f"{file}: line {reader.line_num}") for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{file}: cannot be read as CSV in UTF-8 ({error})") from error
    seen: dict[str, str] = {}
    for one in asked:
        if (first := seen.setdefault(one.id, one.where)) != one.where:
            raise InputError(f"{one.where}: video and qid are those of {first} ({one.id}); number the questions apart")
    if not asked:
        raise InputError(f"{file}: holds no question; add rows or remove the file")
    return asked


def _question(row: Mapping[str, str | None], names: Mapping[str, str], where: str) -> AskedVideo:
    def text(column: str) -> str:
        value = " ".join((row.get(column) or "").split())
        if not value or "\0" in value:
            raise InputError(f"{where}: {column} is empty; give it or remove the row")
        return value

    video, answer = text("video"), text("answer")
    options: tuple[str, ...] = ()
    if "a0" in row:
        options = tuple(text(column) for column in row if re.fullmatch(r"a\d+", column))
        if not answer.isdecimal() or int(answer) >= len(options):
            raise InputError(f"{where}: answer {answer!r} is no index of the {len(options)} options, counted from 0")
        answer = options[int(answer)]
    return AskedVideo(f"{video}_{text('qid')}", names.get(video, video), text("question"), answer, options, where)


def _names_on_disk(file: Path) -> dict[str, str]:
    """What the map says of each video; nothing where there is no map."""
    if not file.is_file():
        return {}
    content = read_json(file)
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content.values()):
        raise InputError(f"{file}: must be an object of video ids and paths")
    return content
