"""Colour histograms are what a loop over all pixels counts, and know nothing of places and order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from benchmarks.colour_histogram import LEVELS, colour_histogram

videos = arrays(np.uint8, st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4), st.just(3)))


def counted_one_by_one(frames: np.ndarray, levels: int) -> list[float]:
    """The histogram by a loop over pixels; level k of a channel begins at the least value that is `256 k / levels`."""
    counts = dict.fromkeys(np.ndindex(levels, levels, levels), 0)
    edges = [256 * k / levels for k in range(1, levels)]
    for pixel in frames.reshape(-1, 3).tolist():
        counts[tuple(sum(value >= edge for edge in edges) for value in pixel)] += 1
    return [count / (frames.size / 3) for _, count in sorted(counts.items())]


@given(frames=videos, levels=st.integers(1, 6))
def test_it_counts_as_a_loop_over_pixels_does(frames: np.ndarray, levels: int) -> None:
    histogram = colour_histogram(frames, levels)
    assert histogram.shape == (levels**3,)
    assert histogram.tolist() == pytest.approx(counted_one_by_one(frames, levels), abs=1e-6)


@given(frames=videos, seed=st.integers(0, 99))
def test_places_and_order_say_nothing(frames: np.ndarray, seed: int) -> None:
    shuffled = np.random.default_rng(seed).permutation(frames.reshape(-1, 3)).reshape(frames.shape)
    assert colour_histogram(frames).equal(colour_histogram(shuffled))


def test_pure_colours_lie_where_they_belong() -> None:
    frames = np.zeros((2, 4, 4, 3), np.uint8)
    frames[0, ..., 0] = 255  # half of it red, half black
    histogram = colour_histogram(frames)
    assert len(histogram) == LEVELS**3
    assert {place: float(value) for place, value in enumerate(histogram) if value} == {
        0: 0.5,
        (LEVELS - 1) * LEVELS**2: 0.5,
    }


def test_other_arrays_are_refused() -> None:
    for frames in (np.zeros((4, 4, 3), np.uint8), np.zeros((1, 4, 4, 3)), np.zeros((1, 3, 4, 4), np.uint8)):
        with pytest.raises(ValueError, match="wants uint8 frames"):
            colour_histogram(frames)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="1 to 256 levels, not 0"):
        colour_histogram(np.zeros((1, 4, 4, 3), np.uint8), 0)
