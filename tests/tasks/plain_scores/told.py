"""The scores of captions and answers in words, from the official files."""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from tests import ROOT
from tests.tasks.metrics.test_lexicon import first_synset, nltk_wup
from tests.tasks.plain_scores.classified import Scores
from tests.tasks.plain_scores.measures import Line, by_id, mean


def msrvtt_captions(folder: Path) -> dict[str, list[str]]:
    content = json.loads((folder / "MSRVTT_data.json").read_text())
    test = [video["video_id"] for video in content["videos"] if video["split"] == "test"]
    return {name: [one["caption"] for one in content["sentences"] if one["video_id"] == name] for name in test}


def vatex_captions(folder: Path) -> dict[str, list[str]]:
    entries = json.loads((folder / "vatex_public_test_english_v1.1.json").read_text(encoding="utf-8"))
    return {entry["videoID"]: entry["enCap"] for entry in entries}


def youcook2_captions(folder: Path) -> dict[str, list[str]]:
    database = json.loads((folder / "youcookii_annotations_trainval.json").read_text())["database"]
    kept = {name: one for name, one in database.items() if one["subset"] == "validation"}
    return {f"{name}_{one['id']}": [one["sentence"]] for name, video in kept.items() for one in video["annotations"]}


def captions(truth: Callable[[Path], dict[str, list[str]]]) -> Callable[[Path, Sequence[Line]], Scores]:
    """The official package on words in lower case without punctuation, which is what its tokenizer makes of these."""

    def scores(folder: Path, lines: Sequence[Line]) -> Scores:
        from pycocoevalcap.bleu.bleu import Bleu
        from pycocoevalcap.cider.cider import Cider
        from pycocoevalcap.rouge.rouge import Rouge

        right = truth(folder)
        by_id(lines, list(right))
        references = {name: [plain(one) for one in several] for name, several in right.items()}
        said = {line["id"]: [plain(line["caption"])] for line in lines}
        cider, _ = Cider().compute_score(references, said)
        bleu, _ = Bleu(4).compute_score(references, said, verbose=0)
        rouge, _ = Rouge().compute_score(references, said)
        return {"cider": 100 * float(cider), "bleu4": float(bleu[3]), "rouge_l": float(rouge)}

    return scores


def plain(text: str) -> str:
    return " ".join(re.findall(r"[a-z0-9]+|[<>]", text.lower()))


def video_qa(data_set: str, prefix: str) -> Callable[[Path, Sequence[Line]], Scores]:
    """The share of all test questions whose answer is that of the file; it is one of the vocabulary."""

    def scores(folder: Path, lines: Sequence[Line]) -> Scores:
        entries = {split: json.loads((folder / data_set / f"{split}_qa.json").read_text()) for split in SPLITS}
        known = {one["answer"] for split in ("train", "val") for one in entries[split]}
        names = [f"{prefix}{one['video_id']}_{one['id']}" for one in entries["test"]]
        said = by_id(lines, names)
        for line, one in zip(said, entries["test"], strict=True):
            assert line["question"] == one["question"] and line["answer"] in known
            assert {option["answer"] for option in line["candidates"]} == known
        hits = [line["answer"] == one["answer"] for line, one in zip(said, entries["test"], strict=True)]
        return {"accuracy": mean(hits)}

    return scores


SPLITS = ("train", "val", "test")
BASIC = {"walking": "walk", "moving": "move", "men": "man", "ran": "run"}  # of the words that can be said here
UNCHANGED = {"is", "red", "ring", "going", "thing", "something", "sitting"}  # the small WordNet has no such verb


def nextqa_oe(folder: Path, lines: Sequence[Line]) -> Scores:
    """`eval_oe.py` with `get_wups` at threshold 0."""
    inner = folder / "NExT-OE" / "dataset" / "nextqa"
    asked = list(csv.DictReader((inner / "test.csv").open(encoding="utf-8")))
    second = json.loads((inner / "add_reference_answer_test.json").read_text())
    values: dict[str, list[float]] = {}
    said = by_id(lines, [f"{row['video']}_{row['qid']}" for row in asked])
    for row, line in zip(asked, said, strict=True):
        mine = content_words(line["answer"])
        right = [content_words(row["answer"]), content_words(second[row["video"]][row["qid"]])]
        kind = row["type"].replace("TP", "TN")
        if kind in ("DB", "DC"):
            value = float(mine in right)
        else:
            value = max(min(wups(mine, one), wups(one, mine)) for one in right)
        for metric in ("wups", f"wups@{kind[0]}", f"wups@{kind}"):
            values.setdefault(metric, []).append(value)
    return {metric: mean(several) for metric, several in values.items()}


def content_words(text: str) -> list[str]:
    stop = (ROOT / "tasks" / "metrics" / "nextqa_stopwords.txt").read_text().split()
    words = [BASIC.get(word, word) for word in re.findall(r"[a-z]+|[<>]", text.lower())]
    strange = {word for word in words if word.endswith(("ing", "ed", "s"))} - UNCHANGED - set(stop)
    assert not strange, f"{strange}: say in BASIC or UNCHANGED what its basic form is"
    return [word for word in words if word not in stop]


def wups(words: Sequence[str], others: Sequence[str]) -> float:
    """The product over words of the best likeness to any other; words that are like none are passed over."""
    best = [max((likeness(word, other) for other in others), default=0.0) for word in words]
    return math.prod(one for one in best if one) if any(best) else 0.0


def likeness(word: str, other: str) -> float:
    """1 for equal words, else Wu and Palmer's similarity of their first meanings."""
    if word == other:
        return 1.0
    one, two = first_synset(word), first_synset(other)
    return 0.0 if one is None or two is None else nltk_wup(one, two) or 0.0
