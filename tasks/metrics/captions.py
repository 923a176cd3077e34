"""Captions against references: CIDEr-D, BLEU-1 to BLEU-4 and ROUGE-L, from tokens. No torch, no Java.

Equal to pycocoevalcap 1.2 on the same tokens: its `Cider` (which is CIDEr-D: clipped counts, a Gaussian penalty on the
difference in length, document frequencies of the references of the evaluated set), `Bleu` with the closest reference
length, and `Rouge` (beta 1.2, precision and recall each the best over the references).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

ORDER = 4  # n-grams of one to four tokens
SIGMA = 6.0  # of CIDEr-D's penalty on the difference in length
BETA = 1.2  # weight of recall in ROUGE-L
_SMALL, _TINY = 1e-9, 1e-15  # BLEU's guards against division by zero

Tokens = Sequence[str]
Grams = Mapping[tuple[str, ...], int]


def ngrams(tokens: Tokens) -> Counter[tuple[str, ...]]:
    """How often each n-gram of one to four tokens occurs."""
    return Counter(
        tuple(tokens[start : start + n]) for n in range(1, ORDER + 1) for start in range(len(tokens) - n + 1)
    )


def cider_d(said: Sequence[Tokens], references: Sequence[Sequence[Tokens]]) -> NDArray[np.float64]:
    """CIDEr-D of each text `(n,)`, from 0 to 10; what is rare in the references of the whole set weighs more.

    The mean is the score of the set, which papers print times 100. With a single item it is 0.
    """
    counted = [[ngrams(one) for one in several] for several in references]
    frequency = Counter(gram for several in counted for gram in {gram for one in several for gram in one})
    items = math.log(len(said)) if said else 0.0
    scores = []
    for tokens, several in zip(said, counted, strict=True):
        own = _weighed(ngrams(tokens), frequency, items)
        sums = [_similarity(own, _weighed(one, frequency, items)) for one in several]
        scores.append(10 * sum(sums) / (ORDER * len(sums)))
    return np.array(scores, dtype=np.float64)


class _Weighed(NamedTuple):
    """TF-IDF weights of the n-grams of each order, their norms, and how many bigrams there are."""

    weights: list[dict[tuple[str, ...], float]]
    norms: list[float]
    bigrams: int


def _weighed(grams: Grams, frequency: Counter[tuple[str, ...]], items: float) -> _Weighed:
    weights: list[dict[tuple[str, ...], float]] = [{} for _ in range(ORDER)]
    for gram, count in grams.items():
        weights[len(gram) - 1][gram] = count * (items - math.log(max(1, frequency[gram])))
    norms = [math.sqrt(sum(value**2 for value in one.values())) for one in weights]
    return _Weighed(weights, norms, sum(count for gram, count in grams.items() if len(gram) == 2))


def _similarity(own: _Weighed, other: _Weighed) -> float:
    """The sum over the orders of the clipped cosine, under the penalty on the difference in length."""
    penalty = math.exp(-((own.bigrams - other.bigrams) ** 2) / (2 * SIGMA**2))
    total = 0.0
    for mine, theirs, norm, norm_other in zip(own.weights, other.weights, own.norms, other.norms, strict=True):
        product = sum(min(value, theirs.get(gram, 0.0)) * theirs.get(gram, 0.0) for gram, value in mine.items())
        total += penalty * (product / (norm * norm_other) if norm and norm_other else product)
    return total


def bleu_counts(said: Sequence[Tokens], references: Sequence[Sequence[Tokens]]) -> NDArray[np.float64]:
    """What BLEU adds up for each text `(n, 10)`: its length, the closest reference's, n-grams right, and all n-grams.

    Of two references equally close the shorter one counts.
    """
    rows = []
    for tokens, several in zip(said, references, strict=True):
        most: Counter[tuple[str, ...]] = Counter()
        for one in several:
            most |= ngrams(one)  # the larger count of each
        right = [0] * ORDER
        for gram, count in ngrams(tokens).items():
            right[len(gram) - 1] += min(count, most[gram])
        length = len(tokens)
        closest = min((abs(len(one) - length), len(one)) for one in several)[1]
        rows.append([length, closest, *right, *(max(0, length - n) for n in range(ORDER))])
    return np.array(rows, dtype=np.float64).reshape(len(rows), 2 + 2 * ORDER)


def bleu(sums: NDArray[np.float64], order: int) -> NDArray[np.float64]:
    """BLEU of an order from sums `(..., 10)` of `bleu_counts`: a score of the whole set, not a mean over texts."""
    length, closest = sums[..., 0], sums[..., 1]
    right, total = sums[..., 2 : 2 + order], sums[..., 2 + ORDER : 2 + ORDER + order]
    precision = ((right + _TINY) / (total + _SMALL)).prod(-1) ** (1 / order)
    ratio = (length + _TINY) / (closest + _SMALL)
    return precision * np.where(ratio < 1, np.exp(1 - 1 / np.minimum(ratio, 1)), 1.0)


def rouge_l(said: Sequence[Tokens], references: Sequence[Sequence[Tokens]]) -> NDArray[np.float64]:
    """ROUGE-L of each text `(n,)`, from 0 to 1; the mean is the score of the set."""
    scores = []
    for tokens, several in zip(said, references, strict=True):
        own = tokens or [""]  # an empty text counts as one empty token, as splitting at spaces gives
        common = [(longest_common(one or [""], own), len(one) or 1) for one in several]
        precision = max(length for length, _ in common) / len(own)
        recall = max(length / total for length, total in common)
        both = recall + BETA**2 * precision
        scores.append((1 + BETA**2) * precision * recall / both if precision and recall else 0.0)
    return np.array(scores, dtype=np.float64)


def longest_common(a: Tokens, b: Tokens) -> int:
    """The length of the longest common subsequence."""
    row = [0] * (len(b) + 1)
    for one in a:
        diagonal = 0
        for place, other in enumerate(b, start=1):
            diagonal, row[place] = row[place], diagonal + 1 if one == other else max(row[place], row[place - 1])
    return row[-1]
