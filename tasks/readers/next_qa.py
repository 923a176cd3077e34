"""NExT-QA's CSV: `video,frame_count,width,height,question,answer,qid,type` and five options `a0` to `a4`, or none.

Source: doc-doc/NExT-QA, where `answer` is the index of an option, and doc-doc/NExT-OE, where it is the text. The file
`map_vid_vidorID.json`, where it lies beside them, says what the videos are called on disk.

ATP-Hard are the causal and temporal questions of val.csv that one frame does not answer, listed by the numbers of their
rows, from 0 (Buch et al., CVPR 2022: `atp-hard-ct4.txt` of StanfordVL/atp-video-language).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TypeGuard

from core_encoder.clip_plan import Clip
from core_encoder.errors import InputError
from core_encoder.files.storage import read_json
from core_encoder.files.urls import Location, Url
from tasks.readers.dataset_folder import DatasetFolder
from tasks.readers.official_lists import read_list
from tasks.readers.official_tables import TableRow, columns_of, read_table
from tasks.sample import ChoiceSample

ROWS = 4_996  # of val.csv
ATP_HARD = "atp-hard-ct4.txt"
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
    kind: str = ""  # the type: CW, CH (causal), TN, TC, TP (temporal), DC, DL, DO (descriptive), DB (yes or no)


def is_next_qa(file: Location) -> TypeGuard[Path]:
    """Whether a file begins with NExT-QA's columns."""
    if isinstance(file, Url) or file.suffix.lower() != ".csv":
        return False
    with file.open(encoding="utf-8-sig", errors="replace") as lines:
        return set(lines.readline().strip().split(",")) >= _COLUMNS


def read_next_qa(file: Path, videos: Path | None = None, options: int | None = None) -> list[AskedVideo]:
    """The questions of a file, in its order.

    Args:
        file: CSV with columns in any order.
        videos: the map of what the videos are called, by default the one beside it.
        options: how many there are to choose from; by default as many as there are columns a0, a1, ...

    Raises:
        InputError: one line with file, line, field and the fix.
    """
    names = _names_on_disk(videos or file.parent / MAP)
    if options is None:
        options = sum(bool(re.fullmatch(r"a\d+", name)) for name in set(columns_of(file)))
    choices = [f"a{place}" for place in range(options)]
    rows = read_table(file, ["video", "question", "answer", "qid", "type", *choices], needed=False)
    asked = [_question(row, choices, names) for row in rows]
    seen: dict[str, str] = {}
    for one in asked:
        if (first := seen.setdefault(one.id, one.where)) != one.where:
            raise InputError(f"{one.where}: video and qid are those of {first} ({one.id}); number the questions apart")
    if not asked:
        raise InputError(f"{file}: holds no question; add rows or remove the file")
    return asked


def read_atp_hard(data: DatasetFolder, split: str) -> list[ChoiceSample]:
    """The questions of ATP-Hard with their five options; TP questions count as TN, as NExT-QA's evaluation has it.

    The list of row numbers in the folder counts, else the one that comes with the package.

    Raises:
        InputError: one line with file, line, field and the fix; a row that is no causal or temporal question.
    """
    file = data.file("NExT-QA/dataset/nextqa/val.csv", "mc/val.csv", "val.csv")
    own = data.has_file(ATP_HARD)
    rows = data.file(ATP_HARD) if own else Path(__file__).with_name("next_qa_atp_hard.txt")
    if not {"a0", "a1", "a2", "a3", "a4"} & set(columns_of(file)):
        raise InputError(f"{file}: line 1: has no options a0 to a4: it is NExT-OE's; get NExT-QA's of the same name")
    asked = asked_videos(data, file, options=5)
    if not own and len(asked) != ROWS:
        raise InputError(
            f"{file}: holds {len(asked)} questions, not the {ROWS:,} whose numbers ATP-Hard lists; get the whole file"
        )
    samples = []
    for line, number in read_list(rows):
        where = f"{rows}: line {line}"
        if not (number.isascii() and number.isdigit()) or int(number) >= len(asked):
            raise InputError(f"{where}: {number!r} is no row of {file.name}, which holds {len(asked)}, from 0")
        one = asked[int(number)]
        if one.kind[:1] not in ("C", "T"):
            typed = f"its type in {one.where.rpartition(': ')[2]} is {one.kind!r}"
            raise InputError(f"{where}: row {number} of {file} is no causal or temporal question: {typed}")
        kind = one.kind.replace("TP", "TN")
        clip = Clip(data.video(one.video, PurePosixPath(one.video).name))
        samples.append(ChoiceSample(one.id, clip, (), split, one.options, one.answer, one.question, kind))
    return samples


def asked_videos(data: DatasetFolder, file: Path, options: int | None = None) -> list[AskedVideo]:
    """The questions of a file, the videos called as the map beside it says, or the one elsewhere in the folder.

    Raises:
        InputError: one line with file, line, field and the fix.
    """
    apart = data.has_file(MAP) and not (file.parent / MAP).is_file()
    return read_next_qa(file, data.file(MAP) if apart else None, options)


def _question(row: TableRow, choices: Sequence[str], names: Mapping[str, str]) -> AskedVideo:
    def text(column: str) -> str:
        return " ".join(row.text(column).split())

    video, answer = text("video"), text("answer")
    options = tuple(text(column) for column in choices)
    if options:
        if not answer.isdecimal() or int(answer) >= len(options):
            raise row.error(f"answer {answer!r} is no index of the {len(options)} options, counted from 0")
        answer = options[int(answer)]
    name, kind = f"{video}_{text('qid')}", row.cells["type"].strip()
    return AskedVideo(name, names.get(video, video), text("question"), answer, options, row.where, kind)


def _names_on_disk(file: Path) -> dict[str, str]:
    """What the map says of each video; nothing where there is no map."""
    if not file.is_file():
        return {}
    content = read_json(file)
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content.values()):
        raise InputError(f"{file}: must be an object of video ids and paths")
    return content
