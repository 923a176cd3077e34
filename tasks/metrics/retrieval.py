"""Retrieval between videos and their texts: ranks, recall and their running form. No torch.

Rules that decide numbers, the same everywhere here:
- text to video: every text is a query, its rank is that of its video among all videos;
- video to text: every video is a query, its rank is that of its best text among the texts of all other videos, so that
  any of its texts counts;
- ties are counted by their mean rank: 1, plus the rivals above, plus half the rivals that score as high;
- equal texts are one vector, so that those of two videos tie.
`clip4clip_ranks` alone follows other rules, those of CLIP4Clip's evaluator.

V videos, L texts, E width. Where no two scores are equal, ranks are those of the evaluators of CLIP4Clip (text to
video) and of UMT and Frozen in Time (both; video to text ranks among texts, not among videos).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from adapters.predictions import Embedding, Truth
from core_encoder.errors import InputError
from tasks.metrics.bootstrap import Floats, Statistic

Direction = Literal["t2v", "v2t"]
DIRECTIONS: tuple[Direction, ...] = ("t2v", "v2t")
RECALLS = (1, 5, 10)
STATISTICS = tuple(f"{way}_{what}" for way in DIRECTIONS for what in ("r1", "r5", "r10", "median_rank", "mean_rank"))
_BLOCK = 4_000_000  # scores looked at together


class Ranks(NamedTuple):
    """The rank of every query, from 1: of each text `(L,)`, with the video it belongs to, and of each video `(V,)`."""

    t2v: Floats
    v2t: Floats
    owners: NDArray[np.int64]  # (L,)


def retrieval_ranks(videos: Floats, texts: Floats, owners: NDArray[np.int64]) -> Ranks:
    """Ranks by the similarities of videos `(V, E)` and texts `(L, E)`, of which text l belongs to video `owners[l]`.

    Raises:
        ValueError: a video without a text, or numbers that are not finite.
    """
    if not (np.isfinite(videos).all() and np.isfinite(texts).all()):
        raise ValueError("embeddings must be finite")
    return _ranks(lambda part: _similarities(texts[part], videos), len(videos), owners)


def similarity_ranks(similarities: Floats, owners: NDArray[np.int64]) -> Ranks:
    """Ranks by the similarities `(L, V)` themselves.

    Raises:
        ValueError: a video without a text, or numbers that are not finite.
    """
    _check(similarities, owners)
    return _ranks(lambda part: similarities[part], similarities.shape[1], owners)


def _ranks(similarities: Callable[[slice], Floats], num_videos: int, owners: NDArray[np.int64]) -> Ranks:
    """The ranks by the similarities `(l, V)` of some texts at a time."""
    if set(owners.tolist()) != set(range(num_videos)):
        raise ValueError("every video needs at least one text, and every text one of the videos")
    t2v = np.empty(len(owners))
    best = np.full(num_videos, -np.inf)
    step = max(1, _BLOCK // num_videos)
    parts = [slice(first, first + step) for first in range(0, len(owners), step)]
    for part in parts:
        scores = similarities(part)
        own = scores[np.arange(len(scores)), owners[part]]  # (l,)
        t2v[part] = 1 + (scores > own[:, None]).sum(1) + ((scores == own[:, None]).sum(1) - 1) / 2
        np.maximum.at(best, owners[part], own)
    above, level = np.zeros(num_videos), np.zeros(num_videos)
    for part in parts:
        scores = similarities(part)
        foreign = owners[part][:, None] != np.arange(num_videos)[None]  # (l, V)
        above += ((scores > best) & foreign).sum(0)
        level += ((scores == best) & foreign).sum(0)
    return Ranks(t2v, 1 + above + level / 2, owners)


def clip4clip_ranks(similarities: Floats, owners: NDArray[np.int64]) -> dict[Direction, Floats]:
    """The ranks that CLIP4Clip's `metrics.py` counts, of similarities `(L, V)`; of ties more than one a query.

    Every place of the sorted similarities that equals the own one is a rank (`compute_metrics`). Video to text ranks
    among videos, each by its best text (`tensor_video_to_text_sim`), not among texts. Of several texts a video the
    official code leaves ties of text to video to an unstable sort; here they are counted by the same rule.

    Raises:
        ValueError: a video without a text, or numbers that are not finite.
    """
    _check(similarities, owners)
    order = np.argsort(owners, kind="stable")
    starts = np.searchsorted(owners[order], np.arange(similarities.shape[1]))
    best = np.maximum.reduceat(similarities[order], starts, axis=0)  # (V, V), of the texts of a video and of videos
    return {"t2v": _every_place(similarities, owners), "v2t": _every_place(best.T, np.arange(len(best)))}


def _every_place(scores: Floats, own: NDArray[np.int64]) -> Floats:
    """Ranks, from 1, of all places in each row `(Q, C)` at which the score of the own column `(Q,)` stands."""
    value = np.take_along_axis(scores, own[:, None], axis=1)
    above, equal = (scores > value).sum(1), (scores == value).sum(1)
    row = np.repeat(np.arange(len(scores)), equal)
    ranks: Floats = (1 + above[row] + np.arange(len(row)) - (np.cumsum(equal) - equal)[row]).astype(np.float64)
    return ranks


def _check(similarities: Floats, owners: NDArray[np.int64]) -> None:
    if not np.isfinite(similarities).all():
        raise ValueError("similarities must be finite")
    if set(owners.tolist()) != set(range(similarities.shape[1])):
        raise ValueError("every video needs at least one text, and every text one of the videos")


def _similarities(texts: Floats, videos: Floats) -> Floats:
    """Inner products `(l, V)`, summed in one order whatever the shapes, so that equal vectors give equal numbers."""
    return np.einsum("le,ve->lv", texts, videos)


def rank_statistic(name: str, ranks: Ranks) -> Statistic:
    """A statistic of `STATISTICS` as a function of weights of the videos `(R, V)` -> values `(R,)`."""
    way, _, what = name.partition("_")
    values: Floats = ranks.t2v if way == "t2v" else ranks.v2t

    def of(weights: NDArray[np.float32]) -> Floats:
        each = weights[:, ranks.owners] if way == "t2v" else weights  # a text counts as often as its video is drawn
        if what == "median_rank":
            return _weighted_median(values, each)
        per_query = values if what == "mean_rank" else (values <= int(what[1:])).astype(np.float64)
        return each @ per_query / each.sum(axis=1)

    return of


def _weighted_median(values: Floats, weights: NDArray[np.float32]) -> Floats:
    """The median of `values (n,)` for each row of whole weights `(R, n)`: of an even count the mean of both middles."""
    order = np.argsort(values, kind="stable")
    values, reached = values[order], np.cumsum(weights[:, order].astype(np.float64), axis=1)
    total = reached[:, -1:]
    low = (reached < total / 2).sum(axis=1)  # the first value at which half is reached
    high = (reached <= total / 2).sum(axis=1)
    return (values[low] + values[np.minimum(high, len(values) - 1)]) / 2


def clip4clip_statistic(name: str, ranks: dict[Direction, Floats], several_texts: bool) -> float:
    """A statistic of `STATISTICS` of ranks that `clip4clip_ranks` counts.

    With several texts a video CLIP4Clip takes the lower of both middle ranks as the median of text to video.
    """
    way, _, what = name.partition("_")
    values: Floats = ranks["t2v"] if way == "t2v" else ranks["v2t"]
    if what == "mean_rank":
        return float(values.mean())
    if what == "median_rank":
        lower = several_texts and way == "t2v"
        return float(np.sort(values)[(len(values) - 1) // 2] if lower else np.median(values))
    return float((values <= int(what[1:])).mean())


def rank_predictions(predictions: Sequence[Embedding], captions: Sequence[Sequence[str]]) -> Ranks:
    """The ranks of predicted videos and of their texts; `captions` are those of each, whose vectors it brings.

    Raises:
        InputError: a prediction without the vectors of its captions, or one that is not finite.
    """
    try:
        return retrieval_ranks(*predicted_vectors(predictions, captions))
    except ValueError as error:
        raise InputError(f"retrieval: {error}") from error


def predicted_similarities(
    predictions: Sequence[Embedding], captions: Sequence[Sequence[str]]
) -> tuple[Floats, NDArray[np.int64]]:
    """The similarities `(L, V)` of captions and predicted videos, and to which video each caption belongs `(L,)`.

    Raises:
        InputError: a prediction without the vectors of its captions.
    """
    videos, texts, owners = predicted_vectors(predictions, captions)
    return _similarities(texts, videos), owners


def predicted_vectors(
    predictions: Sequence[Embedding], captions: Sequence[Sequence[str]]
) -> tuple[Floats, Floats, NDArray[np.int64]]:
    """Predicted videos `(V, E)`, their captions `(L, E)`, equal ones with one vector, and their owners `(L,)`.

    Raises:
        InputError: a prediction without the vectors of its captions.
    """
    first: dict[str, Any] = {}
    texts, owners = [], []
    for place, (one, several) in enumerate(zip(predictions, captions, strict=True)):
        if one.texts is None or len(one.texts) != len(several):
            raise InputError(f"{one.sample_id}: the adapter gave no vectors for its {len(several)} captions")
        for text, vector in zip(several, np.asarray(one.texts, dtype=np.float64), strict=True):
            texts.append(first.setdefault(text, vector))
            owners.append(place)
    videos = np.stack([np.asarray(one.values, dtype=np.float64) for one in predictions])
    return videos, np.stack(texts), np.array(owners)


class RetrievalMetric:
    """A statistic over all predictions seen, for use while training: a rank is negative, so that higher is better."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._seen: dict[str, tuple[Embedding, Sequence[str]]] = {}

    def update(self, predictions: Sequence[Embedding], samples: Sequence[Truth]) -> None:
        """Take the answers for some samples, whose targets are their captions; a sample counts once."""
        for prediction, sample in zip(predictions, samples, strict=True):
            self._seen[sample.id] = (prediction, sample.target)

    def compute(self) -> float:
        """The value over everything seen."""
        predictions, captions = zip(*self._seen.values(), strict=True)
        ranks = rank_predictions(predictions, captions)
        value = float(rank_statistic(self.name, ranks)(np.ones((1, len(predictions)), dtype=np.float32))[0])
        return -value if self.name.endswith("rank") else value
