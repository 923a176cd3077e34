"""Files on disk: what cannot be written is one line that says why, and leaves nothing half-written behind."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from safetensors import SafetensorError

from core_encoder.errors import InputError
from core_encoder.storage import read_tensors, write_tensors, writing_to

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENOSPC, "the disk is full; free space"),
        (errno.EDQUOT, "the disk is full up to your quota; free space"),
        (errno.EACCES, "cannot be written"),
    ],
)
def test_what_safetensors_says_of_the_disk_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, said: str
) -> None:
    def fail(*arguments: Any, **keywords: Any) -> None:
        text = f"I/O error: {os.strerror(number)} (os error {number})"  # as Rust words it
        raise SafetensorError(f"Error while serializing: {text}")

    file = tmp_path / "weights.safetensors"
    write_tensors(file, {"a": torch.ones(2)})
    with monkeypatch.context() as patched:
        patched.setattr(safetensors.torch, "save_file", fail)
        with pytest.raises(InputError) as caught:
            write_tensors(file, {"a": torch.zeros(2)})
    assert str(caught.value).startswith(f"{file}: {said}") and "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == [file] and torch.equal(read_tensors(file)["a"], torch.ones(2))


def test_safetensors_own_complaints_stay_what_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any, **keywords: Any) -> None:
        raise SafetensorError("Error while serializing: TensorInvalidInfo")

    monkeypatch.setattr(safetensors.torch, "save_file", fail)
    with pytest.raises(SafetensorError, match="TensorInvalidInfo"):
        write_tensors(tmp_path / "weights.safetensors", {"a": torch.ones(2)})


@pytest.mark.skipif(sys.platform == "win32", reason="no limits of this kind")
def test_the_number_of_a_real_failure_is_found(tmp_path: Path) -> None:
    code = f"""
        import resource, signal
        import torch
        from core_encoder.storage import write_tensors
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        try:
            write_tensors({str(tmp_path / "w.safetensors")!r}, {{"a": torch.ones(10_000)}})
        except OSError as error:
            print(error.errno)
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    run = subprocess.run(command, check=True, capture_output=True, text=True, cwd=REPOSITORY)
    assert run.stdout == f"{errno.EFBIG}\n"
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device here that is always full")
def test_a_full_disk_is_one_line() -> None:
    with pytest.raises(InputError, match="/dev/full: the disk is full; free space"), writing_to("/dev/full"):
        Path("/dev/full").write_text("x", encoding="utf-8")
