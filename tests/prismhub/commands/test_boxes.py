"""Who does what where, from the command line: AVA's files in, training, evaluation, AVA rows and segments out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pretrain.world.actor_videos import write_actor_videos
from prismhub.cli import run
from tests.prismhub.small_data import read_json

Says = Callable[..., str]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Videos of two actors with AVA's files; read only."""
    return write_actor_videos(tmp_path_factory.mktemp("actors"), {"train": 4, "val": 2, "test": 2}, size=64)


def train_line(world: Path, *more: str) -> list[str]:
    return [
        *("train", "--data", str(world / "ava_train.csv"), "--val", str(world / "ava_val.csv")),
        *("--labels", str(world / "labels.pbtxt"), "--videos", str(world / "clips")),
        *("--adapter", "spatiotemporal_localizer", "--encoder", "nano", "--epochs", "2", "--accelerator", "cpu"),
        *("--quiet", "--name", "actors", "--head", "hidden=16", "heads=2", *more),
    ]


def evaluate_line(world: Path, *more: str) -> list[str]:
    data, labels = str(world / "ava_test.csv"), str(world / "labels.pbtxt")
    about = ("--data", data, "--labels", labels, "--videos", str(world / "clips"), "--adapter", "actors", "--quiet")
    return ["evaluate", *about, *more]


@pytest.fixture(scope="module")
def home_of_actors(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home of actors")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PRISMHUB_HOME", str(home))
        assert run(train_line(world)) == 0
    return home


@pytest.fixture
def trained(home_of_actors: Path, private_home: Path) -> Path:
    return shutil.copytree(home_of_actors, private_home, dirs_exist_ok=True)


