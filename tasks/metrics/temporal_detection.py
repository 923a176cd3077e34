"""Temporal localization scores: mAP over temporal IoU, and average recall of proposals. No torch.

Both follow the official ActivityNet evaluator (`eval_detection.py`, `eval_proposal.py`): each prediction of a class,
the surest first, takes the free ground truth of its video that it overlaps most, if their tIoU reaches the threshold;
average precision is interpolated (VOC 2011); recall at a mean number of proposals takes the same share of each video's.
Equal scores keep the order of samples and segments, except in `detection_average_precisions`, which is the official
value of whole files: there they come as the official sort leaves them.

What is only partly labelled is judged by what is known: a prediction that hits nothing is a false alarm only if its
class was looked for and at least half of it lies in time that was annotated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapters.predictions import PROPOSAL, Segment, Segments, Timeline, Truth
from core_encoder.errors import InputError
from tasks.metrics.ranked_detections import interpolated_average_precision, places_in_groups, surest_first

Floats = NDArray[np.float64]
TIOUS: tuple[float, ...] = tuple(np.linspace(0.5, 0.95, 10).tolist())
MOST_PROPOSALS = 100  # a video, on average: where the curve of average recall ends


def temporal_iou(found: Floats, truths: Floats) -> Floats:
    """The tIoU of spans `(P, 2)` and `(G, 2)`, start and end in seconds -> `(P, G)`."""
    return _span_iou(found[:, None], truths[None])


def _span_iou(found: Floats, truths: Floats) -> Floats:
    """The tIoU of spans `(..., 2)`, of which each pair of leading axes broadcasts; NaN for two of no length."""
    shared = np.minimum(found[..., 1], truths[..., 1]) - np.maximum(found[..., 0], truths[..., 0])
    shared = shared.clip(min=0)
    union = (truths[..., 1] - truths[..., 0]) + (found[..., 1] - found[..., 0]) - shared
    with np.errstate(divide="ignore", invalid="ignore"):
        return shared / union


@dataclass(frozen=True, eq=False)
class SegmentTable:
    """Segments of many videos as columns of N rows: the number of the video, that of the label, the span, the score."""

    videos: NDArray[np.int64]  # (N,)
    labels: NDArray[np.int64]  # (N,)
    spans: Floats  # (N, 2), seconds
    scores: Floats  # (N,)

    @classmethod
    def of(cls, rows: Sequence[tuple[int, int, float, float, float]]) -> SegmentTable:
        """A table of rows `(video, label, start, end, score)`."""
        columns = np.array(rows, dtype=np.float64).reshape(-1, 5)
        return cls(columns[:, 0].astype(np.int64), columns[:, 1].astype(np.int64), columns[:, 2:4], columns[:, 4])

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, rows: NDArray[Any]) -> SegmentTable:
        return SegmentTable(self.videos[rows], self.labels[rows], self.spans[rows], self.scores[rows])


def detection_average_precisions(
    found: SegmentTable, truths: SegmentTable, num_labels: int, tious: Sequence[float] = TIOUS
) -> Floats:
    """Average precision of each label at each threshold `(K, X)`, as ActivityNet's `eval_detection.py` computes it.

    A label without a prediction has 0, one without ground truth NaN. Rows of `found` are in the order of their file,
    which decides between equal scores.
    """
    by_label = [np.flatnonzero(found.labels == label) for label in range(num_labels)]
    ordered = [rows[surest_first(found.scores[rows])] for rows in by_label]
    hits = greedy_hits(found[np.concatenate([*ordered, np.zeros(0, np.int64)])], truths, tious)
    bounds = np.cumsum([0, *map(len, ordered)])
    wanted = np.bincount(truths.labels, minlength=num_labels)
    values = np.full((num_labels, len(tious)), np.nan)
    for label in np.flatnonzero(wanted):
        right = hits[bounds[label] : bounds[label + 1]]
        values[label] = interpolated_average_precision(right, ~right, wanted[label])
    return values


def greedy_hits(found: SegmentTable, truths: SegmentTable, tious: Sequence[float]) -> NDArray[np.bool_]:
    """Which predictions find a free ground truth of their video and label at X thresholds -> `(N, X)`.

    Each in the order of `found` takes the free one that it overlaps most. Of several that it overlaps equally it is the
    first of the official `argsort()[::-1]`. Videos with equally many ground truths of a label are worked on together.
    """
    most = 1 + max(int(table.labels.max(initial=0)) for table in (found, truths))
    wanted = truths.videos * most + truths.labels
    by_group = np.argsort(wanted, kind="stable")
    groups = found.videos * most + found.labels
    first = np.searchsorted(wanted[by_group], groups, side="left")
    number = np.searchsorted(wanted[by_group], groups, side="right") - first
    hits = np.zeros((len(found), len(tious)), dtype=np.bool_)
    for size in np.unique(number[number > 0]):
        rows = np.flatnonzero(number == size)
        known = truths.spans[by_group[first[rows][:, None] + np.arange(size)]]  # (P, G, 2)
        overlaps = _span_iou(found.spans[rows][:, None], known)  # (P, G)
        reaching = ~(overlaps < min(tious)).all(axis=1)  # all others miss whatever is free
        rows, overlaps = rows[reaching], overlaps[reaching]
        hits[rows] = _in_turns(groups[rows], overlaps, np.array(tious))
    return hits


def _in_turns(groups: NDArray[np.int64], overlaps: Floats, tious: Floats) -> NDArray[np.bool_]:
    """Greedy hits `(P, X)` of overlaps `(P, G)`: the first prediction of all groups at once, then the second, ..."""
    hits = np.zeros((len(groups), len(tious)), dtype=np.bool_)
    liked = np.argsort(overlaps, axis=1)[:, ::-1]  # (P, G), the most overlapping first
    _, group = np.unique(groups, return_inverse=True)
    free = np.ones((group.max(initial=-1) + 1, len(tious), overlaps.shape[1]), dtype=np.bool_)
    turns = places_in_groups(group)
    by_turn = np.argsort(turns, kind="stable")
    for rows in np.split(by_turn, np.flatnonzero(np.diff(turns[by_turn])) + 1):
        open_to = free[group[rows]] & ~(overlaps[rows][:, None] < tious[:, None])  # (p, X, G); NaN is open, too
        open_to = np.take_along_axis(open_to, liked[rows][:, None], axis=2)
        hits[rows] = open_to.any(axis=2)
        taken = np.take_along_axis(liked[rows], open_to.argmax(axis=2), axis=1)  # (p, X)
        row, tiou = np.nonzero(hits[rows])
        free[group[rows][row], tiou, taken[row, tiou]] = False
    return hits


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
        return interpolated_average_precision(self.hits * weight, (~self.hits & self.counts[:, None]) * weight, wanted)


def rankings(
    predictions: Sequence[Segments], truths: Sequence[Timeline], tious: Sequence[float] = TIOUS
) -> dict[str, Ranking]:
    """One ranking for each class with ground truth; of proposals without a class, one in all."""
    truths = known_as_proposals(predictions, truths)
    labels = {label: k for k, label in enumerate(sorted({one.label for truth in truths for one in truth.segments}))}
    known = _table([truth.segments for truth in truths], labels)
    found = _table([prediction.segments for prediction in predictions], labels)
    found = found[np.argsort(-found.scores, kind="stable")]
    hits, counts = greedy_hits(found, known, tious), np.ones(len(found), dtype=np.bool_)
    for video, truth in enumerate(truths):
        if truth.annotated is not None or truth.classes is not None:
            mine = np.flatnonzero(found.videos == video)
            for label, k in labels.items():
                rows = mine[found.labels[mine] == k]
                counts[rows] = _counts(found.spans[rows], label, truth)
    each = {label: (found.labels == k, known.videos[known.labels == k]) for label, k in labels.items()}
    return {
        label: Ranking(found.videos[rows], hits[rows], counts[rows], np.bincount(videos, minlength=len(truths)))
        for label, (rows, videos) in each.items()
    }


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


def _table(several: Sequence[Sequence[Segment]], labels: dict[str, int]) -> SegmentTable:
    """The segments of each video that have one of the labels, in their order."""
    return SegmentTable.of(
        [
            (video, labels[one.label], one.start_s, one.end_s, one.score)
            for video, segments in enumerate(several)
            for one in segments
            if one.label in labels
        ]
    )


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
