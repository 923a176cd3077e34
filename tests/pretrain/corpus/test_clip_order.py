"""The arithmetic of the corpus: permutations, and turns dealt by weight."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core_encoder.errors import InputError
from pretrain.corpus.clip_order import WeightedTurns, keyed, permuted

KEYS = st.integers(0, 2**64 - 1)


@given(st.integers(1, 700), KEYS)
@settings(deadline=None)
def test_a_permutation_visits_everything_once(n: int, key: int) -> None:
    assert sorted(permuted(place, n, key) for place in range(n)) == list(range(n))


@given(st.integers(1, 2**45), KEYS, st.data())
@settings(deadline=None)
def test_large_permutations_stay_in_range_and_apart(n: int, key: int, data: st.DataObject) -> None:
    places = data.draw(st.sets(st.integers(0, n - 1), min_size=1, max_size=20))
    images = {permuted(place, n, key) for place in places}
    assert len(images) == len(places)
    assert all(0 <= image < n for image in images)


def test_permutations_of_different_keys_differ_and_scatter() -> None:
    n = 1000
    one, other = ([permuted(place, n, keyed("epoch", epoch)) for place in range(n)] for epoch in (0, 1))
    assert sum(a == b for a, b in zip(one, other, strict=True)) < 10
    first_half = sum(image < n // 2 for image in one[: n // 2])
    assert abs(first_half - n // 4) < 50  # 250 expected of a random order, standard deviation 8
    steps = [abs(b - a) for a, b in pairwise(one)]
    assert abs(sum(steps) / len(steps) - n / 3) < 40


@pytest.mark.parametrize("place", [-1, 5])
def test_places_outside_are_refused(place: int) -> None:
    with pytest.raises(IndexError):
        permuted(place, 5, 0)


def test_keys_are_the_same_everywhere() -> None:
    assert keyed(0, "web", 3) == keyed("0", "web", "3") == 2500041134864342004
    assert keyed("ab", "c") != keyed("a", "bc")


WEIGHTS = st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=6)


@given(WEIGHTS, st.integers(0, 2**32), st.integers(0, 400))
@settings(deadline=None, max_examples=60)
def test_every_kind_has_its_share(weights: list[float], seed: int, num_turns: int) -> None:
    turns = WeightedTurns(weights, seed)
    counts = [0] * len(weights)
    for turn in range(num_turns):
        kind, before = turns.at(turn)
        assert before == counts[kind]  # how many turns it had is right, turn by turn
        counts[kind] += 1
    total = sum(map(Fraction, weights))
    for kind, weight in enumerate(weights):
        assert abs(counts[kind] - num_turns * Fraction(weight) / total) <= kind + 1


def test_turns_alternate_evenly() -> None:
    kinds = [WeightedTurns([1, 1], seed=0).at(turn)[0] for turn in range(10)]
    assert kinds in ([0, 1] * 5, [1, 0] * 5)
    far = 10**12  # no table is kept
    assert WeightedTurns([1, 3], seed=0).at(far)[1] in range(far // 4 - 2, 3 * far // 4 + 3)


@pytest.mark.parametrize("weights", [[], [0.0], [1.0, -1.0]])
def test_weights_must_be_positive(weights: list[float]) -> None:
    with pytest.raises(InputError, match="above 0"):
        WeightedTurns(weights, 0)
