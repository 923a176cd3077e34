"""Whatever a user can ask for wrongly ends in one clear line and exit code 2, never in a traceback."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from core_encoder.files.storage import read_tensors, write_tensors
from prismhub.cli import run
from tests.prismhub.small_data import FAST, write_classes
from tests.videos import moving_square, write_video


def test_missing_and_empty_folders(says: Callable[..., str], tmp_path: Path) -> None:
    assert "no such" in says(2, "train", "--data", str(tmp_path / "nowhere"), *FAST)
    assert "no such" in says(2, "encode", str(tmp_path / "nowhere"), "--quiet")
    (tmp_path / "empty").mkdir()
    assert "empty" in says(2, "train", "--data", str(tmp_path / "empty"), *FAST)
    assert "empty" in says(2, "encode", str(tmp_path / "empty"), "--quiet")
    assert "'data' is missing" in says(2, "train", *FAST)


def test_label_column_that_does_not_exist_names_the_nearest(says: Callable[..., str], tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", moving_square(8))
    (tmp_path / "list.csv").write_text("path,behaviour\na.mp4,walk\n")
    line = says(2, "train", "--data", str(tmp_path / "list.csv"), "--label-column", "behavior", *FAST)
    assert "'behavior'" in line and "'behaviour'" in line and "list.csv" in line


def test_duplicate_ids_name_both_rows(says: Callable[..., str], tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", moving_square(8))
    (tmp_path / "list.csv").write_text("path,label\na.mp4,walk\na.mp4,run\n")
    line = says(2, "train", "--data", str(tmp_path / "list.csv"), *FAST)
    assert "2" in line and "3" in line and "list.csv" in line


def test_one_class_only(says: Callable[..., str], tmp_path: Path) -> None:
    data = write_classes(tmp_path / "data", classes=("only",))
    assert "only" in says(2, "train", "--data", str(data), *FAST)


def test_unknown_names_offer_the_nearest(says: Callable[..., str], classes: Path) -> None:
    data = ("--data", str(classes))
    assert "'map_classifier'" in says(2, "train", *data, "--adapter", "map_clasifier", *FAST)
    assert "'nano'" in says(2, "train", *data, "--encoder", "nanoo")
    assert "--epochs" in says(2, "train", *data, "--epocs", "3")
    assert "'lr'" in says(2, "train", *data, "--lr", "fast", *FAST)
    assert "'dropout'" in says(2, "train", *data, "--grid", "dropuot=0,1", *FAST)
    assert "'dropout'" in says(2, "train", *data, "--head", "droput=0.5", *FAST)
    assert "'train'" in says(2, "trian")
    assert "accelerator" in says(2, "train", *data, "--accelerator", "tpuu")
    assert "'top1'" in says(2, "train", *data, "--metric", "top-1", *FAST)
    assert "--data is empty" in says(2, "train", "--data", "")


@pytest.mark.parametrize("name", ["../../x", "a/b", "", ".hidden", "con", "x" * 200])
def test_a_name_that_is_no_name(says: Callable[..., str], classes: Path, tmp_path: Path, name: str) -> None:
    if name:
        assert "name" in says(2, "train", "--data", str(classes), "--name", name, *FAST)
    assert says(2, "adapters", "rm", name)
    assert says(2, "predict", str(classes), "--adapter", name)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--grid", "lr=fast"], "'lr'"),
        (["--grid", "seed=1,2"], "'seed'"),
        (["--metric", "top-1"], "'top1'"),
        (["--head", "heads=7"], "heads 7"),
        (["--head", "dropout"], "key=value"),
    ],
)
def test_wrong_settings_are_refused_before_anything_is_encoded(
    says: Callable[..., str], classes: Path, private_home: Path, options: list[str], word: str
) -> None:
    assert word in says(2, "train", "--data", str(classes), *FAST, *options)
    assert not (private_home / "features").exists()


@pytest.mark.parametrize(
    ("command", "option", "value"),
    [
        ("train", "--seeds", "0"),
        ("train", "--num-frames", "0"),
        ("train", "--workers", "0"),
        ("train", "--max-unreadable", "2"),
        ("predict", "--top", "-1"),
        ("predict", "--clips-per-batch", "0"),
        ("evaluate", "--clips-per-batch", "0"),
        ("encode", "--workers", "0"),
        ("train", "--epochs", "0"),
    ],
)
def test_counts_and_shares_out_of_range(says: Callable[..., str], command: str, option: str, value: str) -> None:
    needed = {"train": ["--data", "x"], "encode": ["x"], "predict": ["x", "--adapter", "a"]}
    needed["evaluate"] = ["--data", "x", "--adapter", "a"]
    assert option[2:].replace("-", "_") in says(2, command, *needed[command], option, value)


def test_checkpoint_with_missing_or_extra_tensors(says: Callable[..., str], classes: Path, tmp_path: Path) -> None:
    from core_encoder import load_encoder, save_encoder

    save_encoder(load_encoder("nano"), tmp_path / "enc")
    file = tmp_path / "enc" / "model.safetensors"
    tensors = read_tensors(file)
    name = sorted(tensors)[0]
    write_tensors(file, {key: value for key, value in tensors.items() if key != name}, {"format": "pt"})
    assert name.split(".")[-1] in says(2, "encode", str(classes), "--encoder", str(tmp_path / "enc"), "--quiet")
    write_tensors(file, tensors | {"stranger": torch.zeros(2)}, {"format": "pt"})
    assert "stranger" in says(2, "encode", str(classes), "--encoder", str(tmp_path / "enc"), "--quiet")
    file.write_bytes(file.read_bytes()[:-100])
    assert "model.safetensors" in says(2, "encode", str(classes), "--encoder", str(tmp_path / "enc"), "--quiet")


def test_features_that_cannot_fit_are_refused(
    says: Callable[..., str], classes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=10_000))
    line = says(2, "encode", str(classes), "--encoder", "nano", "--quiet")
    assert "free" in line and "KiB" in line


def test_data_without_training_samples(says: Callable[..., str], classes: Path, tmp_path: Path) -> None:
    rows = [f"{path},{path.parent.name},test" for path in sorted(classes.rglob("*.mp4"))]
    (tmp_path / "list.csv").write_text("\n".join(["path,label,split", *rows]))
    assert "no 'train' split" in says(2, "train", "--data", str(tmp_path / "list.csv"), *FAST)


def test_nothing_is_chosen_without_a_val_split(says: Callable[..., str], splits: Path, tmp_path: Path) -> None:
    data = shutil.copytree(splits, tmp_path / "data", ignore=shutil.ignore_patterns("val"))
    train = ["train", "--data", str(data), "--val-fraction", "0", *FAST, "--name", "x"]
    for options in (["--grid", "lr=1e-3,1e-2"], ["--seeds", "2"], ["--patience", "2"]):
        assert f"{options[0]} needs a val split" in says(2, *train, *options)
    assert run(train) == 0


@pytest.mark.usefixtures("trained")
def test_a_split_without_labels_and_another_kind_of_labels(
    says: Callable[..., str], splits: Path, tmp_path: Path
) -> None:
    rows = [
        {"video": str(path), "labels": ["x", "y"] if path.parts[-3] != "val" else [], "split": path.parts[-3]}
        for path in sorted(splits.rglob("*.mp4"))
    ]
    (tmp_path / "list.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert "no sample of the val split" in says(2, "train", "--data", str(tmp_path / "list.jsonl"), *FAST)
    assert "multi_label" in says(2, "evaluate", "--data", str(splits), "--adapter", "x", "--multi-label", "--quiet")


@pytest.mark.usefixtures("trained")
def test_evaluating_other_classes_is_refused(says: Callable[..., str], tmp_path: Path) -> None:
    other = write_classes(tmp_path / "other", per_class=1, classes=("b", "purple"))
    assert "purple" in says(2, "evaluate", "--data", str(other), "--adapter", "x", "--quiet")


def test_stores_of_the_future_are_not_pruned(says: Callable[..., str]) -> None:
    assert "older_than_days must not be negative, not -1" in says(2, "cache", "prune", "--older-than-days", "-1")
