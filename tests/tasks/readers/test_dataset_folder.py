"""Annotation files and videos are found by name, whatever the layout; what is missing is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from core_encoder.errors import InputError
from tasks.readers.dataset_folder import DatasetFolder


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    return path


def test_an_annotation_file_is_found_wherever_it_lies(tmp_path: Path) -> None:
    deep = touch(tmp_path / "annotations" / "v1" / "val.csv")
    assert DatasetFolder(tmp_path).file("validate.csv", "val.csv") == deep
    near = touch(tmp_path / "annotations" / "val.csv")
    data = DatasetFolder(tmp_path)
    assert data.file("val.csv") == near and data.file("v1/val.csv") == deep
    assert data.has_file("val.csv", "x.csv") and not data.has_file("x.csv") and not data.has_file("v2/val.csv")
    touch(tmp_path / "other" / "val.csv")
    with pytest.raises(InputError, match=r"both annotations/val.csv and other/val.csv may be val.csv; keep one"):
        DatasetFolder(tmp_path).file("val.csv")


def test_a_missing_annotation_file_says_where_one_gets_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there is no a.csv or b.csv in it or below it; get it from example.org"):
        DatasetFolder(tmp_path, "example.org").file("a.csv", "b.csv")
    with pytest.raises(InputError, match="no such folder"):
        DatasetFolder(tmp_path / "none")


@pytest.mark.parametrize("place", ["a.mp4", "a.webm", "videos/a.mkv", "train/some class/a.MP4"])
def test_a_video_is_found_by_its_name_with_or_without_ending(tmp_path: Path, place: str) -> None:
    video = touch(tmp_path / place)
    touch(tmp_path / "ab.mp4")
    data = DatasetFolder(tmp_path)
    assert data.video("a") == data.video("other", "a") == data.video(video.name) == str(video)
    assert data.video("a.flv") == str(video)  # the official ending, which a mirror has changed


def test_a_name_with_a_folder_tells_videos_apart(tmp_path: Path) -> None:
    one, two = touch(tmp_path / "clips" / "running" / "1.mp4"), touch(tmp_path / "clips" / "sitting" / "1.mp4")
    data = DatasetFolder(tmp_path)
    assert (data.video("running/1.mp4"), data.video("sitting/1")) == (str(one), str(two))
    assert data.video("1", under="sitting") == str(two)
    with pytest.raises(InputError, match=r"both clips/running/1.mp4 and clips/sitting/1.mp4 may be 1; one video has"):
        data.video("1")
    assert data.video("ing/1") == str(tmp_path / "ing/1.mp4")  # no such folder: half a name is none


def test_a_missing_video_is_where_it_would_lie(tmp_path: Path) -> None:
    data = DatasetFolder(tmp_path / "." / "x" / "..")
    assert data.video("a", "b") == str(tmp_path / "a.mp4") and data.video("a.avi") == str(tmp_path / "a.avi")


def test_hidden_files_and_annotations_are_no_videos(tmp_path: Path) -> None:
    touch(tmp_path / ".cache" / "a.mp4")
    touch(tmp_path / "b.json")
    data = DatasetFolder(tmp_path)
    assert not Path(data.video("a")).exists() and not Path(data.video("b")).exists()


def test_the_folder_is_walked_once(tmp_path: Path) -> None:
    touch(tmp_path / "a.mp4")
    data = DatasetFolder(tmp_path)
    data.video("a")
    touch(tmp_path / "b" / "c.mp4")
    assert data.video("c") == str(tmp_path / "c.mp4")
