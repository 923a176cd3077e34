"""ActivityNet Captions as paragraphs, and what is wrong with its files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from core_encoder.errors import InputError
from tasks.readers.activitynet_captions import read_paragraphs
from tasks.readers.dataset_folder import DatasetFolder
from tests.tasks.miniatures import activitynet_captions
from tests.tasks.miniatures.clips import with_windows_ends


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return activitynet_captions.write(tmp_path)


def test_the_sentences_of_a_video_are_one_text(folder: Path) -> None:
    first, second, third = read_paragraphs(DatasetFolder(folder), "val_1")
    assert first.captions == ("A square is seen on the left. It moves to the other side. It stays there.",)
    assert second.captions == ("Someone lifts a weight and drops it.",)
    assert (third.id, third.clip.end_s, third.clip.start_s) == ("-val_12_QOdj", None, 0.0)
    assert all(Path(one.clip.path).is_file() for one in (first, second, third))


def test_videos_without_the_prefix(folder: Path) -> None:
    for video in (folder / "videos").iterdir():
        video.rename(video.with_name(video.name.removeprefix("v_")))
    with_windows_ends(folder / "val_2.json")
    assert all(Path(one.clip.path).is_file() for one in read_paragraphs(DatasetFolder(folder), "val_2"))


def test_damage_is_named(folder: Path) -> None:
    file = folder / "val_1.json"
    good = json.loads(file.read_text())
    name, entry = next(iter(good.items()))
    for damaged, complaint in (
        ({name: {"duration": 2, "timestamps": []}}, rf"val_1.json: {name}: there is no field 'sentences'"),
        ({name: entry | {"sentences": ["", "a", "b"]}}, rf"{name}: sentences 1 '' is empty or no text"),
        ({name: entry | {"sentences": ["a"]}}, rf"{name}: 1 sentences but 3 timestamps"),
        ([entry], r"val_1.json: must be an object"),
        ({}, r"val_1.json: holds nothing"),
    ):
        file.write_text(json.dumps(damaged))
        with pytest.raises(InputError, match=complaint):
            read_paragraphs(DatasetFolder(folder), "val_1")
    file.unlink()
    with pytest.raises(InputError, match=r"there is no val_1.json in it"):
        read_paragraphs(DatasetFolder(folder), "val_1")
