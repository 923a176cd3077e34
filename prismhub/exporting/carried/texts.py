"""Texts as token ids for the graph of texts, by `texts.json` and `tokenizer.json`. Needs NumPy and tokenizers."""

import json
import re
import string
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

HERE = Path(__file__).parent
HOW = json.loads((HERE / "texts.json").read_text(encoding="utf-8"))


def text_inputs(texts):
    """What the graph of texts takes: ids int64 (B, L), padded, and which of them are real (B, L)."""
    tokenizer = Tokenizer.from_file(str(HERE / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(HOW["max_length"])
    rows = tokenizer.encode_batch([spelled(text) for text in texts], add_special_tokens=HOW["special_tokens"])
    length = HOW["max_length"] if HOW["pad"] else max([1, *(len(row.ids) for row in rows)])
    ids, mask = np.full((len(rows), length), HOW["pad_id"], np.int64), np.zeros((len(rows), length), bool)
    for i, row in enumerate(rows):
        place = slice(length - len(row.ids), None) if HOW["pad"] == "left" else slice(len(row.ids))
        ids[i, place], mask[i, place] = row.ids, True
    return {"ids": ids, "mask": mask}


def spelled(text):
    """A text as the text tower was trained on."""
    if HOW["punctuation"] is not None:
        text = text.translate(str.maketrans(dict.fromkeys(string.punctuation, HOW["punctuation"])))
    text = text.lower() if HOW["lower"] else text
    return (re.sub(r"\s+", " ", text).strip() if HOW["single_spaces"] else text) + HOW["end"]
