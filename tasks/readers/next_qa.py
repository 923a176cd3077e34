"""NExT-QA's CSV: `video,frame_count,width,height,question,answer,qid,type` and five options `a0` to `a4`, or none.

Source: doc-doc/NExT-QA, where `answer` is the index of an option, and doc-doc/NExT-OE, where it is the text. The file
`map_vid_vidorID.json`, where it lies beside them, says what the videos are called on disk.

ATP-Hard are the causal and temporal questions of val.csv that one frame does not answer, listed by the numbers of their
rows, from 0 (Buch et al., CVPR 2022: `atp-hard-ct4.txt` of StanfordVL/atp-video-language).
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from core_encoder.clip_plan import Clip
from core_encoder.errors import InputError
from core_encoder.files.storage import read_json
from tasks.readers.dataset_folder import DatasetFolder
from tasks.readers.official_lists import read_list
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


def is_next_qa(file: Path) -> bool:
    """Whether a file begins with NExT-QA's columns."""
    if file.suffix.lower() != ".csv":
        return False
    with file.open(encoding="utf-8-sig", errors="replace") as lines:
        return set(lines.readline().strip().split(",")) >= _COLUMNS


def read_next_qa(file: Path, videos: Path | None = None) -> list[AskedVideo]:
    """The questions of a file, in its order; `videos` is the map of what they are called, by default the one beside it.

    Raises:
        InputError: one line with file, line, field and the fix.
    """
    names = _names_on_disk(videos or file.parent / MAP)
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


def read_atp_hard(data: DatasetFolder, split: str) -> list[ChoiceSample]:
    """The questions of ATP-Hard with their five options; TP questions count as TN, as NExT-QA's evaluation has it.

    The list of row numbers in the folder counts, else the one that comes with the package.

    Raises:
        InputError: one line with file, line, field and the fix; a row that is no causal or temporal question.
    """
    file = data.file("NExT-QA/dataset/nextqa/val.csv", "mc/val.csv", "val.csv")
    own = data.has_file(ATP_HARD)
    rows = data.file(ATP_HARD) if own else Path(__file__).with_name("next_qa_atp_hard.txt")
    asked = asked_videos(data, file)
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
        if one.kind[:1] not in ("C", "T") or not one.options:
            raise InputError(f"{where}: row {number} of {file} is no causal or temporal question with options")
        kind = one.kind.replace("TP", "TN")
        clip = Clip(data.video(one.video, PurePosixPath(one.video).name))
        samples.append(ChoiceSample(one.id, clip, (), split, one.options, one.answer, one.question, kind))
    return samples


def asked_videos(data: DatasetFolder, file: Path) -> list[AskedVideo]:
    """The questions of a file, the videos called as the map beside it says, or the one elsewhere in the folder.

    Raises:
        InputError: one line with file, line, field and the fix.
    """
    apart = data.has_file(MAP) and not (file.parent / MAP).is_file()
    return read_next_qa(file, data.file(MAP) if apart else None)


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
    name, kind = f"{video}_{text('qid')}", (row.get("type") or "").strip()
    return AskedVideo(name, names.get(video, video), text("question"), answer, options, where, kind)


def _names_on_disk(file: Path) -> dict[str, str]:
    """What the map says of each video; nothing where there is no map."""
    if not file.is_file():
        return {}
    content = read_json(file)
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content.values()):
        raise InputError(f"{file}: must be an object of video ids and paths")
    return content
