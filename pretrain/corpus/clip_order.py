"""Which clip comes when, as arithmetic: nothing is held in memory, and any point of a run can be asked for.

`WeightedTurns` deals turns to tiers by weight, evenly spread. `permuted` visits `n` clips once each in an order that
its key names: a Feistel network over the next power of four, walked until it lands below `n` (cycle walking; Black and
Rogaway, Ciphers with Arbitrary Finite Domains, 2002).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from fractions import Fraction
from math import floor

from core_encoder.errors import InputError

_ROUNDS = 4
_MASK = (1 << 64) - 1


def keyed(*parts: int | str) -> int:
    """64 bits that depend on every part; the same on every machine."""
    text = "\0".join(map(str, parts))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def permuted(place: int, n: int, key: int) -> int:
    """The element at `place` of the permutation of `range(n)` that `key` names.

    Raises:
        IndexError: `place` is outside `range(n)`.
    """
    if not 0 <= place < n:
        raise IndexError(f"place {place} asked for; the permutation has {n}")
    half = max(((n - 1).bit_length() + 1) // 2, 1)
    while True:  # fewer than four turns on average: the domain is less than four times n
        place = _feistel(place, half, key)
        if place < n:
            return place


def _feistel(value: int, half: int, key: int) -> int:
    """A permutation of `range(4 ** half)`."""
    low_bits = (1 << half) - 1
    left, right = value >> half, value & low_bits
    for turn in range(_ROUNDS):
        left, right = right, left ^ (_mixed(right + key + turn * 0x9E3779B97F4A7C15) & low_bits)
    return left << half | right


def _mixed(value: int) -> int:
    """SplitMix64's finalizer (Steele, Lea and Flood, 2014): every bit of the result depends on every bit given."""
    value &= _MASK
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 & _MASK
    value = (value ^ value >> 27) * 0x94D049BB133111EB & _MASK
    return value ^ value >> 31


class WeightedTurns:
    """Turns dealt by weight: after any number of turns the first k of m kinds had their share to within one turn each.

    The first kind takes every turn at which the whole part of `share * turn + offset` steps up; what it leaves is
    dealt to the others in the same way. Exact fractions, so that no rounding ever accumulates.
    """

    def __init__(self, weights: Sequence[float], seed: int) -> None:
        if not weights or min(weights) <= 0:
            raise InputError(f"weights must be above 0, not {list(weights)}")
        left = sum(map(Fraction, weights), Fraction())
        self._shares: list[tuple[Fraction, Fraction]] = []
        for kind, weight in enumerate(weights[:-1]):
            self._shares.append((Fraction(weight) / left, Fraction(keyed(seed, "turns", kind), 1 << 64)))
            left -= Fraction(weight)

    def at(self, turn: int) -> tuple[int, int]:
        """Whose turn it is, and how many turns it had before."""
        for kind, (share, offset) in enumerate(self._shares):
            before, after = floor(share * turn + offset), floor(share * (turn + 1) + offset)
            if after > before:
                return kind, before
            turn -= before
        return len(self._shares), turn
