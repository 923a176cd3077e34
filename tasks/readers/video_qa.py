"""MSRVTT-QA and MSVD-QA: lists of `{"answer", "id", "question", "video_id"}`, one word an answer.

Source: train_qa.json, val_qa.json and test_qa.json of each (Xu et al., ACM MM 2017, github.com/xudejing). Videos are
`video<video_id>.mp4` of MSR-VTT, and those that MSVD's youtube_mapping.txt calls `vid<video_id>`, one
`-4wsuPCjDBc_5_15 vid1` a line.
"""

from __future__ import annotations

import re
from collections import Counter

from core_encoder.clip_plan import Clip
from core_encoder.errors import InputError
from core_encoder.files.storage import nearest
from tasks.readers.dataset_folder import DatasetFolder
from tasks.readers.official_json import Entry, read_entries
from tasks.readers.official_lists import read_list
from tasks.readers.texts import TextSample

MAPPING = "youtube_mapping.txt"


def read_msrvtt_qa(data: DatasetFolder, split: str) -> list[TextSample]:
    """The questions of a split (`train`, `val`, `test`), each with its answer.

    Raises:
        InputError: one line with file, entry, field and the fix.
    """
    questions = []
    for one in _entries(data, split):
        video = f"video{one.whole('video_id')}"
        questions.append(_question(one, video, data.video(video), split))
    return questions


def read_msvd_qa(data: DatasetFolder, split: str) -> list[TextSample]:
    """The questions of a split (`train`, `val`, `test`), each with its answer.

    Raises:
        InputError: one line with file, entry, field and the fix; a video that the mapping lacks.
    """
    file = data.file(MAPPING)
    clips: dict[str, str] = {}
    for line, text in read_list(file):
        clip, _, number = text.rpartition(" ")
        if not (clip.strip() and re.fullmatch(r"vid\d+", number)) or number in clips:
            raise InputError(f"{file}: line {line}: {text!r} is not a clip and a new 'vid' with its number")
        clips[number] = clip.strip()
    questions = []
    for one in _entries(data, split):
        video = f"vid{one.whole('video_id')}"
        if video not in clips:
            raise one.error(f"video_id: {video} is not in {file.name}{nearest(video, clips)}")
        questions.append(_question(one, video, data.video(clips[video], video), split))
    return questions


def frequent_answers(data: DatasetFolder, most: int = 250) -> tuple[str, ...]:
    """So many of the most frequent answers of one word to the questions of train and val, the most frequent first."""
    counted = Counter(one.text("answer").lower() for split in ("train", "val") for one in _entries(data, split))
    return tuple([answer for answer, _ in counted.most_common() if len(answer.split()) == 1][:most])


def _entries(data: DatasetFolder, split: str) -> list[Entry]:
    return read_entries(data.file(f"{split}_qa.json"))


def _question(one: Entry, video: str, path: str, split: str) -> TextSample:
    name = f"{video}_{one.text('id')}"
    return TextSample(name, Clip(path), (), split, (one.text("answer"),), one.text("question"))
