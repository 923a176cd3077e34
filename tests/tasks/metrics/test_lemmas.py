"""Lemmas without stop words: by a tagger and a stemmer as officially, and guessed where there is none."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

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


def test_nltk_is_used_where_it_is_installed_with_its_tagger() -> None:
    pytest.importorskip("nltk")
    found = nltk_tagging()
    if found is None:
        pytest.skip("NLTK's tagger is not installed")
    tag, stem = found
    assert tag(["the", "dogs", "ran", "quickly", "home"])[1:4] == ["noun", "verb", "adv"]
    assert stem("playing") == "play"
