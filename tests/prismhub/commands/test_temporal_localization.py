"""From long H.264 videos with ActivityNet's annotations to an adapter, its scores, and its answers as files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import prismhub
from adapters.kinds.linear import Linear
from adapters.registry import load_adapter, save_to_registry
from pretrain.world.event_videos import write_event_videos
from prismhub.cli import run
from tasks.readers.segments import read_segments
from tests.prismhub.small_data import FAST, read_json

TRAIN = ("--adapter", "temporal_localizer", *FAST, "--head", "hidden=32", "levels=4", "threshold=0.02")
SPANS = {"length_s": (8.0, 11.0), "event_s": (1.5, 3.0), "pause_s": (1.0, 2.0)}


@pytest.fixture(scope="session")
def events(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six videos with two shapes, and what happens in them; read only."""
    folder = tmp_path_factory.mktemp("events")
    return write_event_videos(folder, {"train": 4, "val": 2, "test": 2}, size=48, shapes=("star", "ring"), **SPANS)


@pytest.fixture(scope="session")
def home_of_events(events: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A PRISMHUB_HOME with adapters `when` and `proposals`, trained on `events`, and `what`, on clips; to be copied."""
    home = tmp_path_factory.mktemp("home of events")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PRISMHUB_HOME", str(home))
        assert run(["train", "--data", str(events), *TRAIN, "--name", "when"]) == 0
        assert run(["train", "--data", str(events), *TRAIN, "class_agnostic=true", "--name", "proposals"]) == 0
        rows = [
            f"{sample.clip.path},{one.start_s},{one.end_s},{one.label}"
            for sample in read_segments(events)
            for one in sample.timeline
        ]
        clips = home / "clips.csv"
        clips.write_text("\n".join(["path,start,end,label", *rows]))
        assert run(["train", "--data", str(clips), "--adapter", "linear", *FAST, "--name", "what"]) == 0
    return home


@pytest.fixture
def when(home_of_events: Path, private_home: Path) -> Path:
    """The home of this test holds the adapters."""
    return shutil.copytree(home_of_events, private_home, dirs_exist_ok=True)


@pytest.fixture
def video(events: Path) -> Path:
    return events.parent / "videos" / "test-000.mp4"


@pytest.mark.usefixtures("when")
def test_it_is_evaluated_on_the_test_split(events: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = read_json(capsys, "evaluate", "--data", str(events), "--adapter", "when", "--quiet")
    assert result["protocol"] == "temporal-localization-v1" and result["main_metric"] == "map"
    assert set(result["scores"]) == {"map", "map@0.5", "map@0.75", "map@0.95", "ar@10", "ar@100", "auc"}
    assert result["split"] == "test" and result["n_evaluated"] == 2 and result["also_in_train"] == 0
    plan = result["clip_plan"]
    assert (plan["sampling"], plan["fps"], plan["window_stride"]) == ("dense", 8.0, 4)


@pytest.mark.usefixtures("when")
def test_the_answer_is_seconds_of_the_video(video: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (said,) = read_json(capsys, "predict", str(video), "--adapter", "when", "--quiet", "--all-scores")
    assert said["video"] == str(video) and said["segments"]
    assert all(0 <= one["start"] < one["end"] <= 11.1 for one in said["segments"])
    assert {one["label"] for one in said["segments"]} <= {"star", "ring"}
    (best,) = read_json(capsys, "predict", str(video), "--adapter", "when", "--quiet", "--top", "1")
    assert best["segments"] == said["segments"][:1]
    (none,) = read_json(capsys, "predict", str(video), "--adapter", "when", "--quiet", "--threshold", "0.999")
    assert none["segments"] == []


@pytest.mark.usefixtures("when")
def test_an_answer_without_segments_says_how_to_see_the_unsure_ones(
    video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ask = ["predict", str(video), "--adapter", "when", "--threshold", "0.999"]
    note = "when: in 1 of 1 videos no segment reaches the threshold 0.999, the surest has 0."
    assert run(ask) == 0 and note in capsys.readouterr().err
    for more in (["--all-scores"], ["--top", "2"], ["--format", "activitynet"]):
        assert run([*ask, *more]) == 0 and note not in capsys.readouterr().err
    assert run([*ask, "--timeline", str(tmp_path / "drawn")]) == 0
    assert f"the timelines: {(tmp_path / 'drawn').as_uri()}" in capsys.readouterr().err


@pytest.mark.usefixtures("when")
def test_answers_as_files(video: Path, events: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(video, tmp_path / "a.mp4")
    ask = ["predict", str(tmp_path / "a.mp4"), "--adapter", "when", "--quiet", "--format"]
    for name, out in (("csv", "found.csv"), ("boris", "events.tsv"), ("activitynet", "found.json")):
        assert run([*ask, name, "--out", str(tmp_path / out)]) == 0
        assert (tmp_path / out).exists()
    assert len(json.loads((tmp_path / "found.json").read_text())["results"]["a"]) > 0
    for name in ("found.csv", "events.tsv"):
        (sample,) = read_segments(tmp_path / name)
        assert sample.clip.path == str(tmp_path / "a.mp4")
    assert run([*ask, "vtt", "--out", str(tmp_path / "subtitles")]) == 0
    assert (tmp_path / "subtitles" / "a.vtt").read_text().startswith("WEBVTT")
    capsys.readouterr()
    assert run([*ask, "csv"]) == 0
    assert capsys.readouterr().out == (tmp_path / "found.csv").read_text()


@pytest.mark.usefixtures("when")
def test_a_picture_of_the_timeline(video: Path, tmp_path: Path) -> None:
    prismhub.predict(videos=str(video), adapter="when", timeline=tmp_path / "pictures", quiet=True)
    picture = (tmp_path / "pictures" / "test-000.svg").read_text()
    assert picture.startswith("<svg") and "<rect" in picture and "test-000.mp4" in picture


@pytest.mark.usefixtures("when")
def test_proposals_are_named_by_another_adapter(
    events: Path, video: Path, capsys: pytest.CaptureFixture[str], says: Callable[..., str]
) -> None:
    ask = ("predict", str(video), "--adapter", "proposals", "--quiet", "--top", "2")
    (said,) = read_json(capsys, *ask)
    assert {one["label"] for one in said["segments"]} == {"proposal"}
    (named,) = read_json(capsys, *ask, "--classifier", "what")
    assert named["classified_by"] == "what@v1" and {one["label"] for one in named["segments"]} <= {"star", "ring"}
    (named,) = read_json(capsys, *ask, "--classifier", "what", "--threshold", "0.999")
    assert len(named["segments"]) == 2, "as many as were asked for, however unsure"
    result = read_json(
        capsys, "evaluate", "--data", str(events), "--adapter", "proposals", "--classifier", "what", "--quiet"
    )
    assert result["adapter"] == "proposals + what@v1" and result["config"]["classifier"] == "what"
    other = load_adapter("what")
    other.info = replace(other.info, targets=replace(other.info.targets, label_names=("run", "star")))
    save_to_registry(other, "other")
    foreign = says(2, "evaluate", "--data", str(events), "--adapter", "proposals", "--classifier", "other")
    assert "classifier 'other' knows class 'run', which is none of task" in foreign, "before anything is asked"
    assert "have classes already" in says(2, "predict", str(video), "--adapter", "when", "--classifier", "what")
    assert "does not answer with classes" in says(2, *ask, "--classifier", "when")
    what = load_adapter("what")
    context = replace(what.context, targets=replace(what.context.targets, multi_label=True), assets=None)
    save_to_registry(Linear.build({"multi_label": True}, context).described_as(what.info), "several")
    (named,) = read_json(capsys, *ask, "--classifier", "several")
    assert named["classified_by"] == "several@v1" and {one["label"] for one in named["segments"]} <= {"star", "ring"}


@pytest.mark.usefixtures("when")
def test_what_is_asked_wrongly(video: Path, events: Path, tmp_path: Path, says: Callable[..., str]) -> None:
    ask = ("predict", str(video), "--adapter", "when")
    assert "cannot be written as 'bori'; did you mean 'boris'" in says(2, *ask, "--format", "bori")
    assert "out needs format" in says(2, *ask, "--out", str(tmp_path / "x.csv"))
    assert "is a folder; --format csv wants a file" in says(2, *ask, "--format", "csv", "--out", str(tmp_path))
    assert "looks at a video as a whole" in says(2, *ask, "--window", "2")
    both = (
        "predict",
        str(video),
        str(video.parent / "test-001.mp4"),
        "--adapter",
        "when",
        "--format",
        "vtt",
        "--quiet",
    )
    assert "give a folder with --out" in says(2, *both)
    what = ("predict", str(video), "--adapter", "what")
    assert "answers of linear cannot be written as 'csv'; --json prints them" in says(2, *what, "--format", "csv")
    assert "answers of linear have no file format for out" in says(2, *what, "--out", str(tmp_path / "x.csv"))
    assert "timeline means nothing for linear" in says(2, *what, "--timeline", str(tmp_path / "t"))
    assert "threshold means nothing for linear" in says(2, *what, "--threshold", "0.5")


def test_a_segment_outside_of_its_video_is_said_before_training(
    events: Path, tmp_path: Path, says: Callable[..., str]
) -> None:
    shutil.copytree(events.parent / "videos", tmp_path / "videos")
    rows = ["video,start,end,label,split", "train-000.mp4,1,2,star,train", "train-001.mp4,60,70,ring,train"]
    rows += ["val-000.mp4,1,2,star,val", "test-000.mp4,1,2,star,test"]
    (tmp_path / "rows.csv").write_text("\n".join(rows))
    line = says(2, "train", "--data", str(tmp_path / "rows.csv"), *TRAIN)
    assert "train-001.mp4: segment [60, 70] 'ring' lies outside the video, which lasts" in line


def test_classes_that_the_adapter_does_not_know(when: Path, events: Path, says: Callable[..., str]) -> None:
    content = json.loads(events.read_text().replace('"star"', '"stars"'))
    other = when / "other.json"
    other.write_text(json.dumps(content))
    line = says(2, "evaluate", "--data", str(other), "--videos", str(events.parent / "videos"), "--adapter", "when")
    assert "label 'stars' is not a class; did you mean 'star'" in line
    assert "videos means nothing here" in says(
        2, "train", "--data", str(events.parent / "videos"), "--videos", str(events.parent), *FAST
    )
