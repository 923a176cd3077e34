"""Captions as pycocoevalcap judges them: CIDEr-D, BLEU-4 and ROUGE-L. No torch, no Java.

    truth         {id: [reference, ...]}
    predictions   {id: caption} or {id: [caption]}

Both files must have the same ids, as the official evaluator demands. An empty caption is judged like any other.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from core_encoder.errors import InputError
from core_encoder.files.storage import nearest, read_json
from tasks.judges.judgement import Judgement, id_note
from tasks.metrics.captions import ORDER, bleu, bleu_counts, cider_d, rouge_l
from tasks.metrics.ptb_tokens import ptb_tokens

PROTOCOLS = {"ptb": "captions-ptb-v1", "whitespace": "captions-whitespace-v1"}
"""Tokens by the rules of the Penn Treebank in lower case and without punctuation, or words as they stand."""


def judge_captions(truth: Path, predictions: Path, tokens: Literal["ptb", "whitespace"] = "ptb") -> Judgement:
    """`CIDEr` (CIDEr-D from 0 to 10, of which papers print a hundredfold), `BLEU@4` and `ROUGE_L` from 0 to 1.

    Raises:
        InputError: ids of one file alone, or one line with file, id and the fix.
    """
    if tokens not in PROTOCOLS:
        raise InputError(f"tokens cannot be {tokens!r}{nearest(str(tokens), PROTOCOLS)}")
    references = {name: _texts(truth, name, several) for name, several in _by_id(truth).items()}
    captions = {name: _caption(predictions, name, one) for name, one in _by_id(predictions).items()}
    alone = [
        *id_note(references.keys() - captions.keys(), f"of its {len(references)} ids have no caption", ""),
        *id_note(captions.keys() - references.keys(), f"ids of {predictions} have no reference", ""),
    ]
    if alone:
        told = " and ".join(one.removesuffix(": ") for one in alone)
        raise InputError(f"{truth}: {told}; both files must have the same ids, as the official evaluator demands")
    split = str.split if tokens == "whitespace" else ptb_tokens
    said = [split(captions[name]) for name in references]
    known = [[split(one) for one in several] for several in references.values()]
    sums = bleu_counts(said, known).sum(axis=0)
    cider = float(cider_d(said, known).mean())
    if tokens == "whitespace":  # ROUGE-L alone splits at every space, so that two in a row make an empty word
        said = [captions[name].split(" ") for name in references]
        known = [[one.split(" ") for one in several] for several in references.values()]
    metrics = {"CIDEr": cider, "BLEU@4": float(bleu(sums, ORDER)), "ROUGE_L": float(rouge_l(said, known).mean())}
    return Judgement("captions", PROTOCOLS[tokens], len(references), metrics)


def _by_id(file: Path) -> dict[str, Any]:
    content = read_json(file)
    if not isinstance(content, dict) or not content:
        raise InputError(f"{file}: must be an object of ids and captions, not {_short(content)}")
    return content


def _texts(file: Path, name: str, several: Any) -> list[str]:
    if not isinstance(several, list) or not several or not all(isinstance(one, str) for one in several):
        raise InputError(f"{file}: id {name!r}: must be a list of at least one text, not {_short(several)}")
    return several


def _caption(file: Path, name: str, given: Any) -> str:
    if isinstance(given, list) and len(given) == 1:
        given = given[0]
    if not isinstance(given, str):
        raise InputError(f"{file}: id {name!r}: must be one caption, not {_short(given)}")
    return given


def _short(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
