"""Streaming histograms against numpy over all values."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pretrain.curation.histogram import Histogram

VALUES = st.lists(st.floats(-0.2, 1.2, allow_nan=False), min_size=1, max_size=60)


@settings(deadline=None)
@given(values=VALUES, share=st.floats(0, 1))
def test_it_agrees_with_all_values(values: list[float], share: float) -> None:
    histogram = Histogram(0.0, 1.0, 100)
    for value in values:
        histogram.add(value)
    assert histogram.count == len(values)
    assert histogram.mean == pytest.approx(np.mean(values))
    assert (histogram.least, histogram.greatest) == (min(values), max(values))
    exact = float(np.quantile(values, share, method="inverted_cdf"))
    found = histogram.quantile(share)
    assert found is not None
    assert found == pytest.approx(exact, abs=0.0101) or exact < 0.01 or exact > 0.99
    assert min(values) <= found <= max(values)


@settings(deadline=None)
@given(values=st.lists(st.integers(-3, 30), min_size=1, max_size=50))
def test_whole_numbers_fall_into_their_own_bins(values: list[int]) -> None:
    histogram = Histogram(0, 20, 20)
    for value in values:
        histogram.add(value)
    assert histogram.quantile(0.5) in (sorted(values)[(len(values) - 1) // 2], 0, max(values))
    edges = [0, 5, 10, 20]
    expected = np.histogram(np.clip(values, 0, 19), edges)[0]
    assert histogram.counts_between(edges) == expected.tolist()
    assert sum(histogram.counts_between([7, 8])) == len(values)


def test_multiples_of_the_width_begin_their_bin() -> None:
    histogram = Histogram(-1.0, 1.0, 2000)
    for step in range(-1000, 1000):
        histogram.add(step / 1000)
    assert set(histogram.counts.tolist()) == {1}


def test_an_empty_one_has_no_mean() -> None:
    empty = Histogram(0, 1, 4)
    assert empty.mean is None
    assert empty.quantile(0.5) is None
    assert empty.describe() == {"count": 0, "mean": None, "min": None, "quartiles": None, "max": None}
    with pytest.raises(ValueError, match="low < high"):
        Histogram(1, 1, 4)
