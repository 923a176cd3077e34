"""WordNet's nouns: forms, meanings and distances, worked out by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from core_encoder.errors import InputError
from tasks.metrics.wordnet import WordNet, find_wordnet
from tests.tasks.metrics.small_wordnet import write_wordnet


@pytest.fixture
def nouns(tmp_path: Path) -> WordNet:
    return WordNet(write_wordnet(tmp_path / "wordnet"))


def test_forms_and_meanings(nouns: WordNet) -> None:
    (puppy,), (dog, hot_dog) = nouns.synsets("puppies"), nouns.synsets("Dogs")
    assert nouns.hypernyms(puppy) == [dog] and nouns.synsets("hot_dogs") == (hot_dog,)
    assert nouns.synsets("men") == nouns.synsets("man") and nouns.synsets("beasts") == nouns.synsets("animal")
    assert nouns.synsets("running") == ()


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ("dog", "dog", 1.0),
        ("dogs", "dog", 1.0),
        ("dog", "cat", 2 * 2 / (1 + 1 + 2 * 2)),  # over animal, one step down to each
        ("puppy", "dog", 2 * 4 / (1 + 0 + 2 * 4)),  # a dog lies 3 deep over pet, 2 over animal
        ("puppy", "man", 2 * 1 / (3 + 1 + 2 * 1)),
        ("dog", "man", 2 * 1 / (1 + 1 + 2 * 1)),  # as a hot dog
        ("dog", "unknown", 0.0),
        ("unknown", "unknown", 1.0),
    ],
)
def test_similarity(nouns: WordNet, a: str, b: str, expected: float) -> None:
    assert nouns.similarity(a, b) == nouns.similarity(b, a) == pytest.approx(expected)


def test_where_it_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_wordnet(tmp_path / "nltk" / "corpora" / "wordnet")
    for name in ("WNSEARCHDIR", "WNHOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NLTK_DATA", str(tmp_path / "nltk"))
    assert find_wordnet() in (folder, Path("/usr/share/wordnet"))
    monkeypatch.setenv("WNSEARCHDIR", str(write_wordnet(tmp_path / "own")))
    assert find_wordnet() == tmp_path / "own"
    with pytest.raises(InputError, match=r"nltk: no folder of WordNet's files \(index.noun, data.noun, noun.exc\)"):
        WordNet(tmp_path / "nltk")
