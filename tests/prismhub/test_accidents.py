"""Whatever a user can do wrong ends in one clear line and the documented exit code, never in a traceback."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from core_encoder.files.storage import read_tensors, write_tensors
from prismhub.cli import run
from tests.videos import moving_square, write_video

FAST = ("--encoder", "nano", "--epochs", "3", "--accelerator", "cpu", "--quiet")


def write_classes(folder: Path, per_class: int = 4, classes: tuple[str, ...] = ("dim", "bright")) -> Path:
    """Class-per-folder data: one brightness per class."""
    for k, name in enumerate(classes):
        for i in range(per_class):
            frames = (moving_square(12, 64, 64, seed=10 * k + i) * (0.3 + 0.7 * k / max(len(classes) - 1, 1))).astype(
                np.uint8
            )
            write_video(folder / name / f"{i}.mp4", frames)
    return folder


def write_sound(path: Path) -> None:
    """A file with sound and no picture."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of four videos; read only."""
    return write_classes(tmp_path_factory.mktemp("data") / "my videos ü")


@pytest.fixture
def says(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """`says(code, *arguments)` runs a command, checks its exit code, and returns its one line on stderr."""

    def check(code: int, *arguments: str) -> str:
        capsys.readouterr()
        assert run(arguments) == code
        shown = capsys.readouterr()
        assert "Traceback" not in shown.err + shown.out
        lines = [line for line in shown.err.splitlines() if line.startswith("prismhub: ")]
        assert len(lines) == (1 if code in (1, 2) else 0), shown.err
        return lines[0] if lines else shown.out

    return check


def test_missing_and_empty_folders(says: Callable[..., str], tmp_path: Path) -> None:
    assert "no such" in says(2, "train", "--data", str(tmp_path / "nowhere"), *FAST)
    assert "no such" in says(2, "encode", str(tmp_path / "nowhere"), "--quiet")
    (tmp_path / "empty").mkdir()
    assert "empty" in says(2, "train", "--data", str(tmp_path / "empty"), *FAST)
    assert "empty" in says(2, "encode", str(tmp_path / "empty"), "--quiet")
    assert "--data is missing" in says(2, "train", *FAST)


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


def test_a_class_with_one_video_stays_in_train_and_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_classes(tmp_path / "data")
    write_video(data / "rare" / "0.mp4", moving_square(12, 64, 64, seed=99))
    assert run(["train", "--data", str(data), "--encoder", "nano", "--epochs", "2", "--name", "x"]) == 0
    assert "'rare'" in capsys.readouterr().err


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
    says: Callable[..., str], classes: Path, tmp_path: Path, private_home: Path
) -> None:
    assert run(["train", "--data", str(classes), *FAST, "--name", "x"]) == 0
    good = private_home / "adapters" / "x" / "v1"
    video = str(next(classes.rglob("*.mp4")))

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


def test_evaluating_other_classes_is_refused(says: Callable[..., str], classes: Path, tmp_path: Path) -> None:
    assert run(["train", "--data", str(classes), *FAST, "--name", "x"]) == 0
    other = write_classes(tmp_path / "other", classes=("dim", "purple"))
    assert "purple" in says(2, "evaluate", "--data", str(other), "--adapter", "x", "--quiet")


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


def test_nan_loss_says_at_which_step(says: Callable[..., str], classes: Path) -> None:
    line = says(1, "train", "--data", str(classes), *FAST, "--lr", "1e30", "--clip-grad-norm", "0")
    assert "epoch" in line and ("step" in line or "batch" in line)


def test_features_that_cannot_fit_are_refused(
    says: Callable[..., str], classes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=10_000))
    line = says(2, "encode", str(classes), "--encoder", "nano", "--quiet")
    assert "free" in line and "KiB" in line


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


