"""The objects' names and the splits by which training leaves some combinations of words out."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

import pytest

from pretrain.world.drawing import COLOURS, SHAPES, TEXTURES
from pretrain.world.world_objects import (
    HELD_OUT_OBJECTS,
    OBJECTS,
    SEEN_OBJECTS,
    ZERO_SHOT_OBJECTS,
    WorldObject,
    with_article,
)

WORDS = (TEXTURES, COLOURS, SHAPES)


def test_names_and_objects_go_both_ways() -> None:
    assert [WorldObject.parse(thing.name) for thing in OBJECTS] == list(OBJECTS)
    assert [with_article(name) for name in ("orange star", "red star")] == ["an orange star", "a red star"]


def test_a_third_is_held_out_and_the_two_parts_are_all() -> None:
    assert set(SEEN_OBJECTS) | set(HELD_OUT_OBJECTS) == set(OBJECTS)
    assert not set(SEEN_OBJECTS) & set(HELD_OUT_OBJECTS)
    assert len(HELD_OUT_OBJECTS) == round(len(OBJECTS) / 3)


@pytest.mark.parametrize(
    "objects", [SEEN_OBJECTS, HELD_OUT_OBJECTS, ZERO_SHOT_OBJECTS, ZERO_SHOT_OBJECTS[:67], ZERO_SHOT_OBJECTS[67:]]
)
def test_words_are_balanced(objects: tuple[WorldObject, ...]) -> None:
    for place, words in enumerate(WORDS):
        counts = Counter(thing.words[place] for thing in objects)
        assert set(counts) == set(words)
        assert max(counts.values()) - min(counts.values()) <= 2


def test_every_pair_of_words_is_seen_together() -> None:
    for one, other in combinations(range(3), 2):
        pairs = {(thing.words[one], thing.words[other]) for thing in SEEN_OBJECTS}
        assert len(pairs) == len(WORDS[one]) * len(WORDS[other])


def test_the_zero_shot_objects_are_a_hundred() -> None:
    assert len(set(ZERO_SHOT_OBJECTS)) == len({thing.name for thing in ZERO_SHOT_OBJECTS}) == 100
    assert set(ZERO_SHOT_OBJECTS[:67]) <= set(SEEN_OBJECTS)
    assert set(ZERO_SHOT_OBJECTS[67:]) <= set(HELD_OUT_OBJECTS)
