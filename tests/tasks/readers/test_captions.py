"""Videos with captions: every layout that is read, and a line for everything that is wrong with one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from core_encoder.clip_plan import Clip
from core_encoder.errors import InputError
from pretrain.world.synthetic_world import write_dataset
from tasks.readers.captions import CaptionedSample, read_captions
from tests.prismhub.small_data import one_object_class


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three files that are never opened."""
    for name in ("a.mp4", "b.mp4", "c.mp4"):
        (tmp_path / name).touch()
    return tmp_path


def read(folder: Path, text: str, name: str = "captions.csv", **columns: str) -> list[CaptionedSample]:
    (folder / name).write_text(text, encoding="utf-8")
    return read_captions(folder / name, **columns)


def test_rows_of_one_clip_become_one_sample(folder: Path) -> None:
    samples = read(
        folder,
        'video,caption,split\na.mp4,"a dog, running",train\nb.mp4,a cat,test\n'
        "a.mp4,  a   pet ,train\na.mp4,a pet,train\n",
    )
    assert samples == [
        CaptionedSample("a.mp4", Clip(str(folder / "a.mp4")), (), "train", ("a dog, running", "a pet")),
        CaptionedSample("b.mp4", Clip(str(folder / "b.mp4")), (), "test", ("a cat",)),
    ]


def test_clips_of_one_video_are_apart_and_other_columns_can_be_named(folder: Path) -> None:
    samples = read(
        folder,
        "clip;said;start;end\na.mp4;up;0;1.5\na.mp4;down;1.5;3\n",
        path_column="clip",
        label_column="said",
    )
    assert [(one.id, one.captions) for one in samples] == [("a.mp4#0-1.5", ("up",)), ("a.mp4#1.5-3", ("down",))]


def test_json_lines_hold_one_or_several(folder: Path) -> None:
    rows = [{"video": "a.mp4", "caption": ["a dog", "a\npet"], "id": "x"}, {"video": "b.mp4", "sentence": "nan"}]
    text = "\n".join(json.dumps(row) for row in rows[:1])
    assert read(folder, text, "captions.jsonl")[0] == CaptionedSample(
        "x", Clip(str(folder / "a.mp4")), (), None, ("a dog", "a pet")
    )


def test_a_headless_list_and_split_folders(folder: Path) -> None:
    assert [one.captions for one in read(folder, "a.mp4,a dog\nb.mp4,a cat\n")] == [("a dog",), ("a cat",)]
    for split in ("train", "test"):
        (folder / split).mkdir()
        (folder / split / "metadata.csv").write_text("file_name,caption\nx.mp4,something\n")
        (folder / split / "x.mp4").touch()
    assert {one.id: one.split for one in read_captions(folder)} == {"train/x.mp4": "train", "test/x.mp4": "test"}


def test_the_synthetic_world_is_read_as_it_is_written(tmp_path: Path) -> None:
    written = write_dataset(
        tmp_path / "world", [one_object_class("red circle", "approaching")], {"train": 2, "test": 1}, size=16
    )
    samples = read_captions(tmp_path / "world")
    assert [(one.id, one.split, one.captions) for one in samples] == [
        (row.path, row.split, (row.caption,)) for row in written
    ]
    assert samples[0].captions == ("a red circle approaching",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("video,caption\na.mp4,\n", "line 2: caption is empty; give a caption or remove the row"),
        ("video,caption\na.mp4,  \n", "line 2: caption is empty"),
        ("video,caption\na.mp4,nan\n", "line 2: caption is empty"),
        ("video,label\na.mp4,dog\n", "line 1: no caption column.*; name it with label_column"),
        ("video,caption\n,dog\n", "line 2: video is empty"),
        ("video,caption,split\na.mp4,x,train\na.mp4,y,test\n", "line 3: split 'test', but 'train' in line 2, of the"),
        ("video,caption,split\na.mp4,x,trian\n", "line 2: split 'trian' is unknown; did you mean 'train'"),
        ("id,video,caption\n1,a.mp4,x\n1,b.mp4,y\n", "line 3: the same id as line 2 .1., of another clip"),
        ("video,caption\nz.mp4,x\n", "none of its 1 videos exists"),
        ("video,caption\na.mp4,a dog, running\n", "line 2: 3 fields where the header has 2; put quotes around"),
        ("video,caption,start,end\na.mp4,x,3,2\n", "line 2: end 2 is not after start 3"),
        ("video,caption\n", "holds no samples"),
    ],
)
def test_what_is_wrong_with_a_table(folder: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read(folder, text)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"caption": None}, "line 1: caption is empty"),
        ({"caption": float("nan")}, "line 1: caption is empty"),
        ({"caption": []}, "line 1: caption is an empty list"),
        ({"caption": ["x", ""]}, "line 1: caption is empty"),
        ({"caption": 3}, "line 1: caption 3 is not a caption; give a string"),
        ({"caption": {"en": "x"}}, "line 1: caption {'en': 'x'} is not a caption"),
        ({}, "line 1: no caption column"),
    ],
)
def test_what_is_wrong_with_a_line_of_json(folder: Path, row: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read(folder, json.dumps({"video": "a.mp4"} | row), "captions.jsonl")


def test_what_is_wrong_with_the_place(folder: Path) -> None:
    with pytest.raises(InputError, match="holds no manifest with captions"):
        read_captions(folder)
    with pytest.raises(InputError, match="no such file or folder"):
        read_captions(folder / "none.csv")
    with pytest.raises(InputError, match="label_separator means nothing for captions"):
        read(folder, "video,caption\na.mp4,x\n", label_separator="|")
