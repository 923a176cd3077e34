"""Answers against the right ones: exact match, and WUPS, which gives a part for a word that means nearly the same.

WUPS as Malinowski and Fritz (NeurIPS 2014) compute it, over the words of the answers: for every word the most similar
one of the other answer, similarities below the threshold times 0.1, multiplied, and the lower of both directions. Of
several right answers the nearest counts. `first_sense_wups` is that of NExT-QA, which differs. No torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from tasks.metrics.ptb_tokens import ptb_tokens
from tasks.metrics.wordnet import WordNet

DOWN_WEIGHT = 0.1  # of similarities below the threshold


def plain_answer(text: str) -> str:
    """An answer as answers are compared: lower case, single spaces, without a full stop at its end."""
    return " ".join(text.lower().split()).removesuffix(".").rstrip()


def is_exact(said: str, right: Sequence[str]) -> bool:
    """Whether an answer is one of the right ones, but for case, spaces and a full stop at its end."""
    return plain_answer(said) in {plain_answer(one) for one in right}


def wups(said: str, right: Sequence[str], wordnet: WordNet, threshold: float = 0.9) -> float:
    """WUPS of one answer, from 0 to 1; an answer without a word has 0, one that is exactly right 1."""
    if is_exact(said, right):
        return 1.0
    own = ptb_tokens(said)
    return max(min(_one_way(own, words, wordnet, threshold), _one_way(words, own, wordnet, threshold))
               for words in map(ptb_tokens, right))  # fmt: skip


def _one_way(words: Sequence[str], others: Sequence[str], wordnet: WordNet, threshold: float) -> float:
    if not words or not others:
        return 0.0
    best = [max(wordnet.similarity(word, other) for other in others) for word in words]
    return math.prod(one if one >= threshold else DOWN_WEIGHT * one for one in best)


def first_sense_wups(
    said: Sequence[str], right: Sequence[str], similarity: Callable[[str, str], float], threshold: float = 0.0
) -> float:
    """WUPS of the words of one answer as `metrics.py` of NExT-OE computes it, from 0 to 1; 0 without words.

    It differs from `wups`: words that are like none of the other answer are skipped, not multiplied, so long as one is
    like some; and `similarity`, which need not be symmetric, compares first meanings.
    """
    return min(_skipping(said, right, similarity, threshold), _skipping(right, said, similarity, threshold))


def open_answer_score(
    said: Sequence[str], right: Sequence[Sequence[str]], kind: str, similarity: Callable[[str, str], float]
) -> float:
    """What NExT-OE gives the words of an answer, from 0 to 1, by the type of its question: yes-no and counting
    questions (DB, DC) are right or wrong, of the others the nearest right answer counts."""
    if kind in ("DB", "DC"):
        return float(tuple(said) in [tuple(one) for one in right])
    return max(first_sense_wups(said, one, similarity) for one in right)


def _skipping(
    words: Sequence[str], others: Sequence[str], similarity: Callable[[str, str], float], threshold: float
) -> float:
    best = []
    for word in words:
        each = (1.0 if word == other else similarity(word, other) for other in others)
        best.append(max((one if one >= threshold else DOWN_WEIGHT * one for one in each), default=0.0))
    alike = [one for one in best if one > 0]
    return math.prod(alike) if alike else 0.0
