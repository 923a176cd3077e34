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
from core_encoder.files.storage import (
    CONFIG_BYTES,
    check_finite,
    check_name,
    expanded,
    is_file,
    is_folder,
    parse_yaml,
    read_config_json,
    read_tensors,
    read_yaml,
    write_tensors,
    write_text,
    writing_to,
)
from tests import ROOT


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
        from core_encoder.files.storage import write_tensors
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        try:
            write_tensors({str(tmp_path / "w.safetensors")!r}, {{"a": torch.ones(10_000)}})
        except OSError as error:
            print(error.errno)
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    run = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
    assert run.stdout == f"{errno.EFBIG}\n"
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device here that is always full")
def test_a_full_disk_is_one_line() -> None:
    with pytest.raises(InputError, match="/dev/full: the disk is full; free space"), writing_to("/dev/full"):
        Path("/dev/full").write_text("x", encoding="utf-8")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("\ufeffa: 1", {"a": 1}),
        ("{1: x, '1': y}", {1: "x", "1": "y"}),
        ("!!set {x, y}", {"x", "y"}),
        ("a: &a {x: 1}\nb: &b {<<: *a, x: 2}\n<<: *b\nx: 3", {"a": {"x": 1}, "b": {"x": 2}, "x": 3}),
        ("list: [&b {<<: {x: 1}, x: 2}]\nc: {<<: *b}", {"list": [{"x": 2}], "c": {"x": 2}}),
    ],
)
def test_yaml_is_read(tmp_path: Path, text: str, value: object) -> None:
    (tmp_path / "a.yaml").write_text(text, encoding="utf-8")
    assert read_yaml(tmp_path / "a.yaml") == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3", "line 3: not valid YAML .*'a' is given twice"),
        ("{b: {1: x, 1: y}}", "line 1: not valid YAML .*'1' is given twice"),
        ("a: [", "line 1: not valid YAML"),
        ("a: 2020-13-45", "not valid YAML .month must be"),
        ("a: !!bool x", "not valid YAML"),
        ("a: !!timestamp x", "not valid YAML"),
        ('a: !!int ""', "not valid YAML"),
        ("a: " + ":".join(["59"] * 400) + ".5", "not valid YAML"),
        ("[" * 3000, "not valid YAML"),
        ("a: !!python/object/apply:os.getcwd []", "line 1: not valid YAML"),
    ],
)
def test_what_is_no_yaml_is_said_in_one_line(text: str, message: str) -> None:
    with pytest.raises(InputError, match=f"^here: {message}") as caught:
        parse_yaml(text, "here")
    assert "\n" not in str(caught.value)


def test_keys_that_are_lists_are_left_to_yaml() -> None:
    with pytest.raises(InputError, match="unhashable key") as caught:
        parse_yaml("{? [a, b] : 1, ? [c, d] : 2}", "here")
    assert "twice" not in str(caught.value)


def test_files_that_cannot_be_are_no_accident(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"a: \xff")
    for path in (tmp_path / "a.yaml", tmp_path / "none.yaml", tmp_path, tmp_path / ("x" * 300), "a\0b"):
        with pytest.raises(InputError, match="cannot be read"):
            read_yaml(path)
    for name in ("none", "x" * 5000, "a\0b"):
        assert not is_file(tmp_path / name) and not is_folder(tmp_path / name)
    assert is_file(tmp_path / "a.yaml") and is_folder(tmp_path)
    assert expanded("~/a") == Path.home() / "a"
    with pytest.raises(InputError, match="~no-such-user/a: there is no such user's home"):
        expanded("~no-such-user/a")


def test_a_text_is_the_same_bytes_on_every_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def as_on_windows(path: Path, text: str, encoding: str | None = None, **rest: Any) -> int:
        return path.write_bytes(text.replace("\n", "\r\n").encode())

    monkeypatch.setattr(Path, "write_text", as_on_windows)
    text = "a,1\r\nä,2\n"
    assert write_text(tmp_path / "a.csv", text).read_bytes() == text.encode()


@pytest.mark.parametrize("name", ["con", "NUL", "com1.txt", "aux.mp4", "a\\b", "C:", "c:\\x", "a.", "a ", "a:b", "a|b"])
def test_a_name_that_windows_does_not_take_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="cannot be used"):
        check_name(name)


def test_configs_are_files_of_a_bounded_size(tmp_path: Path) -> None:
    (tmp_path / "whole.json").write_text("{}")
    assert read_config_json(tmp_path / "whole.json") == {}
    with (tmp_path / "huge.json").open("wb") as file:
        file.truncate(CONFIG_BYTES + 1)
    with pytest.raises(InputError, match=r"huge.json: has 32.0 MiB"):
        read_config_json(tmp_path / "huge.json")
    os.mkfifo(tmp_path / "pipe")
    for read in (read_config_json, read_tensors):
        with pytest.raises(InputError, match="pipe: is no file"):
            read(tmp_path / "pipe")
    with pytest.raises(InputError, match="none.json: no such file"):
        read_config_json(tmp_path / "none.json")


def test_weights_are_finite() -> None:
    whole = {"a": torch.full((4,), 3e38), "b": torch.ones(2, dtype=torch.int64), "c": torch.zeros(0)}
    check_finite(whole, "x")  # though their sum is not
    with pytest.raises(InputError, match="^x: NaN or infinity in d, e: not the weights that were saved$"):
        check_finite(whole | {"e": torch.tensor([1.0, float("nan")]), "d": torch.tensor(float("inf"))}, "x")
