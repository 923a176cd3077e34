"""Similarity over all parts of speech against NLTK 3.3's own steps, restated on the small WordNet."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from core_encoder.errors import InputError
from tasks.metrics.lexicon import Lexicon
from tasks.metrics.wordnet import PARTS
from tests.tasks.metrics.small_wordnet import PARTS as WORDS
from tests.tasks.metrics.small_wordnet import write_lexicon, write_wordnet

Synset = tuple[str, str]  # part and kind; ("", "*ROOT*") is the simulated one
ROOT = ("", "*ROOT*")


@pytest.fixture(scope="module")
def lexicon(tmp_path_factory: pytest.TempPathFactory) -> Lexicon:
    return Lexicon(write_lexicon(tmp_path_factory.mktemp("lexicon")))


def first_synset(word: str) -> Synset | None:
    """`wordnet.synsets(word)[0]`: nouns come first, then verbs, adjectives, adverbs."""
    found = ((part, kind) for part, (kinds, _) in WORDS.items() for kind, (words, _) in kinds.items() if word in words)
    return next(found, None)


def name(synset: Synset) -> str:
    part, kind = synset
    if synset == ROOT:
        return kind
    word = WORDS[part][0][kind][0][0]
    senses = [one for one, (words, _) in WORDS[part][0].items() if word in words]
    return f"{word}.{part[0]}.{senses.index(kind) + 1:02}"


def above(synset: Synset) -> list[Synset]:
    return [] if synset == ROOT else [(synset[0], one) for one in WORDS[synset[0]][0][synset[1]][1]]


def depths(synset: Synset) -> tuple[int, int]:
    found = [depths(one) for one in above(synset)]
    return (1 + min(low for low, _ in found), 1 + max(high for _, high in found)) if found else (0, 0)


def shortest_paths(synset: Synset, rooted: bool) -> dict[Synset, int]:
    """`_shortest_hypernym_paths`: by breadth, and the simulated root beyond the farthest."""
    if synset == ROOT:
        return {synset: 0}
    paths: dict[Synset, int] = {}
    queue = [(synset, 0)]
    while queue:
        one, steps = queue.pop(0)
        if one not in paths:
            paths[one] = steps
            queue += [(up, steps + 1) for up in above(one)]
    return paths | ({ROOT: max(paths.values()) + 1} if rooted else {})


def distance(one: Synset, other: Synset, rooted: bool) -> int:
    if one == other:
        return 0
    mine, theirs = shortest_paths(one, rooted), shortest_paths(other, rooted)
    return min(steps + theirs[up] for up, steps in mine.items() if up in theirs)


def nltk_wup(one: Synset, other: Synset) -> float | None:
    """`wup_similarity` of NLTK 3.3."""
    rooted = one[0] == "verb"
    shared = shortest_paths(one, rooted).keys() & shortest_paths(other, rooted).keys()
    if not shared:
        return None
    deepest = max(depths(up)[0] for up in shared)
    subsumers = sorted((up for up in shared if depths(up)[0] == deepest), key=name)
    subsumer = one if one in subsumers else subsumers[0]
    depth = depths(subsumer)[1] + 1
    lengths = distance(one, subsumer, rooted) + distance(other, subsumer, rooted)
    return 2 * depth / (lengths + 2 * depth)


def test_every_pair_of_words_is_as_near_as_in_nltk(lexicon: Lexicon) -> None:
    known = sorted({word for kinds, _ in WORDS.values() for words, _ in kinds.values() for word in words})
    values = {}
    for a, b in itertools.product([*known, "unknown"], repeat=2):
        one, other = first_synset(a), first_synset(b)
        expected = 1.0 if a == b else 0.0 if one is None or other is None else nltk_wup(one, other) or 0.0
        values[a, b] = lexicon.similarity(a, b)
        assert values[a, b] == pytest.approx(expected, abs=1e-12), (a, b)
    assert values["walk", "dog"] > 0 == values["dog", "walk"]  # the root is that of the verb which stands first
    assert values["big", "large"] == 1 and values["big", "happy"] == 0
    assert values["walk", "sing"] == values["walk", "run"] < values["march", "walk"]  # `*ROOT*` comes before `move`


def test_first_meanings_and_lemmas(lexicon: Lexicon) -> None:
    assert lexicon.first_meaning("dog") == lexicon.first_meaning("dogs") != lexicon.first_meaning("chase")
    assert lexicon.first_meaning("ran") == lexicon.first_meaning("run") and lexicon.first_meaning("xyz") is None
    assert lexicon.lemma("ran", "verb") == "run" and lexicon.lemma("running", "noun") == "running"
    assert lexicon.lemma("walking", "verb") == "walk" and lexicon.lemma("larger", "adj") == "large"
    assert lexicon.lemma("puppies", "noun") == "puppy" and lexicon.lemma("xyz", "adv") == "xyz"


def test_a_wordnet_of_nouns_alone_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WNSEARCHDIR", str(write_wordnet(tmp_path / "nouns")))
    monkeypatch.setattr("tasks.metrics.lexicon.find_wordnet", lambda parts: None)
    with pytest.raises(InputError, match="WordNet is not on this machine: install Debian's wordnet-base, or let"):
        Lexicon.find()
    with pytest.raises(InputError, match=r"no folder of WordNet's files \(index.verb"):
        Lexicon(tmp_path / "nouns")
    monkeypatch.undo()
    monkeypatch.setenv("WNSEARCHDIR", str(write_lexicon(tmp_path / "whole")))
    assert Lexicon.find().similarity("dog", "puppy") == pytest.approx(8 / 9) and len(PARTS) == 4
