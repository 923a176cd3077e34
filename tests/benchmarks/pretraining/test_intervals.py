"""Intervals against the bootstrap, against tables, and against how often they hold in a simulation."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.pretraining.intervals import Interval, mean_over_seeds, share, t_quantile
from tasks.metrics.bootstrap import bootstrap_interval


@pytest.mark.parametrize(("freedom", "wanted"), [(1, 12.706), (2, 4.303), (4, 2.776), (30, 2.042), (1e5, 1.960)])
def test_t_quantiles_are_those_of_the_tables(freedom: float, wanted: float) -> None:
    assert t_quantile(0.975, freedom) == pytest.approx(wanted, abs=1e-3)
    assert t_quantile(0.975, freedom + 0.5 * freedom) < t_quantile(0.975, freedom)


def test_wilson_is_that_of_the_textbook() -> None:
    """Roots of (p - x)^2 = z^2 x (1 - x) / n, found here by search."""
    hits = np.array([1] * 7 + [0] * 43)
    grid = np.linspace(0, 1, 1_000_001)
    inside = grid[(0.14 - grid) ** 2 <= 1.959964**2 * grid * (1 - grid) / 50]
    found = share(hits)
    assert found.value == pytest.approx(0.14)
    assert (found.low, found.high) == pytest.approx((inside[0], inside[-1]), abs=2e-6)
    assert share([False] * 20).low == 0 and share([True] * 20).high == 1
    with pytest.raises(ValueError, match="at least one"):
        share([])


def test_one_seed_agrees_with_the_bootstrap_over_clips() -> None:
    rng = np.random.default_rng(0)
    difference = (rng.random(2000) < 0.5).astype(float) - (rng.random(2000) < 0.4)
    found = mean_over_seeds([difference])
    low, high = bootstrap_interval(difference, num_draws=4000)
    assert found.value == pytest.approx(difference.mean())
    assert (found.low, found.high) == pytest.approx((low, high), abs=2e-3)


def test_seeds_that_differ_alone_give_students_interval() -> None:
    """Every clip says the same, so what is left is the textbook's mean of three numbers."""
    means = np.array([0.1, 0.4, 0.7])
    table = means[:, None] + np.zeros((3, 500))
    half = 4.30265 * means.std(ddof=1) / np.sqrt(3)
    found = mean_over_seeds(table)
    assert (found.low, found.high) == pytest.approx((0.4 - half, 0.4 + half), abs=1e-4)


def test_equal_seeds_leave_the_clips_alone() -> None:
    """Three copies of one encoder are one encoder: three times the clips would be a lie."""
    row = (np.random.default_rng(1).random(800) < 0.3).astype(float)
    one, three = mean_over_seeds([row]), mean_over_seeds([row] * 3)
    assert (three.low, three.high) == pytest.approx((one.low, one.high), abs=1e-9)


@pytest.mark.parametrize(("of_seeds", "of_clips"), [(0.0, 0.0), (0.05, 0.3), (0.0, 0.4), (0.2, 0.0)])
def test_the_interval_holds_as_often_as_it_says(of_seeds: float, of_clips: float) -> None:
    rng = np.random.default_rng(2)
    held = 0
    for _ in range(400):
        worth, ease = rng.normal(0, of_seeds, (3, 1)), rng.normal(0, of_clips, (1, 60))
        found = mean_over_seeds(0.5 + worth + ease + rng.normal(0, 0.3, (3, 60)))
        held += found.low <= 0.5 <= found.high
    assert held / 400 >= 0.93


def test_values_that_are_no_table_are_refused() -> None:
    for values in ([0.0, 1.0], [[1.0]], np.zeros((0, 5))):
        with pytest.raises(ValueError, match="seeds, clips"):
            mean_over_seeds(values)


def test_intervals_are_scaled_and_shown() -> None:
    assert str(Interval(0.5, 0.25, 0.751).scaled(100)) == "50.0 [25.0, 75.1]"
