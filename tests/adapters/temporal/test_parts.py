"""The parts of the temporal head against slow, plain versions of them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.features import Example, Times
from adapters.temporal.boundaries import RelativeDistances, assign, distance_iou_loss, focal_loss, places_of
from adapters.temporal.pyramid import Level, LocalAttention, Pyramid
from adapters.temporal.soft_nms import soft_nms
from adapters.temporal.vector_grid import VectorGrid, example_vectors
from core_encoder.errors import InputError


def windows(count: int, stride_s: float = 0.5, length_s: float = 2.0, start_s: float = 0.0) -> Times:
    starts = start_s + torch.arange(count, dtype=torch.float64) * stride_s
    return Times(starts[:, None], torch.stack([starts, starts + length_s], -1))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 30))
def test_soft_nms(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    starts = rng.uniform(0, 10, count)
    spans, scores = np.stack([starts, starts + rng.uniform(0.1, 5, count)], -1), rng.uniform(0, 1, count)
    left = {place: float(score) for place, score in enumerate(scores)}
    wanted: list[tuple[int, float]] = []
    while left and len(wanted) < 12:
        best = max(left, key=lambda place: left[place])
        score = left.pop(best)
        if score < 0.05:
            break
        wanted.append((best, score))
        for place in left:
            shared = max(0.0, min(spans[place][1], spans[best][1]) - max(spans[place][0], spans[best][0]))
            union = np.diff(spans[place])[0] + np.diff(spans[best])[0] - shared
            left[place] *= math.exp(-((shared / union) ** 2) / 0.5)
    kept, final = soft_nms(spans, scores, 0.5, 0.05, 12)
    assert kept.tolist() == [place for place, _ in wanted]
    np.testing.assert_allclose(final, [score for _, score in wanted], rtol=1e-9)


@pytest.mark.parametrize(("length", "reach"), [(1, 3), (7, 3), (24, 4), (25, 8), (5, 8)])
def test_local_attention_is_masked_attention(length: int, reach: int) -> None:
    torch.manual_seed(0)
    layer = LocalAttention(16, 4, reach)
    torch.nn.init.normal_(layer.distance_bias)
    x, mask = torch.randn(3, length, 16), torch.rand(3, length) > 0.3
    mask[:, 0] = True
    q, k, v = layer.qkv(x).unflatten(-1, (3, 4, 4)).permute(2, 0, 3, 1, 4)
    apart = torch.arange(length) - torch.arange(length)[:, None]
    logits = q @ k.mT / 2 + layer.distance_bias[:, apart.clamp(-reach, reach) + reach]
    logits = logits.masked_fill((apart.abs() > reach) | ~mask[:, None, None], -torch.inf)
    wanted = layer.out((logits.softmax(-1).nan_to_num() @ v).transpose(1, 2).flatten(2))
    found = layer(x, mask)
    torch.testing.assert_close(found[mask], wanted[mask], atol=1e-5, rtol=1e-5)
    assert not found[~mask].any()


def test_padding_changes_nothing() -> None:
    torch.manual_seed(1)
    pyramid = Pyramid(6, 8, 2, 3, 4, 0.0).eval()
    x = torch.randn(1, 13, 6)
    alone = pyramid(x, torch.ones(1, 13, dtype=torch.bool))
    padded = pyramid(F.pad(x, (0, 0, 0, 30), value=9.0), torch.arange(43)[None] < 13)
    for one, other in zip(alone, padded, strict=True):
        count = int(one.mask.sum())
        assert count == int(other.mask.sum()) and not other.values[:, count:].any()
        torch.testing.assert_close(one.values[:, :count], other.values[:, :count], atol=1e-5, rtol=1e-5)
    assert [int(level.mask.sum()) for level in alone] == [13, 7, 4, 2]


def test_memory_grows_with_the_length_not_with_its_square() -> None:
    layer = LocalAttention(8, 2, 4).eval()
    sizes = []
    for length in (1000, 2000):
        saved: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, s=saved: s.append(t.numel()) or t, lambda t: t):  # type: ignore[misc]
            layer(torch.randn(1, length, 8), torch.ones(1, length, dtype=torch.bool))
        sizes.append(sum(saved))
    assert sizes[1] < 2.2 * sizes[0]


def test_relative_distances_are_means_over_places() -> None:
    torch.manual_seed(2)
    head = RelativeDistances(4, 3)
    level = Level(torch.randn(1, 6, 4), torch.tensor([[True] * 5 + [False]]))
    scores = head.boundaries(level)[0].detach()
    offsets = head.offsets(level)[0].detach().unflatten(-1, (2, 4))
    found = head(level, 0)[0].detach()
    for place in range(5):
        for side, sign in ((0, -1), (1, 1)):
            weights = []
            for away in range(4):
                at = place + sign * away
                real = 0 <= at < 5
                weights.append(math.exp((scores[at, side] + offsets[place, side, away]).item()) if real else 0.0)
            mean = sum(away * weight for away, weight in enumerate(weights)) / sum(weights)
            assert float(found[place, side]) == pytest.approx(mean, abs=1e-4)


def test_places_learn_what_is_around_them_and_of_their_size() -> None:
    places = places_of([16, 8, 4], 4.0, torch.device("cpu"))
    segments = torch.tensor([[2.0, 5.0], [0.0, 15.0], [9.2, 9.4]])
    wanted = assign(places, segments, torch.tensor([0, 1, 1]), 2, 1.5, 16)
    assert wanted.classes[:16, 0].nonzero()[:, 0].tolist() == [3, 4]  # near the middle, 3.5
    assert wanted.distances[3].tolist() == [1.0, 2.0]
    assert wanted.classes[24:, 1].tolist() == [0, 1, 1, 1]  # of the top level, which looks at what is long
    assert wanted.distances[26].tolist() == [8 / 4, 7 / 4]
    assert wanted.classes[9].tolist() == [0, 1]  # too short to hold a place: the nearest one learns it
    nothing = assign(places, torch.zeros(0, 2), torch.zeros(0, dtype=torch.long), 2, 1.5, 16)
    assert not nothing.classes.any() and not nothing.inside.any()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.sampled_from([0.5, 1.5, 2.0, 3.2]))
def test_places_are_those_of_all_pairs(seed: int, count: int, radius: float) -> None:
    """Against the plain rule, every place asked about every segment."""
    rng = np.random.default_rng(seed)
    places = places_of([16, 8, 4, 2], 4.0, torch.device("cpu"))
    starts = rng.uniform(-2, 15, count)
    segments = torch.tensor(np.stack([starts, starts + rng.uniform(0.1, 16, count)], -1), dtype=torch.float32)
    spans = [(start, end) for start, end in segments.tolist()]
    labels = rng.integers(0, 3, count)
    owners: list[set[int]] = [set() for _ in places.at]
    rows = list(zip(*(one.tolist() for one in places), strict=True))
    for segment, (start, end) in enumerate(spans):
        taken = [
            place
            for place, (at, step, least, most) in enumerate(rows)
            if start < at < end
            and abs(at - (start + end) / 2) <= radius * step
            and least <= max(at - start, end - at) <= most
        ]
        for place in taken or [min(range(13), key=lambda place: abs(place - (spans[segment][0] + end) / 2))]:
            owners[place].add(segment)
    found = assign(places, segments, torch.tensor(labels), 3, radius, 13)
    for place, several in enumerate(owners):
        at, step, _, _ = rows[place]
        assert found.classes[place].nonzero()[:, 0].tolist() == sorted({int(labels[one]) for one in several})
        assert bool(found.inside[place]) == bool(several)
        if several:
            start, end = min((spans[one] for one in several), key=lambda span: span[1] - span[0])
            wanted = [max(at - start, 0) / step, max(end - at, 0) / step]
            assert found.distances[place].tolist() == pytest.approx(wanted, abs=1e-5)


def test_many_segments_in_a_long_video_take_no_table_of_all_pairs() -> None:
    from torch.utils._python_dispatch import TorchDispatchMode

    class Largest(TorchDispatchMode):
        most = 0

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            made = func(*args, **(kwargs or {}))
            several = made if isinstance(made, list | tuple) else [made]
            self.most = max([self.most, *(one.numel() for one in several if isinstance(one, torch.Tensor))])
            return made

    largest = []
    for length in (1024, 2048):  # of a video twice as long, with twice as many segments
        starts = torch.arange(0, length, 8.0)
        places = places_of([length, length // 2, length // 4], 4.0, torch.device("cpu"))
        with Largest() as seen:
            assign(places, torch.stack([starts, starts + 5], -1), torch.zeros(len(starts)).long(), 2, 1.5, length)
        largest.append(seen.most)
    assert largest[1] < 2.2 * largest[0]


def test_losses() -> None:
    logits, wanted = torch.tensor([2.0, -1.0]), torch.tensor([1.0, 0.0])
    p = torch.sigmoid(logits)
    plain = torch.stack([-0.25 * (1 - p[0]) ** 2 * p[0].log(), -0.75 * p[1] ** 2 * (1 - p[1]).log()])
    torch.testing.assert_close(focal_loss(logits, wanted), plain)
    found, right = torch.tensor([[2.0, 2.0], [1.0, 3.0]]), torch.tensor([[2.0, 2.0], [3.0, 1.0]])
    loss = distance_iou_loss(found, right)
    assert loss[0] == 0 and float(loss[1]) == pytest.approx(1 - 2 / 6 + (2 / 6) ** 2)


def test_times_of_windows_and_of_frames() -> None:
    grid = VectorGrid.of_windows(windows(5, start_s=3.0), 5, "a")
    assert (grid.first_s, grid.stride_s, grid.count, grid.start_s, grid.end_s) == (4.0, 0.5, 5, 3.0, 7.0)
    features, mask = torch.arange(24.0).reshape(2, 4, 3), torch.tensor([[True] * 4, [True] * 3 + [False]])
    vectors, frames = example_vectors(Example(features, mask, None, "a", times=windows(2, 2.0)))
    assert vectors.shape == (7, 3) and (frames.first_s, frames.stride_s) == (0.25, 0.5)


@pytest.mark.parametrize(
    ("example", "says"),
    [
        (Example(torch.zeros(4, 3), None, None, "a"), "a: the times of its features are not known"),
        (Example(torch.zeros(4, 3), None, None, "a", times=windows(5)), "a: 4 vectors but times of 5"),
        (Example(torch.zeros(3), None, None, "a", times=windows(1)), "no row of vectors"),
        (Example(torch.zeros(2, 4, 3), None, None, "a", times=windows(2, 0.5)), "a: its windows overlap"),
        (
            Example(
                torch.zeros(3, 3),
                None,
                None,
                "a",
                times=Times(torch.zeros(3, 1), torch.tensor([[0.0, 2], [0.5, 2.5], [1.2, 3.2]])),
            ),
            "a: its vectors are not one every 0.5 s: those at 0.5 s and 1.2 s differ",
        ),
    ],
)
def test_times_that_do_not_fit(example: Example, says: str) -> None:
    with pytest.raises(InputError, match=says.replace("(", r"\(")):
        example_vectors(example)


def test_another_stride_than_that_of_the_training() -> None:
    grid = VectorGrid.of_windows(windows(4, 1.0), 4, "a")
    assert grid.check_stride(1.0, "a") == 1.0
    with pytest.raises(InputError, match="a: one vector every 1 s, but the adapter learned from one every 0.5 s"):
        grid.check_stride(0.5, "a")
    assert VectorGrid.of_windows(windows(1), 1, "a").check_stride(0.5, "a") == 0.5
