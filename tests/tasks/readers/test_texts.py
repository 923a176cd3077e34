"""Videos with captions, questions and answers: every layout that is read, and a line for what is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from core_encoder.clip_plan import Clip
from core_encoder.errors import InputError
from pretrain.world.captioned_videos import write_captioned_videos
from tasks.readers.captions import read_captions
from tasks.readers.texts import TextSample, read_texts


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three files that are never opened."""
    for name in ("a.mp4", "b.mp4", "c.mp4"):
        (tmp_path / name).touch()
    return tmp_path


def read(folder: Path, text: str, name: str = "texts.csv", **columns: str) -> list[TextSample]:
    (folder / name).write_text(text, encoding="utf-8")
    return read_texts(folder / name, **columns)


def test_captions_are_read_as_by_the_reader_of_captions(folder: Path) -> None:
    samples = read(folder, "video,caption,split\na.mp4,a dog,train\nb.mp4,a cat,test\na.mp4,a pet,train\n")
    known = [(one.id, one.clip, one.split, one.captions) for one in read_captions(folder / "texts.csv")]
    assert [(one.id, one.clip, one.split, one.texts) for one in samples] == known
    assert not any(one.question for one in samples)


def test_questions_of_one_clip_are_apart_and_their_answers_together(folder: Path) -> None:
    samples = read(
        folder,
        "video,question,answer,split\na.mp4,what is it?,dog,train\na.mp4,how many?,2,train\n"
        "b.mp4,what is it?,cat,test\n"
        "a.mp4,What is it?,a dog,train\n",
    )
    clip = Clip(str(folder / "a.mp4"))
    assert samples == [
        TextSample("a.mp4?1", clip, (), "train", ("dog", "a dog"), "what is it?"),
        TextSample("a.mp4?2", clip, (), "train", ("2",), "how many?"),
        TextSample("b.mp4?1", Clip(str(folder / "b.mp4")), (), "test", ("cat",), "what is it?"),
    ]


def test_one_manifest_holds_both(folder: Path) -> None:
    table = "video,caption,question,answer\na.mp4,a dog,,\na.mp4,,who?,dog\nb.mp4,a cat,who?,cat\n"
    expected = [("a.mp4", "", ("a dog",)), ("a.mp4?1", "who?", ("dog",))]
    expected += [("b.mp4", "", ("a cat",)), ("b.mp4?1", "who?", ("cat",))]
    assert [(one.id, one.question, one.texts) for one in read(folder, table)] == expected
    rows = [
        {"video": "a.mp4", "caption": ["a dog", "a pet"]},
        {"video": "a.mp4", "question": "how many?", "answer": [1, "one"], "id": "q7"},
    ]
    samples = read(folder, "\n".join(map(json.dumps, rows)), "texts.jsonl")
    assert [(one.id, one.texts) for one in samples] == [("a.mp4", ("a dog", "a pet")), ("q7", ("1", "one"))]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("video,caption\na.mp4,\n", "line 2: caption is empty; give a caption or remove the row"),
        ("video,question,answer\na.mp4,who?,\n", "line 2: answer is empty; give an answer or remove the row"),
        ("video,question,answer\na.mp4,,dog\n", "line 2: an answer without a question"),
        ("video,question,answer\na.mp4,,\n", "line 2: question is empty; give a question or remove the row"),
        ("video,question\na.mp4,who?\n", "line 2: a question without an answer; give a column answer"),
        ("video,caption,question,answer\na.mp4,,,\n", "line 2: caption is empty"),
        ("video,label\na.mp4,dog\n", "line 1: no caption and no question column"),
        (
            "video,question,answer,split\na.mp4,x,y,train\na.mp4,z,y,test\n",
            "line 3: split 'test', but 'train' in line 2",
        ),
        ("id,video,question,answer\n1,a.mp4,x,y\n1,b.mp4,x,y\n", "line 3: the same id as line 2 .1."),
        ("video,question,answer\nz.mp4,x,y\n", "none of its 1 videos exists"),
    ],
)
def test_what_is_wrong_with_a_table(folder: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read(folder, text)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"question": ["a?", "b?"], "answer": "x"}, "question holds several questions; give each a row of its own"),
        ({"question": "a?", "answer": []}, "answer is an empty list"),
        ({"question": "a?", "answer": True}, "answer True is not an answer; give a string"),
        ({"question": 3, "answer": "x"}, "question 3 is not a question"),
    ],
)
def test_what_is_wrong_with_a_line_of_json(folder: Path, row: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read(folder, json.dumps({"video": "a.mp4"} | row), "texts.jsonl")


def test_a_label_separator_means_nothing(folder: Path) -> None:
    with pytest.raises(InputError, match="label_separator means nothing for texts"):
        read(folder, "video,caption\na.mp4,x\n", label_separator="|")


def test_a_folder_holds_captions_and_questions_of_the_same_videos(tmp_path: Path) -> None:
    write_captioned_videos(tmp_path, {"train": 2, "test": 1}, size=16, num_frames=2)
    samples = read_texts(tmp_path)
    told = [one for one in samples if not one.question]
    asked = [one for one in samples if one.question]
    assert told == read_texts(tmp_path / "MSR_VTT.json")
    assert asked == read_texts(tmp_path / "nextqa", videos=tmp_path / "videos")
    assert len(told) == 3 and len(asked) == 9 and {one.clip for one in told} == {one.clip for one in asked}
    assert read_texts(tmp_path, videos=tmp_path / "videos") == samples
    for file in (tmp_path / "nextqa").glob("*.csv"):
        file.unlink()
    (tmp_path / "nextqa").joinpath("map_vid_vidorID.json").unlink()
    (tmp_path / "nextqa").rmdir()
    assert read_texts(tmp_path) == told


def test_captions_and_questions_of_a_video_are_in_one_split(tmp_path: Path) -> None:
    write_captioned_videos(tmp_path, {"train": 1, "test": 1}, size=16, num_frames=2)
    (tmp_path / "nextqa" / "train.csv").rename(tmp_path / "nextqa" / "val.csv")
    with pytest.raises(InputError, match="video0.mp4 is in split 'val', but in 'train' of MSR_VTT.json; give all"):
        read_texts(tmp_path)
