"""Exact match, and WUPS by hand on a WordNet of a few nouns."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.metrics.answers import is_exact, wups
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
