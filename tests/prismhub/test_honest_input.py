"""What is strange about the data is said by the commands, in one line."""

from __future__ import annotations

import base64
import itertools
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

from prismhub.cli import run
from tests.prismhub.small_data import FAST, read_json
from tests.videos import write_video

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


def test_an_adapter_knows_the_videos_it_was_trained_on(
    splits: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], says: Callable[..., str]
) -> None:
    """Whatever their names, on whatever data it is evaluated."""
    other = tmp_path / "other"
    for label in "bd":
        (other / label).mkdir(parents=True)
        for i in range(3):
            shutil.copy(splits / "test" / label / f"{i}.mp4", other / label / f"new {i}.mp4")
        shutil.copy(splits / "train" / label / "1.mp4", other / label / "old.mp4")
    evaluate = ["evaluate", "--data", str(other), "--adapter", "x"]
    done = read_json(capsys, *evaluate, "--quiet")
    assert done["also_in_train"] == 2
    assert run(evaluate) == 0
    said = capsys.readouterr().err
    assert "note: the adapter was trained on 2 of the 8 videos (same bytes)" in said
    assert "scores are too high" not in said, "it is known which"
    assert read_json(capsys, "evaluate", "--data", str(splits), "--adapter", "x", "--quiet")["also_in_train"] == 0
    card = trained / "adapters" / "x" / "v1" / "adapter_config.json"
    record = json.loads(card.read_text())
    assert len(base64.b64decode(record["training"].pop("videos"))) == 6 * 6
    card.write_text(json.dumps(record))
    assert read_json(capsys, *evaluate, "--quiet")["also_in_train"] is None
    assert run(evaluate) == 0
    assert "if the adapter was trained on some, scores are too high" in capsys.readouterr().err


@pytest.mark.usefixtures("private_home")
@pytest.mark.parametrize("adapter", ["map_classifier", "linear"])
def test_near_duplicates_are_counted_on_request(
    splits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], adapter: str
) -> None:
    data = shutil.copytree(splits, tmp_path / "data")
    with av.open(str(data / "train" / "b" / "2.mp4")) as file:
        frames = np.stack([frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)])
    write_video(data / "test" / "b" / "coarser.mp4", frames, crf=20)
    shutil.copy(data / "train" / "d" / "0.mp4", data / "test" / "d" / "copy.mp4")
    train = ["train", "--data", str(data), *LOUD, "--adapter", adapter, "--name", "x"]
    assert read_json(capsys, *train)["result"]["near_train"] is None
    again = read_json(capsys, *train, "--near-duplicates", "0.99")
    assert again["adapter"] == "x@v1" and again["frames_decoded"] == 0, "the same run, and nothing is decoded"
    near = again["result"]["near_train"]
    assert (near["count"], near["pairs"], near["least_cosine"]) == (1, 1, 0.99)
    [pair] = near["nearest"]
    assert "coarser" in pair["id"] and pair["train_id"].endswith("train/b/2.mp4") and pair["cosine"] > 0.99
    assert again["result"]["also_in_train"] == 1, "the copy is counted there"
    assert run([*train, "--near-duplicates", "0.99"]) == 0
    said = capsys.readouterr().err
    assert "note: 1 of 8 test clips are near one of train (cosine of at least 0.99), the nearest " in said


@pytest.mark.usefixtures("private_home")
def test_a_cosine_out_of_range(splits: Path, says: Callable[..., str]) -> None:
    line = says(2, "train", "--data", str(splits), *FAST, "--near-duplicates", "95")
    assert "near_duplicates is a cosine above 0 and up to 1, not 95" in line


@pytest.mark.skipif(os.name == "nt", reason="no line breaks in file names")
@pytest.mark.usefixtures("private_home")
def test_a_line_break_in_a_file_name_breaks_no_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "two\nlines.mp4").write_text("<html></html>")
    assert run(["encode", str(tmp_path), "--encoder", "nano"]) == 3
    assert "two\n" not in capsys.readouterr().err
