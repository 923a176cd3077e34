"""ActivityNet's official file as a benchmark; the readers of own data are tested with the segments."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from core_encoder.errors import InputError
from tasks.registry import find_benchmark
from tasks.sample import SegmentSample
from tests.tasks.miniatures import activitynet
from tests.tasks.miniatures.clips import with_windows_ends


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return activitynet.write(tmp_path)


def test_the_official_file_is_read_as_it_is(folder: Path) -> None:
    for _ in range(2):
        task = find_benchmark("activitynet").open(folder)
        assert task.label_names == activitynet.CLASSES
        assert [one.id for one in task.samples("test")] == ["--0edUL8zmA", "kXDDxhi7RCo"]
        first = task.samples("test")[0]
        assert isinstance(first, SegmentSample) and first.clip.path == str(folder / "videos" / "v_--0edUL8zmA.mp4")
        assert [(one.start_s, one.end_s) for one in first.timeline.segments] == [(1.0, 3.0), (3.5, 5.0)]
        assert all(Path(sample.clip.path).is_file() for split in task.splits for sample in task.samples(split))
        with_windows_ends(folder / "activity_net.v1-3.min.json")
        for video in (folder / "videos").iterdir():
            video.rename(video.with_name(video.name.removeprefix("v_")))
        for video in (folder / "videos").iterdir():
            video.rename(video.with_name(f"v_{video.name}"))


def change(folder: Path, video: str, **fields: Any) -> None:
    file = folder / "activity_net.v1-3.min.json"
    content = json.loads(file.read_text())
    content["database"][video] |= fields
    file.write_text(json.dumps(content))


def test_damage_is_named(folder: Path) -> None:
    change(folder, "kXDDxhi7RCo", annotations=[{"segment": [1.0, 2.0], "label": "Archry"}])
    with pytest.raises(InputError, match=r"video 'kXDDxhi7RCo': annotation 1: label 'Archry' is not in the taxonomy"):
        find_benchmark("activitynet").open(folder)
    change(folder, "kXDDxhi7RCo", annotations=[{"segment": [5.0, "x"], "label": "Archery"}])
    with pytest.raises(InputError, match=r"video 'kXDDxhi7RCo': annotation 1: segment 'x' is not a time"):
        find_benchmark("activitynet").open(folder).samples("test")
    change(folder, "kXDDxhi7RCo", annotations=[])
    for video in activitynet.VIDEOS["validation"]:
        change(folder, video, subset="testing", annotations=[])
    with pytest.raises(InputError, match=r"min.json: the subset 'validation' holds no video"):
        find_benchmark("activitynet").open(folder).samples("test")


def test_segments_are_those_of_the_official_evaluator(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The official file has segments that end after the video does; they count as they are written."""
    segments = [[2.0, 60.0], [5.0, 2.0], [7.0, 9.0]]
    change(folder, "kXDDxhi7RCo", annotations=[{"segment": one, "label": "Archery"} for one in segments])
    task = find_benchmark("activitynet").open(folder)
    sample = task.samples("test")[1]
    assert isinstance(sample, SegmentSample)
    assert [(one.start_s, one.end_s) for one in sample.timeline.segments] == [(2.0, 60.0), (7.0, 9.0)]
    assert "video 'kXDDxhi7RCo': annotation 2: 'Archery' ends before it starts; left out" in caplog.text
    task.check_length(sample, activitynet.LENGTH_S)
