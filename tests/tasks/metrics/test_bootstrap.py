"""Intervals: seeded, near the textbook width, equal to a plain loop, and wider where clips share a video."""

from __future__ import annotations

import numpy as np
import pytest

from tasks.metrics.bootstrap import bootstrap_interval, value_of
from tasks.metrics.classification import MeanClassAccuracy


def test_interval_is_seeded_and_covers() -> None:
    hits = np.random.default_rng(0).random(400) < 0.7
    low, high = bootstrap_interval(hits, seed=3)
    assert (low, high) == bootstrap_interval(hits, seed=3)
    assert (low, high) != bootstrap_interval(hits, seed=4)
    half_width = 1.96 * np.sqrt(hits.mean() * (1 - hits.mean()) / 400)  # the normal approximation
    assert low == pytest.approx(hits.mean() - half_width, abs=0.01)
    assert high == pytest.approx(hits.mean() + half_width, abs=0.01)
    assert bootstrap_interval([1.0, 1.0, 1.0]) == (1.0, 1.0)
    with pytest.raises(ValueError, match="at least one sample"):
        bootstrap_interval([])


def test_interval_equals_a_loop_that_draws_samples() -> None:
    rng = np.random.default_rng(7)
    scores, targets = rng.random((30, 4)), rng.integers(0, 4, 30)
    metric = MeanClassAccuracy(4)
    low, high = bootstrap_interval(metric.statistic(scores, targets), 30, seed=11, num_draws=200)
    drawn = np.random.default_rng(11).integers(30, size=(200, 30))
    hits = scores.argmax(axis=1) == targets
    values = [np.mean([hits[rows][targets[rows] == c].mean() for c in set(targets[rows])]) for rows in drawn]
    assert (low, high) == pytest.approx(tuple(np.quantile(values, [0.025, 0.975])))


def test_clips_of_one_video_are_drawn_together() -> None:
    hits = np.repeat(np.random.default_rng(0).random(20) < 0.5, 50)  # 50 equal clips a video: 20 facts, not 1000
    low, high = bootstrap_interval(hits, seed=0)
    wide = bootstrap_interval(hits, groups=np.repeat(np.arange(20), 50).tolist(), seed=0)
    assert wide[1] - wide[0] > 4 * (high - low)
    with pytest.raises(ValueError, match="as many groups"):
        bootstrap_interval(hits, groups=["a"])


def test_draws_without_ground_truth_are_left_out() -> None:
    def first_only(weights: np.ndarray) -> np.ndarray:
        return np.where(weights[:, 0] > 0, 0.5, np.nan)

    assert bootstrap_interval(first_only, 3) == (0.5, 0.5)
    with pytest.raises(ValueError, match="ground truth"):
        bootstrap_interval(lambda weights: np.full(len(weights), np.nan), 3)
    with pytest.raises(ValueError, match="ground truth"):
        value_of(lambda weights: np.full(len(weights), np.nan), 3)
