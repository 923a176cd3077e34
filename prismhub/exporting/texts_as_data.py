"""How texts become token ids, as data: a `tokenizer.json` and what happens before and after it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from core_encoder.files.storage import write_json
from core_encoder.models.openai_clip import ClipTokenizer
from core_encoder.models.siglip import SiglipTokenizer
from core_encoder.models.text_tower import TextTokenizer, Tokenizer
from core_encoder.text_encoder import TextModelTokenizer

TOKENIZER_FILE, TEXTS_FILE = "tokenizer.json", "texts.json"
_DEFAULTS: dict[str, Any] = {
    "lower": False,
    "punctuation": None,  # what it becomes; null: it stays
    "single_spaces": False,
    "end": "",  # what follows every text
    "special_tokens": True,
    "pad_id": 0,
    "pad": None,  # null: to the longest text; "left" or "right": to max_length
}


def write_texts(folder: Path, tokenizer: Tokenizer | None, scale: float) -> bool:
    """Write `texts.json` and `tokenizer.json`; whether a script without torch can read texts by them.

    `scale` is what similarities of videos and texts are multiplied by before a softmax over texts.
    """
    about = _describe(tokenizer)
    if isinstance(tokenizer, ClipTokenizer | TextModelTokenizer):
        tokenizer._tokenizer.backend_tokenizer.save(str(folder / TOKENIZER_FILE))
    elif about is not None:
        source = tokenizer.path if isinstance(tokenizer, TextTokenizer) else tokenizer.folder / TOKENIZER_FILE  # type: ignore[union-attr]
        shutil.copyfile(source, folder / TOKENIZER_FILE)
    elif tokenizer is not None:
        tokenizer.save(folder)  # of other makes: there to be read by what knows them
    if about is not None:
        write_json(folder / TEXTS_FILE, {"scale": scale, **_DEFAULTS, **about})
    return about is not None


def longest_text(tokenizer: Tokenizer | None, otherwise: int) -> int:
    """The most tokens that a tokenizer gives."""
    return int(getattr(tokenizer, "max_length", otherwise))


def _describe(tokenizer: Tokenizer | None) -> dict[str, Any] | None:
    """What is done with texts around their tokenizer; None where it is of another make."""
    if isinstance(tokenizer, TextTokenizer):
        if tokenizer.path.suffix != ".json":  # a SentencePiece model
            return None
        spelling = {"lower": True, "punctuation": " ", "single_spaces": True, "end": "."}
        return {"max_length": tokenizer.max_length, **spelling, "special_tokens": False}
    if isinstance(tokenizer, SiglipTokenizer):
        spelling = {"lower": True} | ({} if tokenizer.punctuated else {"punctuation": "", "single_spaces": True})
        side = "left" if tokenizer.pads_left else "right"
        return {"max_length": tokenizer.max_length, **spelling, "pad_id": tokenizer.pad_id, "pad": side}
    if isinstance(tokenizer, ClipTokenizer | TextModelTokenizer):
        pad = getattr(tokenizer._tokenizer, "pad_token_id", None)
        return {"max_length": tokenizer.max_length, "pad_id": int(pad or 0)}
    return None
