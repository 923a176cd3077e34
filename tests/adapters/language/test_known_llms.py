"""Names of language models, and the real SmolLM2-135M: converted once, and it knows what it should."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from adapters.language.known_llms import check_llm, find_llm
from adapters.language.language_model import LanguageModel, llm_fingerprint
from adapters.language.prompts import Prompts
from core_encoder.errors import InputError
from tests.language_models import need_smollm2, tiny_llm


def test_a_folder_a_name_and_what_is_none(tmp_path: Path, private_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tiny_llm(tmp_path / "llm")
    assert find_llm(str(folder)) == folder
    with pytest.raises(InputError, match=r"'smol' is no known name, folder or Hub id; did you mean 'smollm2'\?"):
        check_llm("smol")
    with pytest.raises(InputError, match="nobody/nothing: not in the local cache"):
        find_llm("nobody/nothing")
    monkeypatch.setattr("adapters.language.known_llms._packaged_gguf", lambda: None)
    with pytest.raises(
        InputError, match="not in the local cache.*; or install it: pip install gguf && pip install --no"
    ):
        find_llm("smollm2")
    converted = tiny_llm(private_home / "llms" / "smollm2")
    assert find_llm("smollm2") == converted


def test_a_gguf_file_needs_its_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adapters.language.known_llms._packaged_gguf", lambda: tmp_path / "a.gguf")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"a.gguf: reading it needs the package gguf: pip install gguf"):
        find_llm("smollm2")


@pytest.fixture(scope="module")
def smollm2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the real model, converted here."""
    need_smollm2()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PRISMHUB_HOME", str(tmp_path_factory.mktemp("home of smollm2")))
        return find_llm("smollm2")


@pytest.mark.slow
def test_the_real_model_is_converted_once_and_answers(smollm2: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRISMHUB_HOME", str(smollm2.parents[1]))
    monkeypatch.setitem(sys.modules, "transformers", SimpleNamespace())  # not needed a second time
    assert find_llm("smollm2") == smollm2 and not [one for one in smollm2.parent.iterdir() if one != smollm2]
    monkeypatch.undo()
    llm = LanguageModel(smollm2).eval()
    assert llm.width == 576 and sum(one.numel() for one in llm.parameters()) == 134_515_008
    assert len(llm_fingerprint(smollm2)) == 64
    prompts = Prompts(llm.tokenizer, True, "Describe the video.", 16)
    nothing, none = torch.zeros(2, 0, 576), torch.zeros(2, 0, dtype=torch.bool)
    asked = [
        prompts.prompt_ids(one)
        for one in ("What is the capital of France?", "What is the capital city of the country of Japan?")
    ]
    said = [prompts.text_of(one) for one in llm.generate(nothing, none, asked, 16)]
    assert "Paris" in said[0] and "Tokyo" in said[1]
    towns = ["Paris", "London", "Berlin", "a banana"]
    scores = llm.score(nothing[:1], none[:1], asked[0], [prompts.answer_ids(one) for one in towns])
    assert scores.argmax() == 0 and scores.argmin() == 3