def read_json(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> Any:
    """Run a command with --json and read what it printed."""
    capsys.readouterr()
    assert run([*arguments, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def given_splits(folder: Path) -> Path:
    """Train, val and test folders of the classes b and d."""
    for seed, split in enumerate(("train", "val", "test")):
        for k, name in enumerate("bd"):
            for i in range(3):
                frames = (moving_square(12, 64, 64, seed=100 * seed + i) * (0.3 + 0.7 * k)).astype(np.uint8)
                write_video(folder / split / name / f"{i}.mp4", frames)
    return folder


def test_other_videos_under_the_same_names_are_trained_on_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = given_splits(tmp_path / "data")
    train = ["train", "--data", str(data), *FAST, "--name", "x"]
    first = read_json(capsys, *train)
    for i, video in enumerate(sorted((data / "train").rglob("*.mp4"))):
        write_video(video, moving_square(12, 64, 64, seed=500 + i))
    second = read_json(capsys, *train)
    assert (first["adapter"], second["adapter"]) == ("x@v1", "x@v2") and first["run"] != second["run"]
    assert read_json(capsys, *train)["adapter"] == "x@v2"


def test_a_named_run_folder_is_not_continued_with_other_features(says: Callable[..., str], tmp_path: Path) -> None:
    train = ["train", "--data", str(given_splits(tmp_path / "data")), *FAST, "--run", str(tmp_path / "run")]
    assert run(train) == 0
    assert "another train_set" in says(2, *train, "--num-frames", "4")
    assert "another train_set" in says(2, *train, "--feature-dtype", "fp32")
    (tmp_path / "run" / "run.json").write_text("[]")
    assert "not the record of a run" in says(2, *train)
    (tmp_path / "file").write_text("")
    assert "is a file" in says(2, *train[:-1], str(tmp_path / "file"))


def test_a_repaired_video_joins_the_next_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = given_splits(tmp_path / "data")
    broken = data / "train" / "b" / "0.mp4"
    whole = broken.read_bytes()
    broken.write_bytes(b"")
    train = ["train", "--data", str(data), *FAST, "--name", "x"]
    assert read_json(capsys, *train, code=3)["adapter"] == "x@v1"
    broken.write_bytes(whole)
    assert read_json(capsys, *train)["adapter"] == "x@v2"


def test_renamed_classes_are_saved_though_the_weights_stay(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = given_splits(tmp_path / "data")
    train = ["train", "--data", str(data), *FAST, "--name", "x"]
    assert read_json(capsys, *train)["adapter"] == "x@v1"
    for split in ("train", "val", "test"):
        (data / split / "b").rename(data / split / "c")  # the same place in the alphabet
    assert read_json(capsys, *train)["adapter"] == "x@v2"
    assert read_json(capsys, "adapters", "show", "x")["targets"]["label_names"] == ["c", "d"]


def test_a_damaged_older_version_does_not_stop_a_new_one(
    classes: Path, private_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = ["train", "--data", str(classes), *FAST, "--name", "x"]
    assert read_json(capsys, *train)["adapter"] == "x@v1"
    (private_home / "adapters" / "x" / "v1" / "adapter_model.safetensors").write_bytes(b"x" * 99)
    assert read_json(capsys, *train, "--lr", "2e-3")["adapter"] == "x@v2"


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
    assert option[2:].replace("-", "_") in says(2, command, option, value)


def test_all_samples_are_not_called_the_test_split(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = given_splits(tmp_path / "data")
    assert run(["train", "--data", str(data), *FAST, "--name", "x"]) == 0
    evaluate = ["evaluate", "--data", str(data), "--adapter", "x", "--quiet"]
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


def test_a_reader_who_goes_away_is_no_failure() -> None:
    for arguments in ("encoders", "env --json"):
        command = f"{sys.executable} -m prismhub.cli {arguments} | true; exit ${{PIPESTATUS[0]}}"
        ended = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
        assert ended.returncode == 0 and not ended.stderr, ended.stderr


def test_ctrl_c_says_that_the_same_command_goes_on(
    classes: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("prismhub.commands.encode.find_clips", interrupt)
    assert run(["encode", str(classes)]) == 130
    assert "the same command goes on" in capsys.readouterr().err


def test_nothing_is_chosen_without_a_val_split(says: Callable[..., str], tmp_path: Path) -> None:
    data = given_splits(tmp_path / "data")
    shutil.rmtree(data / "val")
    train = ["train", "--data", str(data), "--val-fraction", "0", *FAST, "--name", "x"]
    for options in (["--grid", "lr=1e-3,1e-2"], ["--seeds", "2"], ["--patience", "2"]):
        assert f"{options[0]} needs a val split" in says(2, *train, *options)
    assert run(train) == 0


def test_a_split_without_labels_and_another_kind_of_labels(says: Callable[..., str], tmp_path: Path) -> None:
    data = given_splits(tmp_path / "data")
    rows = [
        {"video": str(path), "labels": ["x", "y"] if path.parts[-3] != "val" else [], "split": path.parts[-3]}
        for path in sorted(data.rglob("*.mp4"))
    ]
    (tmp_path / "list.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert "no sample of the val split" in says(2, "train", "--data", str(tmp_path / "list.jsonl"), *FAST)
    assert run(["train", "--data", str(data), *FAST, "--name", "x"]) == 0
    assert "multi_label" in says(2, "evaluate", "--data", str(data), "--adapter", "x", "--multi-label", "--quiet")


def test_two_clips_of_one_video_are_told_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = given_splits(tmp_path / "data")
    assert run(["train", "--data", str(data), *FAST, "--name", "x"]) == 0
    (tmp_path / "clips.csv").write_text("path,start,end\ndata/test/b/0.mp4,0,0.2\ndata/test/b/0.mp4,0.2,0.5\n")
    rows = read_json(capsys, "predict", str(tmp_path / "clips.csv"), "--adapter", "x", "--quiet")
    assert [row["video"].rpartition("/")[2] for row in rows] == ["0.mp4#0-0.2", "0.mp4#0.2-0.5"]


def test_the_seed_recorded_is_that_of_the_adapter_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = read_json(
        capsys, "train", "--data", str(given_splits(tmp_path / "data")), *FAST, "--name", "x", "--seeds", "3"
    )
    kept = json.loads((Path(done["folder"]) / "adapter_config.json").read_text())["seed"]
    assert done["result"]["provenance"]["seed"] == kept


def test_ctrl_c_after_the_end_is_quiet() -> None:
    code = (
        "import atexit, os, signal, sys; from prismhub import cli; "
        "atexit.register(os.kill, os.getpid(), signal.SIGINT); sys.argv = ['prismhub', 'encoders']; cli.main()"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.returncode == 0 and not ended.stderr


def test_data_without_training_samples(says: Callable[..., str], classes: Path, tmp_path: Path) -> None:
    rows = [f"{path},{path.parent.name},test" for path in sorted(classes.rglob("*.mp4"))]
    (tmp_path / "list.csv").write_text("\n".join(["path,label,split", *rows]))
    assert "no 'train' split" in says(2, "train", "--data", str(tmp_path / "list.csv"), *FAST)


COMMAND = [sys.executable, "-m", "prismhub.cli"]


def kill_after(command: list[str], seconds: float) -> int:
    """Start a command, kill it without mercy after some seconds, return its exit code (negative when it was killed)."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=dict(os.environ))
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


@pytest.mark.slow
def test_killed_training_ends_like_an_uninterrupted_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write_classes(tmp_path / "data", per_class=6)
    options = ["--data", str(data), "--encoder", "nano", "--epochs", "40", "--batch-size", "4", "--name", "x"]
    options += ["--checkpoint-every-s", "0", "--json", "--quiet", "--accelerator", "cpu"]
    weights = []
    for home, kills in (("calm", []), ("stormy", [2.5, 3.5, 4.5, 5.5])):
        monkeypatch.setenv("PRISMHUB_HOME", str(tmp_path / home))
        for seconds in kills:
            kill_after([*COMMAND, "train", *options], seconds)
        assert subprocess.run([*COMMAND, "train", *options], stdout=subprocess.DEVNULL, check=False).returncode == 0
        weights.append(read_tensors(tmp_path / home / "adapters" / "x" / "v1" / "adapter_model.safetensors"))
    calm, stormy = weights
    assert calm.keys() == stormy.keys()
    assert all(torch.equal(calm[name], stormy[name]) for name in calm)


@pytest.mark.slow
def test_ctrl_c_keeps_what_is_finished(tmp_path: Path, private_home: Path) -> None:
    import signal

    data = write_classes(tmp_path / "data", per_class=60)
    heed = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"  # background jobs ignore it
    encode = [sys.executable, "-c", f"{heed}; from prismhub.cli import main; main()", "encode", str(data)]
    slow = [*encode, "--workers", "1", "--clips-per-batch", "1"]
    process = subprocess.Popen(slow, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    deadline = time.monotonic() + 60
    while not list(private_home.rglob("spec.json")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, shown = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in shown and "the same command goes on" in shown
    again = subprocess.run(
        [*encode, "--quiet", "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    counts = json.loads(again.stdout)
    assert counts["cached"] + counts["encoded"] == 120 and not counts["failed"]


def test_a_bundled_encoder_wins_over_a_folder_of_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from prismhub.commands.train import _portable_source

    (tmp_path / "nano").mkdir()
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    assert _portable_source("nano") == "nano"  # what load_encoder takes, too
    assert _portable_source("mine") == str(tmp_path / "mine")
