"""Exact match, and WUPS by hand on a WordNet of a few nouns."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.metrics.answers import first_sense_wups, is_exact, wups
from tasks.metrics.wordnet import WordNet
from tests.tasks.metrics.small_wordnet import write_wordnet


@pytest.mark.parametrize(
    ("said", "right", "expected"),
    [
        ("Man.", ["man"], True),
        (" a  RED star ", ["a red star."], True),
        ("left", ["right", "Left"], True),
        ("men", ["man"], False),
        ("", ["man"], False),
        ("1.5", ["15"], False),
    ],
)
def test_exact_match(said: str, right: list[str], expected: bool) -> None:
    assert is_exact(said, right) == expected


def test_wups(tmp_path: Path) -> None:
    nouns = WordNet(write_wordnet(tmp_path / "wordnet"))
    near, far = 8 / 9, 4 / 6  # puppy and dog, dog and cat
    assert wups("puppy", ["dog"], nouns, 0.8) == pytest.approx(near)
    assert wups("puppy", ["dog"], nouns, 0.9) == pytest.approx(0.1 * near)
    assert wups("puppy", ["dog"], nouns, 0.0) == pytest.approx(near)
    assert wups("cat", ["man", "dog"], nouns, 0.0) == pytest.approx(far)  # the nearest of several
    assert wups("cat puppy", ["cat"], nouns, 0.0) == pytest.approx(nouns.similarity("puppy", "cat"))  # the lower way
    assert wups("red puppy", ["red dog"], nouns, 0.9) == pytest.approx(0.1 * near)  # a word that is no noun, but equal
    assert wups("green", ["red"], nouns, 0.0) == 0 == wups("", ["red"], nouns, 0.9)
    assert wups("Moving.", ["moving"], nouns, 0.9) == 1


def next_oe_wups(words: list[str], others: list[str], similarity: dict[tuple[str, str], float], alpha: float) -> float:
    """`wups` of NExT-OE's `metrics.py`, in one direction."""
    value, any_like = 1.0, False
    for word in words:
        best = 0.0
        for other in others:
            one = 1.0 if word == other else similarity[word, other]
            one = 0.1 * one if word != other and one < alpha else one
            best = max(best, one)
        if best == 0:
            continue
        value *= best
        any_like = True
    return value if any_like else 0.0


some_words = st.lists(st.sampled_from("abcd"), max_size=4)


@given(some_words, some_words, st.lists(st.sampled_from([0.0, 0.0, 0.3, 0.9, 1.0]), min_size=16, max_size=16))
def test_first_sense_wups_is_that_of_next_oe(said: list[str], right: list[str], values: list[float]) -> None:
    similarity = dict(zip([(a, b) for a in "abcd" for b in "abcd"], values, strict=True))  # not symmetric
    for alpha in (0.0, 0.9):
        ways = (next_oe_wups(*both, similarity, alpha) for both in ((said, right), (right, said)))
        found = first_sense_wups(said, right, lambda one, other: similarity[one, other], alpha)
        assert found == pytest.approx(min(ways), abs=1e-12)
