"""The judge of captions against pycocoevalcap, on random and on awkward texts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core_encoder.errors import InputError
from tasks.judges import judge

words = st.sampled_from(["a", "red", "Blue", "star", "ring", "moves", "left.", "", "up", "A"])
texts = st.lists(words, max_size=9).map(" ".join)  # empty words make spaces that follow each other
items = st.lists(st.tuples(texts, st.lists(texts, min_size=1, max_size=3)), min_size=1, max_size=6)


def official(said: dict[str, str], references: dict[str, list[str]]) -> dict[str, float]:
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    res = {name: [one] for name, one in said.items()}
    return {
        "CIDEr": Cider().compute_score(references, res)[0],
        "BLEU@4": Bleu().compute_score(references, res, verbose=0)[0][3],
        "ROUGE_L": Rouge().compute_score(references, res)[0],
    }


def judged(folder: Path, said: Any, references: Any, **options: Any) -> Any:
    (folder / "truth.json").write_text(json.dumps(references))
    (folder / "said.json").write_text(json.dumps(said))
    return judge("captions", folder / "truth.json", folder / "said.json", **options)


@settings(max_examples=60)
@given(items, st.booleans())
def test_it_is_the_official_value(
    tmp_path_factory: pytest.TempPathFactory, pairs: list[tuple[str, list[str]]], listed: bool
) -> None:
    said = {f"v{k}": one for k, (one, _) in enumerate(pairs)}
    references = {f"v{k}": several for k, (_, several) in enumerate(pairs)}
    if not any(one.split() for several in references.values() for one in several):
        references["v0"].append("star")  # the official one fails where no reference has a word
    shown = {name: [one] for name, one in said.items()} if listed else dict(reversed(said.items()))
    found = judged(tmp_path_factory.mktemp("files"), shown, references, tokens="whitespace")
    assert found.metrics == pytest.approx(official(said, references), abs=1e-6)
    assert (found.n, found.protocol) == (len(pairs), "captions-whitespace-v1")


SAID = {"a": "A man isn't riding the dog's bike.", "b": "", "c": "two girls: one sings (loudly)"}
REFERENCES = {
    "a": ["The man is riding his dog's bike!", "a man, on a bike"],
    "b": ["nobody's there", "an empty room."],
    "c": ["A girl sings loudly.", "Two girls sing; one is loud."],
}


@pytest.mark.skipif(shutil.which("java") is None, reason="the official tokenizer wants Java")
def test_with_the_official_tokenizer(tmp_path: Path) -> None:
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    def tokenized(several: dict[str, list[str]]) -> dict[str, list[str]]:
        found: dict[str, list[str]] = PTBTokenizer().tokenize(
            {name: [{"caption": one} for one in texts] for name, texts in several.items()}
        )
        return found

    said = {name: one for name, (one,) in tokenized({name: [one] for name, one in SAID.items()}).items()}
    wanted = official(said, tokenized(REFERENCES))
    assert judged(tmp_path, SAID, REFERENCES).metrics == pytest.approx(wanted, abs=1e-6)
    assert judged(tmp_path, SAID, REFERENCES, tokens="whitespace").metrics["CIDEr"] < wanted["CIDEr"]


@pytest.mark.parametrize(
    ("said", "references", "says"),
    [
        ({"a": ["x", "y"]}, {"a": ["x"]}, "said.json: id 'a': must be one caption, not ['x', 'y']"),
        ({"a": 3}, {"a": ["x"]}, "said.json: id 'a': must be one caption, not 3"),
        ({"a": "x"}, {"a": "x"}, "truth.json: id 'a': must be a list of at least one text, not 'x'"),
        ({"a": "x"}, {"a": []}, "truth.json: id 'a': must be a list of at least one text, not []"),
        (["x"], {"a": ["x"]}, "said.json: must be an object of ids and captions, not ['x']"),
    ],
)
def test_a_malformed_caption_is_named(tmp_path: Path, said: Any, references: Any, says: str) -> None:
    with pytest.raises(InputError) as error:
        judged(tmp_path, said, references)
    assert says in str(error.value)


def test_ids_must_be_the_same_as_officially(tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        judged(tmp_path, {"a": "x", "e": "y"}, {name: ["x"] for name in "abcdf"})
    assert "4 of its 5 ids have no caption ('b', 'c', 'd', ...) and 1 ids of" in str(error.value)
    assert "have no reference ('e'); both files must have the same ids" in str(error.value)
    with pytest.raises(AssertionError):
        official({"a": "x", "e": "y"}, {"a": ["x"]})
