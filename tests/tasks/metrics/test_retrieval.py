"""Ranks and recall against plain loops and the evaluator of CLIP4Clip; ties, medians, and what is no embedding."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from adapters.predictions import Embedding, Truth
from core_encoder.errors import InputError
from tasks.metrics.retrieval import (
    STATISTICS,
    Ranks,
    RetrievalMetric,
    rank_predictions,
    rank_statistic,
    retrieval_ranks,
)


def plain_ranks(similarity: NDArray[Any], owners: list[int]) -> tuple[list[float], list[float]]:
    """Of `similarity (L, V)`: sort everything, and give a group of equals the mean of its places."""

    def mean_place(scores: list[float], value: float) -> float:
        places = [place for place, one in enumerate(sorted(scores, reverse=True), start=1) if one == value]
        return sum(places) / len(places)

    t2v = [mean_place(list(row), row[owners[text]]) for text, row in enumerate(similarity)]
    v2t = []
    for video in range(similarity.shape[1]):
        own = max(similarity[text][video] for text in range(len(owners)) if owners[text] == video)
        foreign = [similarity[text][video] for text in range(len(owners)) if owners[text] != video]
        v2t.append(mean_place([own, *foreign], own))
    return t2v, v2t


@given(videos=st.integers(1, 7), extra=st.integers(0, 6), levels=st.sampled_from([2, 3, 1000]), seed=st.integers(0, 99))
def test_ranks_equal_plain_loops(videos: int, extra: int, levels: int, seed: int) -> None:
    """Few levels make many ties."""
    rng = np.random.default_rng(seed)
    owners = np.concatenate([np.arange(videos), rng.integers(videos, size=extra)])
    left = rng.integers(levels, size=(videos, 3)).astype(float)
    right = rng.integers(levels, size=(len(owners), 3)).astype(float)
    ranks = retrieval_ranks(left, right, owners)
    t2v, v2t = plain_ranks(right @ left.T, owners.tolist())
    assert ranks.t2v.tolist() == t2v and ranks.v2t.tolist() == v2t


def clip4clip_metrics(similarity: NDArray[Any]) -> dict[str, float]:
    """`compute_metrics` of CLIP4Clip restated: one text a video, queries are rows; for scores without ties."""
    order = np.sort(-similarity, axis=1)
    place = np.where(order == np.diag(-similarity)[:, None])[1]
    recalls = {f"r{k}": float((place < k).mean()) for k in (1, 5, 10)}
    return recalls | {"median_rank": float(np.median(place) + 1), "mean_rank": float(place.mean() + 1)}


def test_untied_scores_are_those_of_clip4clip() -> None:
    rng = np.random.default_rng(3)
    videos, texts = rng.normal(size=(60, 8)), rng.normal(size=(60, 8))
    texts[:40] += 2 * videos[:40]
    ranks, once = retrieval_ranks(videos, texts, np.arange(60)), np.ones((1, 60), dtype=np.float32)
    for way, similarity in {"t2v": texts @ videos.T, "v2t": videos @ texts.T}.items():
        for name, value in clip4clip_metrics(similarity).items():
            assert rank_statistic(f"{way}_{name}", ranks)(once)[0] == pytest.approx(value, abs=1e-6)


@given(ranks=st.lists(st.integers(1, 9), min_size=1, max_size=8), seed=st.integers(0, 99))
def test_weights_are_repetitions(ranks: list[int], seed: int) -> None:
    """What a bootstrap draw gives is what the repeated queries give, the median among it."""
    counts = np.random.default_rng(seed).integers(0, 4, size=len(ranks))
    counts[0] += 1
    values = np.array(ranks, dtype=float)
    known = Ranks(values, values, np.arange(len(values)))
    repeated = np.repeat(values, counts)
    weights = counts[None].astype(np.float32)
    assert rank_statistic("v2t_median_rank", known)(weights)[0] == np.median(repeated)
    assert rank_statistic("t2v_mean_rank", known)(weights)[0] == pytest.approx(repeated.mean())
    assert rank_statistic("t2v_r5", known)(weights)[0] == pytest.approx((repeated <= 5).mean())


def test_a_constant_space_is_at_chance() -> None:
    """Where CLIP4Clip counts every tie as a query of its own, and others take the best or the last place of it."""
    same = np.ones((200, 4))
    ranks, once = retrieval_ranks(same, same, np.arange(200)), np.ones((1, 200), dtype=np.float32)
    assert {name: float(rank_statistic(name, ranks)(once)[0]) for name in STATISTICS} == {
        f"{way}_{what}": value
        for way in ("t2v", "v2t")
        for what, value in {"r1": 0.0, "r5": 0.0, "r10": 0.0, "median_rank": 100.5, "mean_rank": 100.5}.items()
    }


def embedding(name: str, values: list[float], texts: list[list[float]] | None) -> Embedding:
    return Embedding(name, torch.tensor(values), None if texts is None else torch.tensor(texts))


def test_any_caption_of_a_video_counts_and_equal_captions_tie() -> None:
    answers = [
        embedding("a", [1.0, 0.0], [[0.0, 1.0], [1.0, 0.0]]),  # its first caption is wrong, its second right
        embedding("b", [0.0, 1.0], [[1e-7, 1.0]]),  # the same text as the first of a, rounded differently
    ]
    captions = [("up", "right"), ("up",)]
    ranks = rank_predictions(answers, captions)
    assert ranks.v2t.tolist() == [1.0, 1.5] and ranks.t2v.tolist() == [2.0, 1.0, 1.0]
    metric = RetrievalMetric("v2t_mean_rank")
    metric.update(answers[:1], [Truth("a", captions[0])])
    metric.update(answers[1:], [Truth("b", captions[1])])
    metric.update(answers[:1], [Truth("a", captions[0])])  # the padding of a distributed sampler
    assert metric.compute() == -1.25  # a rank, negative so that higher is better


def test_what_cannot_be_ranked() -> None:
    with pytest.raises(InputError, match="a: the adapter gave no vectors for its 1 captions"):
        rank_predictions([embedding("a", [1.0], None)], [("x",)])
    with pytest.raises(InputError, match="embeddings must be finite"):
        rank_predictions([embedding("a", [float("nan")], [[1.0]])], [("x",)])
    with pytest.raises(ValueError, match="every video needs at least one text"):
        retrieval_ranks(np.ones((2, 3)), np.ones((1, 3)), np.array([0]))