@pytest.mark.usefixtures("trained")
def test_training_ends_with_frame_map_on_the_given_split(
    world: Path, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = read_json(capsys, *train_line(world))  # the same again finds it finished
    result = done["result"]
    assert done["adapter"] == "actors@v1" and done["frames_decoded"] == 0
    assert (result["split"], result["main_metric"], result["n_evaluated"]) == ("val", "frame_map", 4)
    assert result["protocol"] == "ava-frame-map-v1, boxes: ground truth"
    assert 0 < result["scores"]["frame_map"]["value"] < 1
    config = json.loads((trained / "adapters" / "actors" / "v1" / "adapter_config.json").read_text())
    assert config["training"]["label_ids"] == list(range(1, 21)) and config["targets"]["multi_label"]


@pytest.mark.usefixtures("trained")
def test_evaluation_on_true_and_on_given_boxes(world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    true = read_json(capsys, *evaluate_line(world))
    assert (true["n_evaluated"], true["protocol"][-12:], true["split"]) == (4, "ground truth", "all")
    rows = [line.split(",") for line in (world / "ava_test.csv").read_text().splitlines()]
    found = tmp_path / "found.csv"
    found.write_text("".join(",".join([*row[:6], "", "0.9"]) + "\n" for row in rows))
    given = read_json(capsys, *evaluate_line(world, "--detections", str(found)))
    assert given["protocol"] == "ava-frame-map-v1, boxes: found.csv" and given["data_digest"] != true["data_digest"]
    same = read_json(capsys, *evaluate_line(world, "--detections", str(world / "ava_test.csv")))
    assert same["scores"]["frame_map"]["value"] == pytest.approx(true["scores"]["frame_map"]["value"])
    found.write_text("test-000,1,0.9,0.9,1.0,1.0,,0.9\n")  # of nobody
    assert read_json(capsys, *evaluate_line(world, "--detections", str(found)))["scores"]["frame_map"]["value"] == 0
    excluded = tmp_path / "excluded.csv"
    excluded.write_text("test-000,0001\n")
    assert read_json(capsys, *evaluate_line(world, "--excluded", str(excluded)))["n_evaluated"] == 3


@pytest.mark.usefixtures("trained")
def test_predictions_as_ava_rows_are_what_evaluation_reads(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    predict = [
        "predict",
        str(world / "clips"),
        "--boxes",
        str(world / "ava_test.csv"),
        "--adapter",
        "actors",
        "--quiet",
    ]
    assert run([*predict, "--format", "ava"]) == 0
    rows = [line.split(",") for line in capsys.readouterr().out.splitlines()]
    truth = [line.split(",") for line in (world / "ava_test.csv").read_text().splitlines()]
    people = {tuple(row[:6]) for row in truth}
    assert len(rows) == 20 * len(people) and {tuple(row[:6]) for row in rows} == people
    assert {int(row[6]) for row in rows} == set(range(1, 21)) and all(0 <= float(row[7]) <= 1 for row in rows)
    answers = read_json(capsys, *predict)
    assert len(answers) == 2 and [box["time"] for box in answers[0]["boxes"]] == [1.0, 1.0, 3.0, 3.0]


def test_the_model_card_says_how_to_ask(world: Path, trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    card = (trained / "adapters" / "actors" / "v1" / "README.md").read_text()
    code = card.partition("```python\n")[2].partition("```")[0]
    exec(code.replace("video.mp4", str(world / "clips" / "test-001.mp4")), {})
    assert capsys.readouterr().out.startswith("(")


@pytest.mark.usefixtures("trained")
def test_tracks_become_segments(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    video = str(world / "clips" / "test-001.mp4")
    asked = ("--boxes", str(world / "tracks"), "--adapter", "actors", "--every", "1", "--quiet")
    (answer,) = read_json(capsys, "predict", video, *asked, "--top", "1")
    assert set(answer["tracks"]) == {"1", "2"} and len(answer["boxes"]) == 8
    assert run(["predict", video, *asked, "--format", "segments"]) == 0
    header, *lines = capsys.readouterr().out.splitlines()
    assert header == "video,track,start,end,label,score"
    for line in lines:
        name, track, start, end, _, score = line.split(",")
        assert name == "test-001.mp4" and track in "12" and 0 <= float(start) < float(end) <= 4
        assert float(score) >= 0.5
    assert run(["predict", video, *asked, "--top", "2"]) == 0
    assert "track" in capsys.readouterr().out


def test_detections_to_learn_from_join_the_true_boxes(world: Path, tmp_path: Path) -> None:
    from tasks.families.spatiotemporal import SpatiotemporalTask

    rows = [line.split(",") for line in (world / "ava_train.csv").read_text().splitlines()]
    (tmp_path / "found.csv").write_text("".join(",".join([*row[:6], "", "0.9"]) + "\n" for row in rows))
    files = {"val": world / "ava_val.csv", "train_detections": tmp_path / "found.csv"}
    samples = SpatiotemporalTask.read_samples(world / "ava_train.csv", videos=world / "clips", **files)
    train = [sample for sample in samples if sample.split == "train"]
    assert all(len(sample.asked) == 4 and sample.source == "ground truth and found.csv" for sample in train)
    assert all(len(sample.asked) == 2 for sample in samples if sample.split == "val")
    with pytest.raises(ValueError, match="train_detections needs the split"):
        SpatiotemporalTask.read_samples(
            world / "ava_train.csv", videos=world / "clips", train_detections=tmp_path / "found.csv"
        )


def test_what_is_wrong_is_one_line(world: Path, tmp_path: Path, says: Says) -> None:
    wrong = tmp_path / "wrong.csv"
    wrong.write_text("train-000,0001,0.1,0.2,1.3,0.8,4,1\n")
    line = train_line(world)
    line[2] = str(wrong)
    assert "wrong.csv: line 1: box 0.1 0.2 1.3 0.8 reaches outside the picture" in says(2, *line)
    wrong.write_text("train-000,0099,0.1,0.2,0.3,0.8,4,1\n")
    assert "there is no frame at 99 s" in says(2, *line)
    wrong.write_text("train-000,0001,0.1,0.2,0.3,0.8,99,1\n")
    assert "nobody in the train split has a label that counts" in says(2, *line)
    wrong.write_text("val-000,0001,0.1,0.2,0.3,0.8,4,1\n")
    assert "val-000@1: is in train and in val" in says(2, *line)
    assert "labels means nothing for an adapter that learns classes" in says(
        2, "train", "--data", str(world / "clips"), "--labels", str(world / "labels.pbtxt")
    )
    assert "label_column means nothing here" in says(2, *train_line(world), "--label-column", "x")
    assert "context must be above 0 seconds" in says(2, *train_line(world), "--context", "0")


@pytest.mark.usefixtures("trained")
def test_what_is_wrong_with_a_question_is_one_line(world: Path, tmp_path: Path, says: Says) -> None:
    clips, boxes = str(world / "clips"), str(world / "ava_test.csv")
    assert "give the boxes with --boxes" in says(2, "predict", clips, "--adapter", "actors")
    assert "window means nothing with boxes" in says(
        2, "predict", clips, "--adapter", "actors", "--boxes", boxes, "--window", "1"
    )
    wrong = tmp_path / "wrong.csv"
    wrong.write_text("test-000,0001,10,20,30,80\n")
    assert "seems to be in pixels" in says(2, "predict", clips, "--adapter", "actors", "--boxes", str(wrong))
    unnamed = [word for word in evaluate_line(world) if not word.endswith(".pbtxt") and word != "--labels"]
    assert "is not a class of the adapter; give the label map of the training with --labels" in says(2, *unnamed)


@pytest.mark.usefixtures("trained")
def test_a_video_that_cannot_be_read_is_skipped_and_said(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clips = shutil.copytree(world / "clips", tmp_path / "clips")
    (clips / "test-001.mp4").write_bytes(b"no video")
    asked = ["predict", str(clips), "--boxes", str(world / "ava_test.csv"), "--adapter", "actors", "--quiet"]
    answers = read_json(capsys, *asked, code=3)
    assert [("boxes" in one, "error" in one) for one in answers] == [(True, False), (False, True)]
    assert run([*asked, "--format", "ava"]) == 3
    shown = capsys.readouterr()
    assert "test-001.mp4: not read" in shown.err and shown.out.startswith("test-000,0001,")
