"""Commands that are killed, stopped or no longer listened to: the same command goes on."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from core_encoder.files.storage import read_tensors
from prismhub.cli import run
from tests.prismhub.small_data import write_classes


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


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("predict", ["predict", "VIDEOS", "--adapter", "x"]),
        ("zero_shot", ["zero-shot", "VIDEOS", "--labels", "b,d"]),
        ("rank", ["rank", "VIDEOS", "--text", "b"]),
    ],
)
def test_ctrl_c_of_what_answers_alone_says_that_nothing_is_kept(
    module: str, words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(f"prismhub.commands.{module}.find_inputs", interrupt)
    assert run(words) == 130
    assert capsys.readouterr().err == "prismhub: stopped; nothing was kept, the same command begins anew\n"


def test_ctrl_c_after_the_end_is_quiet() -> None:
    code = (
        "import atexit, os, signal, sys; from prismhub import cli; "
        "atexit.register(os.kill, os.getpid(), signal.SIGINT); sys.argv = ['prismhub', 'encoders']; cli.main()"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.returncode == 0 and not ended.stderr


COMMAND = [sys.executable, "-m", "prismhub.cli"]


def kill_when(command: list[str], folder: Path, written: str, after_s: float) -> None:
    """Start a command, and kill it without mercy `after_s` after it has written a file of this name."""

    def files() -> set[tuple[Path, int]]:
        return {(path, path.stat().st_mtime_ns) for path in folder.rglob(written)}

    before = files()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while files() <= before:
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.002)
    time.sleep(after_s)
    process.kill()
    assert process.wait() == -9, "it ended before it could be killed"


@pytest.mark.slow
def test_killed_training_ends_like_an_uninterrupted_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write_classes(tmp_path / "data", per_class=6)
    options = ["--data", str(data), "--encoder", "nano", "--epochs", "40", "--batch-size", "4", "--name", "x"]
    options += ["--checkpoint-every-s", "0", "--json", "--quiet", "--accelerator", "cpu"]
    weights = []
    chance = random.Random(0)
    for home, kills in (("calm", ()), ("stormy", ("spec.json", "checkpoint.safetensors", "checkpoint.safetensors"))):
        monkeypatch.setenv("PRISMHUB_HOME", str(tmp_path / home))
        for written in kills:
            kill_when([*COMMAND, "train", *options], tmp_path / home, written, chance.uniform(0, 0.1))
        assert run(["train", *options]) == 0
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
