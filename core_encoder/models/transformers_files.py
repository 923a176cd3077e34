"""Folders of text models in `transformers` format: weights as safetensors alone, tokenizer, errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from core_encoder.errors import InputError
from core_encoder.files.storage import check_regular
from core_encoder.models.checkpoints import WEIGHTS

TOKENIZER_FILES = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.txt", "vocab.json", "merges.txt", "spiece.model", "tokenizer.model", "sentencepiece.bpe.model"),
)
UNREADABLE = (OSError, ValueError, TypeError, KeyError, AttributeError, RuntimeError, ImportError)
"""What `transformers` raises for files that it cannot make a model of."""


def check_safetensors(folder: Path) -> None:
    """Refuse a folder without weights that hold no code.

    Raises:
        InputError: it holds no safetensors, or a pipe of that name.
    """
    for path in folder.glob("*.safetensors"):
        check_regular(path)
    if not any(folder.glob("*.safetensors")):
        unsafe = sorted(path.name for path in folder.glob("*.bin"))
        advice = f"{unsafe[0]} may hold code: convert it to safetensors first" if unsafe else f"it holds no {WEIGHTS}"
        raise InputError(f"{folder}: {advice}")


def open_tokenizer(folder: Path) -> Any:
    """The tokenizer of a folder, with a padding token.

    Raises:
        InputError: there is none, or it cannot be read.
    """
    from transformers import AutoTokenizer

    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        raise InputError(f"{folder}: holds no tokenizer ({', '.join(TOKENIZER_FILES[:2])}, ...); put it there")
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    except UNREADABLE as error:
        raise InputError(f"{folder}: the tokenizer cannot be read ({reason_of(error)})") from error
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    return tokenizer


def reason_of(error: Exception) -> str:
    """What an error says, on one line and not too long."""
    return " ".join(str(error).split())[:300] or type(error).__name__


@contextmanager
def without_bars() -> Iterator[None]:
    """The bars of `transformers` stay off stderr: that is ours."""
    from transformers.utils import logging as bars

    shown = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            bars.enable_progress_bar()
