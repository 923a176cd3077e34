"""What is strange about the data is said by the commands, in one line."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from prismhub.cli import run
from tests.prismhub.small_data import FAST, read_json

LOUD = tuple(word for word in FAST if word != "--quiet")


def clips_of(videos: Path, table: Path, *spans: tuple[float, float]) -> str:
    """A manifest of clips of labelled videos, the spans in turn."""
    found = sorted(videos.rglob("*.mp4"))
    bounds = itertools.cycle(spans)
    rows = [",".join(map(str, (path, path.parent.name, *next(bounds)))) for path in found]
    table.write_text("path,label,start,end\n" + "\n".join(rows) + "\n")
    return str(table)


@pytest.mark.usefixtures("private_home")
def test_milliseconds_taken_for_seconds_are_told(
    classes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The videos last 0.75 s."""
    table = clips_of(classes, tmp_path / "clips.csv", (0, 700), (0, 0.8))
    line = "note: 4 of 8 clips end after their video, by up to 699 s (4 cut there); are the times milliseconds?"
    assert run(["encode", table, "--encoder", "nano"]) == 0
    assert line in capsys.readouterr().err
    assert run(["train", "--data", table, *LOUD, "--name", "cut"]) == 0
    assert "after their video" not in capsys.readouterr().err, "of what is cached it was told before"
    assert run(["train", "--data", table, *LOUD, "--name", "anew", "--num-frames", "8", "--views", "2"]) == 0
    assert line in capsys.readouterr().err
    assert run(["predict", clips_of(classes, tmp_path / "again.csv", (0, 600)), "--adapter", "cut"]) == 0
    assert "note: 8 of 8 clips end after their video, by up to 599 s" in capsys.readouterr().err


@pytest.mark.usefixtures("private_home")
def test_clips_that_start_after_their_video_are_failures(
    classes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], says: Callable[..., str]
) -> None:
    reason = "the clip starts at 100 s but the video lasts 0.75 s; are the times milliseconds? They are read as seconds"
    table = clips_of(classes, tmp_path / "clips.csv", (100, 700))
    done = read_json(capsys, "encode", table, "--encoder", "nano", "--quiet", code=3)
    assert done["encoded"] == 0 and [one["reason"] for one in done["failed"]] == [reason] * 8
    assert [one["clip"]["start_s"] for one in done["overruns"]] == [100] * 8
    assert run(["encode", table, "--encoder", "nano"]) == 3
    assert (
        "note: 8 of 8 clips end after their video, by up to 699 s (8 failed, starting after it)"
        in capsys.readouterr().err
    )
    line = says(2, "train", "--data", table, *FAST)
    assert "8 of 8 videos cannot be read" in line and line.endswith(reason)
    rows = [(path, path.parent.name) for path in sorted(classes.rglob("*.mp4"))]
    split = tmp_path / "split.csv"
    given = [f"{path},{label},{i % 2 * 100},,{('train', 'test')[i % 2]}" for i, (path, label) in enumerate(rows)]
    split.write_text("path,label,start,end,split\n" + "\n".join(given) + "\n")
    line = says(2, "train", "--data", str(split), *FAST, "--max-unreadable", "1")
    assert "no readable video is left in the test split; the first: " in line and "the clip starts at 100 s" in line
