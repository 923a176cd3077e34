"""The same command again: what is found done, what is trained anew, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from prismhub.cli import run
from tests.prismhub.small_data import FAST, read_json
from tests.videos import moving_square, write_video


def test_other_videos_under_the_same_names_are_trained_on_anew(
    splits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = shutil.copytree(splits, tmp_path / "data")
    train = ["train", "--data", str(data), *FAST, "--name", "x"]
    first = read_json(capsys, *train)
    for i, video in enumerate(sorted((data / "train").rglob("*.mp4"))):
        write_video(video, moving_square(12, 64, 64, seed=500 + i))
    second = read_json(capsys, *train)
    assert (first["adapter"], second["adapter"]) == ("x@v1", "x@v2") and first["run"] != second["run"]
    assert read_json(capsys, *train)["adapter"] == "x@v2"


@pytest.mark.usefixtures("trained")
def test_a_named_run_folder_is_not_continued_with_other_features(
    says: Callable[..., str], splits: Path, tmp_path: Path
) -> None:
    train = ["train", "--data", str(splits), *FAST, "--run", str(tmp_path / "run")]
    assert run(train) == 0
    assert "another train_set" in says(2, *train, "--num-frames", "4")
    assert "another train_set" in says(2, *train, "--feature-dtype", "fp32")
    (tmp_path / "run" / "run.json").write_text("[]")
    assert "not the record of a run" in says(2, *train)
    (tmp_path / "file").write_text("")
    assert "is a file" in says(2, *train[:-1], str(tmp_path / "file"))


def test_a_repaired_video_joins_the_next_run(splits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = shutil.copytree(splits, tmp_path / "data")
    broken = data / "train" / "b" / "0.mp4"
    whole = broken.read_bytes()
    broken.write_bytes(b"")
    train = ["train", "--data", str(data), *FAST, "--name", "x"]
    assert read_json(capsys, *train, code=3)["adapter"] == "x@v1"
    broken.write_bytes(whole)
    assert read_json(capsys, *train)["adapter"] == "x@v2"


@pytest.mark.usefixtures("trained")
def test_renamed_classes_are_saved_though_the_weights_stay(
    splits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = shutil.copytree(splits, tmp_path / "data")
    train = ["train", "--data", str(data), *FAST, "--name", "y"]
    assert read_json(capsys, *train)["adapter"] == "y@v1"
    for split in ("train", "val", "test"):
        (data / split / "b").rename(data / split / "c")  # the same place in the alphabet
    assert read_json(capsys, *train)["adapter"] == "y@v2"
    assert read_json(capsys, "adapters", "show", "y")["targets"]["label_names"] == ["c", "d"]


def test_a_damaged_older_version_does_not_stop_a_new_one(
    splits: Path, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = ["train", "--data", str(splits), *FAST, "--name", "x"]
    assert read_json(capsys, *train)["adapter"] == "x@v1"
    (trained / "adapters" / "x" / "v1" / "adapter_model.safetensors").write_bytes(b"x" * 99)
    assert read_json(capsys, *train, "--lr", "2e-3")["adapter"] == "x@v2"


def test_a_truncated_shard_is_encoded_again(
    classes: Path, private_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    encode = ["encode", str(classes), "--encoder", "nano", "--quiet", "--json"]
    assert run(encode) == 0
    assert json.loads(capsys.readouterr().out)["encoded"] == 8
    for shard in private_home.rglob("shard-*.safetensors"):
        shard.write_bytes(shard.read_bytes()[:-64])
    assert run(["cache", "verify"]) == 1
    capsys.readouterr()
    assert run(encode) == 0
    assert json.loads(capsys.readouterr().out)["encoded"] == 8
    assert run(["cache", "prune"]) == 0
    assert run(["cache", "verify", str(classes), "--encoder", "nano"]) == 0


@pytest.mark.usefixtures("trained")
def test_the_seed_recorded_is_that_of_the_adapter_kept(splits: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = read_json(capsys, "train", "--data", str(splits), *FAST, "--name", "y", "--seeds", "3")
    kept = json.loads((Path(done["folder"]) / "adapter_config.json").read_text())["seed"]
    assert done["result"]["provenance"]["seed"] == kept


@pytest.mark.slow
@pytest.mark.usefixtures("trained")
def test_two_devices_train_what_one_does(splits: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = read_json(capsys, "train", "--data", str(splits), *FAST, "--name", "one")
    two = read_json(capsys, "train", "--data", str(splits), *FAST, "--name", "two", "--devices", "2")
    assert two["frames_decoded"] == 0 and two["result"]["scores"] == one["result"]["scores"]
    assert two["settings"][0]["score"] == pytest.approx(one["settings"][0]["score"], abs=1e-4)


def test_videos_that_are_in_train_and_test_are_told(
    splits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = shutil.copytree(splits, tmp_path / "data")
    for name in ("0.mp4", "1.mp4"):
        shutil.copy(data / "train" / "b" / name, data / "test" / "b" / f"again {name}")
    shutil.copy(data / "train" / "d" / "2.mp4", data / "val" / "d" / "2.mp4")
    loud = [word for word in FAST if word != "--quiet"]
    done = read_json(capsys, "train", "--data", str(data), *loud, "--name", "x")
    assert done["result"]["also_in_train"] == 2
    assert run(["train", "--data", str(data), *loud, "--name", "x"]) == 0
    said = capsys.readouterr().err
    assert "note: 2 of 8 test videos are also in train (same bytes)" in said
    assert "note: 1 of 6 val videos are also in train (same bytes)" in said
    clean = read_json(capsys, "train", "--data", str(splits), *FAST, "--name", "y")
    assert clean["result"]["also_in_train"] == 0
