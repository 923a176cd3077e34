"""Metrics of captions against pycocoevalcap, on random and on awkward texts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.metrics.captions import bleu, bleu_counts, cider_d, longest_common, rouge_l

words = st.sampled_from(["a", "red", "blue", "star", "ring", "moves", "left", "right", "up"])
texts = st.lists(words, max_size=9)
items = st.lists(st.tuples(texts, st.lists(texts, min_size=1, max_size=3)), min_size=1, max_size=6)


def official(name: str, said: list[list[str]], references: list[list[list[str]]]) -> tuple[object, object]:
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    res = {i: [" ".join(one)] for i, one in enumerate(said)}
    gts = {i: [" ".join(one) for one in several] for i, several in enumerate(references)}
    if name == "bleu":
        return Bleu().compute_score(gts, res, verbose=0)
    return (Cider() if name == "cider" else Rouge()).compute_score(gts, res)


@settings(max_examples=60, deadline=None)
@given(items)
def test_they_equal_the_official_ones(pairs: list[tuple[list[str], list[list[str]]]]) -> None:
    said, references = [one for one, _ in pairs], [several for _, several in pairs]
    if any(one for several in references for one in several):  # the official one fails where no reference has a word
        np.testing.assert_allclose(cider_d(said, references), official("cider", said, references)[1], atol=1e-6)
    np.testing.assert_allclose(rouge_l(said, references), official("rouge", said, references)[1], atol=1e-6)
    sums = bleu_counts(said, references).sum(0)
    own = [float(bleu(sums, order)) for order in range(1, 5)]
    np.testing.assert_allclose(own, official("bleu", said, references)[0], atol=1e-6)


def test_of_one_item_bleu_takes_the_closest_reference_and_cider_is_zero() -> None:
    said, references = [["a", "red", "star"]], [[["a", "red", "star"], ["a", "star"]]]
    assert float(bleu(bleu_counts(said, references).sum(0), 3)) == pytest.approx(1)
    assert cider_d(said, references).tolist() == [0.0]


def test_a_perfect_caption_of_two_has_ten() -> None:
    said = [["a", "red", "star", "moves", "left"], ["one", "blue", "ring", "goes", "up"]]
    assert cider_d(said, [[one] for one in said]).tolist() == pytest.approx([10, 10])


@given(texts, texts)
def test_the_longest_common_subsequence_is_symmetric_and_bounded(a: list[str], b: list[str]) -> None:
    length = longest_common(a, b)
    assert length == longest_common(b, a) <= min(len(a), len(b)) and longest_common(a, a) == len(a)
