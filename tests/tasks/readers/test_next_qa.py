"""NExT-QA's own files: what is read of them, and a line for everything that is wrong with one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from core_encoder.clip_plan import Clip
from core_encoder.errors import InputError
from pretrain.world.captioned_videos import write_captioned_videos
from tasks.families.language import LanguageTask
from tasks.readers.texts import TextSample, read_texts

CHOICE = "video,frame_count,width,height,question,answer,qid,type,a0,a1,a2,a3,a4\n"
OPEN = "video,frame_count,width,height,question,answer,qid,type\n"
ROW = "4010069381,369,640,480,how do the two man play the instrument,0,6,CH,roll the handle,tap,strum,hit,pluck\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The videos of two ids, where NExT-QA's map says; they are never opened."""
    (tmp_path / "videos" / "1164").mkdir(parents=True)
    (tmp_path / "videos" / "1164" / "4010069381.mp4").touch()
    (tmp_path / "videos" / "b.mp4").touch()
    (tmp_path / "map_vid_vidorID.json").write_text(json.dumps({"4010069381": "1164/4010069381"}))
    return tmp_path


def read(folder: Path, text: str, name: str = "val.csv") -> list[TextSample]:
    (folder / name).write_text(text, encoding="utf-8")
    return read_texts(folder / name, videos=folder / "videos")


def test_one_of_five(folder: Path) -> None:
    options = ("roll the handle", "tap", "strum", "hit", "pluck")
    clip = Clip(str(folder / "videos/1164/4010069381.mp4"))
    question = "how do the two man play the instrument"
    wanted = TextSample("4010069381_6", clip, (), "val", (options[0],), question, options, "CH")
    assert read(folder, CHOICE + ROW) == [wanted]
    assert LanguageTask.from_samples([wanted]).inputs(wanted) == {"question": question, "candidates": options}


def test_open_ended_answers_are_texts(folder: Path) -> None:
    [sample] = read(folder, OPEN + 'b,10,640,480,"why, then",to see 2,0,CW\n', "test.csv")
    assert (sample.id, sample.texts, sample.candidates, sample.split) == ("b_0", ("to see 2",), (), "test")


def test_what_the_world_writes_is_a_folder_of_splits(tmp_path: Path) -> None:
    counts = {"train": 2, "val": 1, "test": 1}
    write_captioned_videos(tmp_path, counts, size=16, num_frames=2)
    samples = read_texts(tmp_path / "nextqa", videos=tmp_path / "videos")
    assert {split: sum(one.split == split for one in samples) for split in counts} == {"train": 6, "val": 3, "test": 3}
    assert all(one.texts[0] in one.candidates and Path(one.clip.path).is_file() for one in samples)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (CHOICE + ROW.replace(",0,6", ",5,6"), "line 2: answer '5' is no index of the 5 options, counted from 0"),
        (CHOICE + ROW.replace("strum", " "), "line 2: a2 is empty"),
        (CHOICE + ROW + ROW, r"line 3: video and qid are those of .*line 2 \(4010069381_6\)"),
        (CHOICE, "holds no question"),
        (OPEN + "c,10,640,480,why,so,0,CW\n", "none of its 1 videos exists.*--videos"),
    ],
)
def test_what_is_wrong_is_said(folder: Path, text: str, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        read(folder, text)
