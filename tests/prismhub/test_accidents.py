"""What befalls videos, encoders and adapters is told in one clear line and the documented exit code."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from core_encoder.files.storage import read_tensors, write_tensors
from prismhub.cli import run
from tests.prismhub.small_data import FAST, read_json, write_classes, write_sound
from tests.videos import moving_square, write_video


def test_a_class_with_one_video_stays_in_train_and_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_classes(tmp_path / "data")
    write_video(data / "rare" / "0.mp4", moving_square(12, 64, 64, seed=99))
    assert run(["train", "--data", str(data), "--encoder", "nano", "--epochs", "2", "--name", "x"]) == 0
    assert "'rare'" in capsys.readouterr().err


def test_unreadable_videos_are_listed_and_skipped(
    says: Callable[..., str], tmp_path: Path, private_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_classes(tmp_path / "data", per_class=8)
    whole = (data / "dim" / "0.mp4").read_bytes()
    (data / "dim" / "zero.mp4").write_bytes(b"")
    (data / "dim" / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    write_sound(data / "dim" / "sound.mp4")
    write_video(data / "dim" / "one frame.mp4", moving_square(1, 64, 64))
    assert run(["train", "--data", str(data), *FAST, "--max-unreadable", "0.5", "--name", "x", "--json"]) == 3
    done = json.loads(capsys.readouterr().out)
    listed = [json.loads(line) for line in next(private_home.rglob("failures.jsonl")).read_text().splitlines()]
    assert {Path(row["path"]).name for row in listed} == {"zero.mp4", "cut.mp4", "sound.mp4"}
    assert all(row["reason"] for row in listed)
    assert done["result"]["n_evaluated"] + len(done["result"]["skipped"]) == done["result"]["n_total"]
    assert "max_unreadable" in says(2, "train", "--data", str(data), *FAST, "--max-unreadable", "0.01")

    assert run(["predict", str(data / "dim"), "--adapter", "x", "--json", "--quiet"]) == 3
    rows = json.loads(capsys.readouterr().out)
    assert len(rows) == 12
    assert {Path(row["video"]).name for row in rows if "error" in row} == {"zero.mp4", "cut.mp4", "sound.mp4"}
    assert all(row["label"] in ("dim", "bright") and 0 < row["score"] <= 1 for row in rows if "error" not in row)


def test_clip_bounds_beyond_the_file(
    says: Callable[..., str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_classes(tmp_path / "data")
    rows = [f"{p.relative_to(data)},{p.parent.name},0,99" for p in sorted(data.rglob("*.mp4"))]
    (data / "list.csv").write_text("\n".join(["path,label,start,end", *rows]))
    assert run(["train", "--data", str(data / "list.csv"), *FAST, "--name", "clipped"]) == 0  # cut at the video's end
    (data / "late.csv").write_text("\n".join(["path,label,start,end", *rows[:-1], rows[-1].replace(",0,", ",50,")]))
    assert run(["train", "--data", str(data / "late.csv"), *FAST, "--max-unreadable", "0.5"]) == 3
    (data / "odd.csv").write_text("path,label,start,end\ndim/0.mp4,dim,5,2\n")
    assert "odd.csv: line 2" in says(2, "train", "--data", str(data / "odd.csv"), *FAST)


def test_a_foreign_or_tampered_adapter_is_refused(
    says: Callable[..., str], splits: Path, tmp_path: Path, trained: Path
) -> None:
    good = trained / "adapters" / "x" / "v1"
    video = str(next(splits.rglob("*.mp4")))

    from core_encoder import load_encoder, save_encoder

    other = load_encoder("nano")
    with torch.no_grad():
        next(other.parameters()).add_(0.01)
    other._fingerprint = None
    save_encoder(other, tmp_path / "other")
    assert "other" in says(2, "predict", video, "--adapter", "x", "--encoder", str(tmp_path / "other"), "--quiet")

    tampered = tmp_path / "tampered"
    shutil.copytree(good, tampered)
    weights = read_tensors(tampered / "adapter_model.safetensors")
    write_tensors(tampered / "adapter_model.safetensors", {name: tensor * 1.001 for name, tensor in weights.items()})
    assert "adapter_model.safetensors" in says(2, "predict", video, "--adapter", str(tampered), "--quiet")

    config = json.loads((good / "adapter_config.json").read_text())
    for change, word in (
        ({"schema_version": 99}, "schema"),
        ({"label_names": ["a", "b"]}, "label"),
        ({"kind": "map_clasifier"}, "map_classifier"),
        ({"kindd": 1}, "kind"),
    ):
        folder = tmp_path / word
        shutil.copytree(good, folder)
        (folder / "adapter_config.json").write_text(json.dumps(config | change))
        assert word in says(2, "predict", video, "--adapter", str(folder), "--quiet")


def test_adapters_that_were_made_to_harm_are_refused(
    says: Callable[..., str], splits: Path, tmp_path: Path, trained: Path
) -> None:
    """Whoever tampers with a file can also write its digest anew."""
    good, video = trained / "adapters" / "x" / "v1", str(next(splits.rglob("*.mp4")))
    config = json.loads((good / "adapter_config.json").read_text())
    features = config["features"]
    for change, said in (
        ({"dim": 10**15}, "dim must be at most 65536"),
        ({"features": features | {"plan": {"num_frames": 10**15}}}, "num_frames must be at most 65536"),
        ({"features": features | {"preprocessing": {"image_size": 10**9}}}, "image_size must be at most 16384"),
        ({"x": " " * (33 << 20)}, "adapter_config.json: has 33.0 MiB, and a config no more than 32.0 MiB"),
    ):
        folder = shutil.copytree(good, tmp_path / "config", dirs_exist_ok=True)
        (folder / "adapter_config.json").write_text(json.dumps(config | change))
        line = says(2, "predict", video, "--adapter", str(folder), "--quiet")
        assert said in line and "adapter_config.json: " in line
    folder = shutil.copytree(good, tmp_path / "weights")
    file = folder / "adapter_model.safetensors"
    write_tensors(file, {name: tensor * float("nan") for name, tensor in read_tensors(file).items()})
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    (folder / "adapter_config.json").write_text(json.dumps(config | {"weights_sha256": digest}))
    assert "adapter_model.safetensors: NaN or infinity in " in says(2, "predict", video, "--adapter", str(folder))
    file.unlink()
    os.mkfifo(file)
    assert "adapter_model.safetensors: is no file" in says(2, "predict", video, "--adapter", str(folder))


def test_nan_loss_says_at_which_step(says: Callable[..., str], classes: Path) -> None:
    line = says(1, "train", "--data", str(classes), *FAST, "--lr", "1e30", "--clip-grad-norm", "0")
    assert "epoch" in line and ("step" in line or "batch" in line)


@pytest.mark.usefixtures("trained")
def test_all_samples_are_not_called_the_test_split(
    splits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate = ["evaluate", "--data", str(splits), "--adapter", "x", "--quiet"]
    whole, test = read_json(capsys, *evaluate, "--split", "all"), read_json(capsys, *evaluate)
    assert (whole["split"], whole["n_total"], test["split"], test["n_total"]) == ("all", 18, "test", 6)
    assert test["provenance"]["device"] in ("cpu", "cuda", "mps")
    assert run([*evaluate, "--out", str(tmp_path)]) == 2
    assert "is a folder" in capsys.readouterr().err


def test_an_encoder_that_went_away(says: Callable[..., str], classes: Path, tmp_path: Path) -> None:
    from core_encoder import load_encoder, save_encoder

    save_encoder(load_encoder("nano"), tmp_path / "enc")
    video = str(next(classes.rglob("*.mp4")))
    assert run(["train", "--data", str(classes), *FAST[2:], "--encoder", str(tmp_path / "enc"), "--name", "x"]) == 0
    (tmp_path / "enc").rename(tmp_path / "moved")
    line = says(2, "predict", video, "--adapter", "x", "--quiet")
    assert str(tmp_path / "enc") in line and "--encoder" in line
    assert "gpux" in says(2, "predict", video, "--adapter", "x", "--accelerator", "gpux")
    assert run(["predict", video, "--adapter", "x", "--encoder", str(tmp_path / "moved")]) == 0


def test_tables_show_names_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    from prismhub.printing import print_table

    print_table(["class"], [["[red]a[/red]"], [":dog: [/b]"], ["猫"]])
    shown = capsys.readouterr().out
    assert "[red]a[/red]" in shown and ":dog: [/b]" in shown and "猫" in shown


def test_a_video_of_which_nothing_was_found_has_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    from adapters.predictions import Segment, Segments
    from prismhub.printing import print_predictions

    found = [Segments("a.mp4", (Segment(1, 2, "run", 0.1),), 0.3), Segments("b.mp4", (Segment(1, 2, "run", 0.4),), 0.3)]
    print_predictions(found, None, False)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["a.mp4", "-", "-", "-", "-"] in lines and ["b.mp4", "1.00", "2.00", "run", "0.400"] in lines


@pytest.mark.usefixtures("trained")
def test_two_clips_of_one_video_are_told_apart(
    splits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    video = splits / "test" / "b" / "0.mp4"
    (tmp_path / "clips.csv").write_text(f"path,start,end\n{video},0,0.2\n{video},0.2,0.5\n")
    rows = read_json(capsys, "predict", str(tmp_path / "clips.csv"), "--adapter", "x", "--quiet")
    assert [row["video"].rpartition("/")[2] for row in rows] == ["0.mp4#0-0.2", "0.mp4#0.2-0.5"]


def test_a_bundled_encoder_wins_over_a_folder_of_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from prismhub.heads import portable_source

    (tmp_path / "nano").mkdir()
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    assert portable_source("nano") == "nano"  # what load_encoder takes, too
    assert portable_source("mine") == str(tmp_path / "mine")
