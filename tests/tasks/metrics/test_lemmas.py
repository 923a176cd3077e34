"""Lemmas without stop words: by a tagger and a stemmer as officially, and guessed where there is none."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import nltk
import pytest
from nltk.tag.perceptron import PerceptronTagger

from tasks.metrics.lemmas import Lemmatizer, nltk_tagging, stop_words
from tasks.metrics.lexicon import Lexicon
from tasks.metrics.wordnet import Part
from tests.tasks.metrics.small_wordnet import write_lexicon


@pytest.fixture(scope="module")
def lexicon(tmp_path_factory: pytest.TempPathFactory) -> Lexicon:
    return Lexicon(write_lexicon(tmp_path_factory.mktemp("lexicon")))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The men are walking", "man walk"),
        ("he ran and sang.", "run sing"),
        ("two dogs", "two dog"),
        ("no, it's not", "no 's not"),
        ("Runs", "runs"),  # as a noun, which the small WordNet does not have
        ("", ""),
    ],
)
def test_guessed_parts_of_speech(lexicon: Lexicon, text: str, expected: str) -> None:
    assert " ".join(Lemmatizer(lexicon).content_words(text)) == expected


def test_a_tagger_decides_and_a_stemmer_helps_where_a_word_is_unknown(lexicon: Lexicon) -> None:
    asked: list[list[str]] = []

    def tag(words: Sequence[str]) -> list[Part]:
        asked.append(list(words))
        return ["noun" if word == "walking" else "verb" for word in words]

    words = Lemmatizer(lexicon, tag, lambda word: word.removesuffix("ly")).content_words
    assert words("Runs, walking bigly oddly") == ("run", "walking", "big", "oddly")
    assert asked == [["runs", "walking", "bigly", "oddly"]]
    assert words("Runs, walking bigly oddly") == ("run", "walking", "big", "oddly") and len(asked) == 1


def test_stop_words_keep_the_negations() -> None:
    assert {"the", "his", "won't", "because"} < stop_words() and not {"no", "not", "nor"} & stop_words()


def test_nltk_is_used_where_it_is_installed_with_its_tagger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NLTK's own tagger, trained here on a few sentences, for the data of the real one comes from no registry."""
    monkeypatch.setattr(nltk.data, "path", [str(tmp_path)])
    assert nltk_tagging() is None  # NLTK alone is not enough
    write_tagger(tmp_path)
    found = nltk_tagging()
    assert found is not None
    tag, stem = found
    words = ["the", "dogs", "ran", "quickly", "home"]
    assert tag(words)[1:] == ["noun", "verb", "adv", "noun"] and tag([]) == []
    assert tag(["the"]) == ["noun"]  # DT is none of the four parts: asked alone, then taken for a noun
    assert stem("playing") == "play"


def write_tagger(folder: Path) -> None:
    """A small tagger of NLTK's, in the files and the folder in which NLTK looks for its English one."""
    tagger = PerceptronTagger(load=False)
    tagger.train([[("the", "DT"), ("dogs", "NNS"), ("ran", "VBD"), ("quickly", "RB"), ("home", "NN")]], nr_iter=10)
    place = folder / "taggers" / "averaged_perceptron_tagger_eng"
    place.mkdir(parents=True)
    parts = {"weights": tagger.model.weights, "tagdict": tagger.tagdict, "classes": sorted(tagger.classes)}
    for name, content in parts.items():
        (place / f"{place.name}.{name}.json").write_text(json.dumps(content))
