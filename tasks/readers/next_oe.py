"""NExT-OE: NExT-QA's questions with answers in words; those of the test split have a second reference.

Source: train.csv, val.csv, test.csv and add_reference_answer_test.json (`{video: {qid: answer}}`) of doc-doc/NExT-OE.
"""

from __future__ import annotations

from pathlib import PurePosixPath

from core_encoder.clip_plan import Clip
from core_encoder.errors import InputError
from tasks.readers.dataset_folder import DatasetFolder
from tasks.readers.next_qa import asked_videos
from tasks.readers.official_json import read_object
from tasks.readers.texts import TextSample

REFERENCES = "add_reference_answer_test.json"


def read_next_oe(data: DatasetFolder, split: str) -> list[TextSample]:
    """The questions of a split (`train`, `val`, `test`), each with its type and its answer, in test with both of them.

    Raises:
        InputError: one line with file, line, field and the fix; the file has options, so it is that of NExT-QA.
    """
    file = data.file(f"NExT-OE/dataset/nextqa/{split}.csv", f"oe/{split}.csv", f"{split}.csv")
    second = read_object(data.file(REFERENCES)) if split == "test" else None
    samples = []
    for one in asked_videos(data, file):
        if one.options:
            raise InputError(f"{file}: has options to choose from: it is NExT-QA's; get NExT-OE's of the same name")
        if not one.kind:
            raise InputError(f"{one.where}: type is empty; give it or remove the row")
        video, _, number = one.id.rpartition("_")
        answers = [one.answer]
        if second is not None and video in second.values:
            more = second.entry(video)
            answers += [more.text(number)] if number in more.values else []
        clip = Clip(data.video(one.video, PurePosixPath(one.video).name))
        samples.append(TextSample(one.id, clip, (), split, tuple(answers), one.question, kind=one.kind))
    return samples
