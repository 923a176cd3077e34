"""CRIM13's annotation texts, one for two views."""

from __future__ import annotations

from pathlib import Path

import pytest

from core_encoder.errors import InputError
from tasks.readers.crim13 import read_crim13
from tasks.readers.dataset_folder import DatasetFolder
from tasks.registry import find_benchmark
from tests.tasks.miniatures import crim13
from tests.tasks.miniatures.clips import with_windows_ends


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return crim13.write(tmp_path)


def test_each_view_has_its_videos(folder: Path) -> None:
    for _ in range(2):
        side, top = (find_benchmark(f"crim13-{view}").open(folder) for view in ("side", "top"))
        assert side.label_names == top.label_names == ("attack", "sniff")
        assert [(one.id, one.labels) for one in side.samples("test")] == [
            ("030609_A29_Block12_BCfe1@8", ()),
            ("030609_A29_Block12_BCfe1@24", ("sniff",)),
            ("030609_A29_Block12_BCfe1@40", ("attack",)),
            ("030609_A29_Block12_BCfe1@56", ("attack",)),
        ]
        for task, view in ((side, "side"), (top, "top")):
            paths = {sample.clip.path for split in task.splits for sample in task.samples(split)}
            assert len(paths) == 3 and all(path.endswith(f"_{view}.mp4") and Path(path).is_file() for path in paths)
        with_windows_ends(folder / "test" / "030609_A29_Block12_BCfe1.txt")


def test_views_in_folders_of_their_own(folder: Path) -> None:
    for video in list(folder.rglob("*.mp4")):
        name, _, view = video.stem.rpartition("_")
        (video.parent / view).mkdir(exist_ok=True)
        video.rename(video.parent / view / f"{name}.mp4")
    paths = {sample.clip.path for sample in read_crim13(DatasetFolder(folder), "train", "top")}
    assert len(paths) == 2 and all("/train/top/" in path and Path(path).is_file() for path in paths)


def test_damage_is_named(folder: Path) -> None:
    file = folder / "test" / "030609_A29_Block12_BCfe1.txt"
    good = file.read_text()
    for old, new, message in (
        (
            "21     36",
            "36     21",
            r"BCfe1.txt: line 11: '36     21     sniff' is no 'start end type' with frames from 1",
        ),
        ("36     sniff", "36     snif", r"BCfe1.txt: line 11: type 'snif' is not in the configuration above"),
        ("       1     20", "       x     20", r"BCfe1.txt: line 10: 'x     20     other' is no 'start end type'"),
        ("37     64", "37     99", r"BCfe1.txt: labels 99 frames, but .*_side.mp4 has 64"),
    ):
        file.write_text(good.replace(old, new, 1))
        with pytest.raises(InputError, match=message):
            read_crim13(DatasetFolder(folder), "test", "side")
    file.write_text(good.partition("S1:")[0])
    with pytest.raises(InputError, match=r"BCfe1.txt: holds no 'start end type' below a line 'S1:'"):
        read_crim13(DatasetFolder(folder), "test", "side")
    file.unlink()
    with pytest.raises(InputError, match=r"no annotation text \(.txt\) lies in a folder 'test'"):
        read_crim13(DatasetFolder(folder), "test", "side")
