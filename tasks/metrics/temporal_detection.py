"""Temporal localization scores: mAP over temporal IoU, and average recall of proposals. No torch.

Both follow the official ActivityNet evaluator (`eval_detection.py`, `eval_proposal.py`): each prediction of a class,
the surest first, takes the free ground truth of its video that it overlaps most, if their tIoU reaches the threshold;
average precision is interpolated (VOC 2011); recall at a mean number of proposals takes the same share of each video's.
Equal scores keep the order of samples and segments.

What is only partly labelled is judged by what is known: a prediction that hits nothing is a false alarm only if its
class was looked for and at least half of it lies in time that was annotated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapters.predictions import PROPOSAL, Segments, Timeline, Truth
from core_encoder.errors import InputError

Floats = NDArray[np.float64]
TIOUS: tuple[float, ...] = tuple(np.linspace(0.5, 0.95, 10).tolist())
MOST_PROPOSALS = 100  # a video, on average: where the curve of average recall ends


def temporal_iou(found: Floats, truths: Floats) -> Floats:
    """The tIoU of spans `(P, 2)` and `(G, 2)`, start and end in seconds -> `(P, G)`."""
    shared = np.minimum(found[:, None, 1], truths[None, :, 1]) - np.maximum(found[:, None, 0], truths[None, :, 0])
    shared = shared.clip(min=0)
    lengths = (found[:, 1] - found[:, 0])[:, None] + (truths[:, 1] - truths[:, 0])[None]
    return shared / (lengths - shared)


@dataclass(frozen=True, eq=False)
class Ranking:
    """The predictions of one class over V videos, the surest first, and what each hits at X thresholds."""

    videos: NDArray[np.int64]  # (P,)
    hits: NDArray[np.bool_]  # (P, X)
    counts: NDArray[np.bool_]  # (P,): whether a miss is a false alarm
    truths: NDArray[np.int64]  # (V,): how many there are in each video

    def average_precision(self, weights: Floats) -> Floats:
        """Average precision `(X,)` with each video weighted `(V,)`; NaN where no weighted video has ground truth."""
        wanted = float(self.truths @ weights)
        if not wanted:
            return np.full(self.hits.shape[1], np.nan)
        weight = weights[self.videos][:, None]  # (P, 1)
        right = np.cumsum(self.hits * weight, axis=0)
        wrong = np.cumsum((~self.hits & self.counts[:, None]) * weight, axis=0)
        precision = right / np.maximum(right + wrong, 1e-12)
        best_from_here = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
        return (np.diff(right, axis=0, prepend=0) / wanted * best_from_here).sum(axis=0)


def rankings(
    predictions: Sequence[Segments], truths: Sequence[Timeline], tious: Sequence[float] = TIOUS
) -> dict[str, Ranking]:
    """One ranking for each class with ground truth; of proposals without a class, one in all."""
    truths = known_as_proposals(predictions, truths)
    labels = sorted({one.label for truth in truths for one in truth.segments})
    found: dict[str, Ranking] = {}
    for label in labels:
        scores, videos, hits, counts = [], [], [], []
        for video, (prediction, truth) in enumerate(zip(predictions, truths, strict=True)):
            mine = sorted((one for one in prediction.segments if one.label == label), key=lambda one: -one.score)
            spans = spans_of(mine)
            overlaps = temporal_iou(spans, spans_of([one for one in truth.segments if one.label == label]))
            scores += [one.score for one in mine]
            videos += [video] * len(mine)
            hits.append(_greedy_hits(overlaps, tious))
            counts.append(_counts(spans, label, truth))
        order = np.argsort(-np.array(scores, dtype=np.float64), kind="stable")
        number = np.array([sum(one.label == label for one in truth.segments) for truth in truths])
        found[label] = Ranking(
            np.array(videos, dtype=np.int64)[order], np.concatenate(hits)[order], np.concatenate(counts)[order], number
        )
    return found


def mean_average_precision(found: dict[str, Ranking], weights: Floats) -> Floats:
    """mAP `(X,)`, the mean over the classes that the weighted videos `(V,)` have; NaN where they have none."""
    several = np.stack([one.average_precision(weights) for one in found.values()])  # (K, X)
    defined = ~np.isnan(several[:, 0])
    return several[defined].mean(axis=0) if defined.any() else several[0]


def average_recall(
    predictions: Sequence[Segments],
    truths: Sequence[Timeline],
    tious: Sequence[float] = TIOUS,
    most: int = MOST_PROPOSALS,
) -> Floats:
    """The mean recall over thresholds at 1, 2, ... `most` proposals a video, on average -> `(most,)`.

    Labels are not read. Videos without ground truth count only as places where proposals were spent.
    """
    kept = [_worth_counting(*pair) for pair in zip(predictions, truths, strict=True)]
    total = sum(map(len, kept))
    judged = [(spans, spans_of(truth.segments)) for spans, truth in zip(kept, truths, strict=True) if truth.segments]
    if not judged:
        raise InputError("there is no segment that proposals could find")
    if not total:
        return np.zeros(most)
    ratio = most * float(len(judged)) / total
    spent = [spans[: min(int(len(spans) * ratio), len(spans))] for spans, _ in judged]
    retrieved = sum(map(len, spent))
    if not retrieved:
        return np.zeros(most)
    shares = np.arange(1, most + 1) / most * (most * float(len(judged)) / retrieved)
    found = np.zeros((len(tious), most))
    for spans, (_, wanted) in zip(spent, judged, strict=True):
        if not len(spans):
            continue
        allowed = np.minimum((len(spans) * shares).astype(np.int64), len(spans))  # (most,)
        overlaps = temporal_iou(spans, wanted)  # (P, G)
        for place, tiou in enumerate(tious):
            reached = overlaps >= tiou
            first = np.where(reached.any(axis=0), reached.argmax(axis=0), len(spans))  # (G,)
            found[place] += (first[:, None] < allowed).sum(axis=0)
    return found.mean(axis=0) / sum(len(wanted) for _, wanted in judged)


def area_under(recall: Floats) -> float:
    """The mean height of a curve of average recall at 1, 2, ... proposals, by trapezes, as the official figure."""
    return float(np.trapezoid(recall, np.arange(1, len(recall) + 1))) / len(recall)


class RunningTemporalScore:
    """A score by name while training: `map`, `map@0.5`, `ar@100`, `auc`; higher is better."""

    def __init__(self, name: str, tious: Sequence[float] = TIOUS) -> None:
        self.name, self.tious = name, tuple(tious)
        self.predictions: list[Segments] = []
        self.truths: list[Timeline] = []

    def update(self, predictions: Sequence[Segments], samples: Sequence[Truth]) -> None:
        """Take answers, one a sample, and what is known of the samples."""
        self.predictions += predictions
        self.truths += [Timeline.of(sample.target) for sample in samples]

    def compute(self) -> float:
        """The score of everything seen."""
        return score_named(self.name, self.predictions, self.truths, self.tious)


def score_named(
    name: str, predictions: Sequence[Segments], truths: Sequence[Timeline], tious: Sequence[float] = TIOUS
) -> float:
    """One score by its name (see `RunningTemporalScore`)."""
    kind, _, number = name.partition("@")
    if kind == "map":
        found = rankings(predictions, truths, (float(number),) if number else tious)
        return float(mean_average_precision(found, np.ones(len(truths))).mean())
    recall = average_recall(predictions, truths, tious)
    return area_under(recall) if kind == "auc" else float(recall[int(number) - 1])


def check_score_name(name: str) -> bool:
    """Whether a score has this name: `map`, `map@` a tIoU, `ar@` a number up to 100, `auc`."""
    kind, at, number = name.partition("@")
    try:
        if kind == "map":
            return not at or 0 < float(number) <= 1
        return name == "auc" or (kind == "ar" and number.isdecimal() and 1 <= int(number) <= MOST_PROPOSALS)
    except ValueError:
        return False


def spans_of(segments: Sequence[Any]) -> Floats:
    """Start and end of segments `(N, 2)`, seconds."""
    return np.array([(one.start_s, one.end_s) for one in segments], dtype=np.float64).reshape(-1, 2)


def known_as_proposals(predictions: Sequence[Segments], truths: Sequence[Timeline]) -> Sequence[Timeline]:
    """What is known without its classes, where all predictions are proposals without a class."""
    labels = {one.label for prediction in predictions for one in prediction.segments}
    if labels != {PROPOSAL}:
        return truths
    known = {label for truth in truths for label in (*(one.label for one in truth), *(truth.classes or ()))}
    return [truth.without_classes(known) for truth in truths]


def _greedy_hits(overlaps: Floats, tious: Sequence[float]) -> NDArray[np.bool_]:
    """Which of P predictions, the surest first, find a free ground truth at X thresholds: `(P, G)` -> `(P, X)`."""
    hits = np.zeros((len(overlaps), len(tious)), dtype=np.bool_)
    free = np.ones((len(tious), overlaps.shape[1]), dtype=np.bool_)
    for row, overlap in enumerate(overlaps):
        for place, tiou in enumerate(tious):
            open_to = np.where(free[place] & (overlap >= tiou), overlap, -1.0)
            if len(open_to) and (best := int(open_to.argmax())) >= 0 and open_to[best] >= 0:
                hits[row, place], free[place, best] = True, False
    return hits


def _counts(spans: Floats, label: str, truth: Timeline) -> NDArray[np.bool_]:
    """Whether each span `(P, 2)` of a class would be a false alarm if it hit nothing -> `(P,)`."""
    if truth.classes is not None and label != PROPOSAL and label not in truth.classes:
        return np.zeros(len(spans), dtype=np.bool_)
    if truth.annotated is None:
        return np.ones(len(spans), dtype=np.bool_)
    known = np.array(truth.annotated, dtype=np.float64).reshape(-1, 2)
    shared = np.minimum(spans[:, None, 1], known[None, :, 1]) - np.maximum(spans[:, None, 0], known[None, :, 0])
    return shared.clip(min=0).sum(axis=1) >= (spans[:, 1] - spans[:, 0]) / 2


def _worth_counting(prediction: Segments, truth: Timeline) -> Floats:
    """The spans of proposals, the surest first, without those that lie where nobody looked."""
    mine = sorted(prediction.segments, key=lambda one: -one.score)
    spans = spans_of(mine)
    counts = np.array([_counts(spans[k, None], one.label, truth)[0] for k, one in enumerate(mine)], dtype=np.bool_)
    if truth.segments:
        counts = counts | (temporal_iou(spans, spans_of(truth.segments)) > 0).any(axis=1)
    return spans[counts]
