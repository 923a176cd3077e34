"""Masks: exact shares, blocks in space, runs in time, and the same ones for the same sample wherever it is computed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pretrain.stages.masking import batch_masks, batch_orders, block_mask, sample_rng, shuffle_order, tube_mask

sizes = st.integers(1, 12)
shares = st.floats(0.0, 0.95)
keys = st.tuples(st.integers(0, 2**63), st.integers(0, 2), st.integers(0, 2**40), st.integers(0, 2**20))
CLIP = (8, 6, 6)


def block_masks(count: int = 200, ratio: float = 0.65) -> np.ndarray:
    """Hidden tokens (count, T, rows, columns) of many clips."""
    masks = [~block_mask(*CLIP, ratio, sample_rng(0, 2, 0, position)) for position in range(count)]
    return np.stack(masks).reshape(count, *CLIP)


@settings(deadline=None)
@given(sizes, st.integers(2, 64), shares, keys)
def test_a_tube_shows_the_same_places_in_every_frame(frames: int, patches: int, drop: float, key: tuple) -> None:
    expected = round(patches * (1 - drop))
    if expected == 0:
        with pytest.raises(ValueError, match="leaves none"):
            tube_mask(frames, patches, drop, sample_rng(*key))
        return
    mask = tube_mask(frames, patches, drop, sample_rng(*key))
    assert mask.shape == (frames, patches) and mask.dtype == bool
    assert mask[0].sum() == expected
    assert (mask == mask[0]).all()


@settings(deadline=None)
@given(sizes, sizes, sizes, shares, keys)
def test_blocks_hide_exactly_the_stated_share(frames: int, rows: int, columns: int, ratio: float, key: tuple) -> None:
    expected = round(ratio * frames * rows * columns)
    if expected == frames * rows * columns:
        with pytest.raises(ValueError, match="leaves none"):
            block_mask(frames, rows, columns, ratio, sample_rng(*key))
        return
    mask = block_mask(frames, rows, columns, ratio, sample_rng(*key))
    assert mask.shape == (frames, rows * columns) and mask.dtype == bool
    assert (~mask).sum() == expected


@pytest.mark.parametrize("share", [-0.1, 1.0, 1.5, float("nan")])
def test_impossible_shares_are_refused(share: float) -> None:
    rng = sample_rng(0, 2, 0, 0)
    with pytest.raises(ValueError, match="share"):
        tube_mask(8, 36, share, rng)
    with pytest.raises(ValueError, match="share"):
        block_mask(*CLIP, share, rng)


def covered_by_squares(hidden: np.ndarray, side: int) -> np.ndarray:
    """Which hidden places of a frame (rows, columns) lie in a fully hidden square of that side."""
    covered = np.zeros_like(hidden)
    for top in range(hidden.shape[0] - side + 1):
        for left in range(hidden.shape[1] - side + 1):
            if hidden[top : top + side, left : left + side].all():
                covered[top : top + side, left : left + side] = True
    return covered


def test_hidden_places_form_rectangles() -> None:
    hidden = block_masks()
    independent = np.random.default_rng(0).permuted(hidden.reshape(200, 8, 36), axis=2).reshape(hidden.shape)

    def share_in_squares(masks: np.ndarray) -> float:
        frames = masks[:60].reshape(-1, 6, 6)
        return sum(covered_by_squares(frame, 3).sum() for frame in frames) / frames.sum()

    # An isolated hidden place has no hidden neighbour; independent masks at 0.65 have many such by chance.
    assert share_in_squares(hidden) > 0.7
    assert share_in_squares(independent) < 0.4

    def hidden_beside_hidden(masks: np.ndarray) -> float:
        return (masks[..., 1:] & masks[..., :-1]).sum() / masks[..., :-1].sum()

    assert hidden_beside_hidden(hidden) > hidden_beside_hidden(independent) + 0.12


def test_hidden_places_stay_hidden_through_runs_of_frames() -> None:
    def mean_run(masks: np.ndarray) -> float:
        tracks = masks.transpose(0, 2, 3, 1).reshape(-1, 8)  # a patch place through time
        starts = tracks & ~np.pad(tracks, ((0, 0), (1, 0)))[:, :-1]
        return tracks.sum() / starts.sum()

    hidden = block_masks()
    independent = np.random.default_rng(0).permuted(hidden, axis=1)
    assert mean_run(hidden) > 1.6 * mean_run(independent)
    tubes = (hidden == hidden[:, :1]).all(axis=(1, 2, 3))
    assert not tubes.any()  # runs, and not the whole clip


def test_no_place_is_spared() -> None:
    often = block_masks(400).mean(axis=0)
    assert often[:, [0, 0, -1, -1], [0, -1, 0, -1]].mean(axis=0).min() > 0.3  # the corners of the frames
    assert often.max() < 0.95


@settings(deadline=None)
@given(keys)
def test_numbers_depend_on_the_sample_alone(key: tuple[int, int, int, int]) -> None:
    first = sample_rng(*key).random(4)
    np.testing.assert_array_equal(first, sample_rng(*key).random(4))
    for changed in range(4):
        other = tuple(value + (place == changed) for place, value in enumerate(key))
        assert not (first == sample_rng(*other).random(4)).any()
    assert not (first == sample_rng(*key, use=1).random(4)).any()


def test_neighbouring_samples_are_independent() -> None:
    draws = np.array([[sample_rng(0, 1, step, position).random() for position in range(40)] for step in range(40)])
    assert len(np.unique(draws)) == draws.size
    assert abs(draws.mean() - 0.5) < 0.03
    assert abs(np.corrcoef(draws[:, :-1].ravel(), draws[:, 1:].ravel())[0, 1]) < 0.1


def test_a_batch_cut_over_ranks_draws_the_same_masks() -> None:
    def draw(rng: np.random.Generator) -> np.ndarray:
        return block_mask(*CLIP, 0.65, rng)

    whole = batch_masks(draw, 3, 2, 11, range(6))
    assert whole.shape == (6, 8, 36)
    assert (whole.sum((1, 2)) == 288 - 187).all()
    assert len({mask.numpy().tobytes() for mask in whole}) == 6
    for rank in range(2):
        part = batch_masks(draw, 3, 2, 11, range(3 * rank, 3 * rank + 3))
        assert (part == whole[3 * rank : 3 * rank + 3]).all()
    assert not (batch_masks(draw, 3, 2, 12, range(6)) == whole).all()


def test_orders_are_permutations_of_their_own() -> None:
    orders = batch_orders(50, 3, 2, 11, range(4))
    assert orders.shape == (4, 50)
    assert (orders.sort(dim=1).values.numpy() == np.arange(50)).all()
    assert len({order.numpy().tobytes() for order in orders}) == 4
    assert sorted(shuffle_order(5, sample_rng(0, 0, 0, 0)).tolist()) == [0, 1, 2, 3, 4]
