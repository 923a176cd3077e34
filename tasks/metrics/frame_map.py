"""Frame mAP: average precision of boxes with classes, frame by frame, as the official AVA evaluator computes it.

- Of a frame the 50 highest-scored (box, class) pairs count; of equals the earlier ones.
- A prediction is tied to the individual of its class and frame that it overlaps the most, and to no other. It is right
  when their IoU is at least the threshold and no better-scored prediction was right about the same individual before.
- All predictions of a class are ranked together. Average precision is the area under the interpolated curve of
  precision over recall (PASCAL VOC, all points). Classes without ground truth are left out of the mean.

One rule is ours: predictions of one score enter the curve together, so that neither the order of the rows nor luck
decides; without ties the values are the official ones (`Evaluation/get_ava_performance.py` of ActivityNet). Only
`box_average_precisions`, which judges whole files, lets the official sort decide between equals.
F frames, K classes, R draws. No torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapters.boxes import BoxScores, overlaps_of_pairs
from adapters.predictions import Box, Truth
from core_encoder.errors import InputError
from tasks.metrics.bootstrap import Floats, value_of
from tasks.metrics.ranked_detections import interpolated_average_precision, surest_first

MOST_ROWS = 50  # of one frame
MATCH_IOU = 0.5
AT_ONCE = 4_000_000  # weights of predictions that are held at a time


@dataclass(frozen=True, eq=False)
class BoxTable:
    """Boxes of many frames as columns of N rows, one a box and class."""

    frames: NDArray[np.int64]  # (N,) the number of the frame
    labels: NDArray[np.int64]  # (N,) the number of the class
    corners: Floats  # (N, 4) left, top, right, bottom
    scores: Floats  # (N,)

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, rows: NDArray[Any]) -> BoxTable:
        return BoxTable(self.frames[rows], self.labels[rows], self.corners[rows], self.scores[rows])


def box_hits(found: BoxTable, truths: BoxTable) -> NDArray[np.bool_]:
    """Which predictions are right `(N,)`: the first, in the order of `found`, about an individual of their class.

    Each is tied to the individual of its frame and class that it overlaps most, the first of several in `truths`.
    """
    most = 1 + max(int(table.labels.max(initial=0)) for table in (found, truths))
    wanted = truths.frames * most + truths.labels
    by_group = np.argsort(wanted, kind="stable")
    groups = found.frames * most + found.labels
    first = np.searchsorted(wanted[by_group], groups, side="left")
    number = np.searchsorted(wanted[by_group], groups, side="right") - first
    person = np.full(len(found), -1)
    rows = np.flatnonzero(number)
    for part in np.split(rows, np.flatnonzero(np.diff(np.cumsum(number[rows]) // AT_ONCE)) + 1):
        if not len(part):
            continue
        ends = np.cumsum(number[part])
        starts = ends - number[part]
        which = np.repeat(np.arange(len(part)), number[part])  # (M,) of the pairs
        others = by_group[np.arange(ends[-1]) - starts[which] + first[part][which]]
        shared = overlaps_of_pairs(found.corners[part[which]], truths.corners[others])
        best = np.maximum.reduceat(shared, starts)
        _, place = np.unique(which[at := np.flatnonzero(shared == best[which])], return_index=True)
        person[part] = np.where(best >= MATCH_IOU, others[at[place]], -1)
    right = np.zeros(len(found), dtype=np.bool_)
    near = np.flatnonzero(person >= 0)
    right[near[np.unique(person[near], return_index=True)[1]]] = True
    return right


def box_average_precisions(found: BoxTable, truths: BoxTable, counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """The average precision of each class `(K,)`, NaN without ground truth, as PASCAL's evaluator in AVA's computes it.

    Args:
        found: in the order of frames and, within a frame, from the surest to the least sure.
        truths: of every frame that is judged.
        counts: `(K,)` how many individuals there are to find of each class.
    """
    right = box_hits(found, truths)
    values = np.full(len(counts), np.nan)
    for label in np.flatnonzero(counts):
        mine = np.flatnonzero(found.labels == label)
        hits = right[mine[surest_first(found.scores[mine])]]
        values[label] = interpolated_average_precision(hits, ~hits, counts[label])
    return values


@dataclass(frozen=True, eq=False)
class RankedBoxes:
    """The predictions of one class over all frames, best first, and its ground truth.

    The curve rises only at a tie (predictions of one score) that holds a right one, and precision is never higher
    between two of these than at the first; so the G ties of this sort are all that is kept, each with the predictions
    since the one before.
    """

    frames: NDArray[np.int32]  # (M,) of which frame each prediction is
    starts: NDArray[np.int64]  # (G,) the first prediction of each group
    right_frames: NDArray[np.int32]  # (N,) of which frame each right prediction is
    right_starts: NDArray[np.int64]  # (G,) the first right one of each group
    counts: NDArray[np.int32]  # (F,) individuals of the class in each frame

    def average_precision(self, weights: NDArray[np.float32]) -> Floats:
        """The average precision for each row of frame weights `(R, F)`; nan without ground truth."""
        rows = max(1, AT_ONCE // max(len(self.frames), 1))
        parts = [self._area(weights[first : first + rows]) for first in range(0, len(weights), rows)]
        total = weights @ self.counts.astype(np.float32)  # (R,)
        return np.divide(np.concatenate(parts), total, out=np.full(len(weights), np.nan), where=total > 0)

    def _area(self, weights: NDArray[np.float32]) -> Floats:
        """The area under the curve, in individuals that are found, for each of a few rows of weights."""
        if not len(self.starts):
            return np.zeros(len(weights))
        predicted = np.add.reduceat(weights[:, self.frames], self.starts, axis=1, dtype=np.float64).cumsum(1)  # (R, G)
        gained = np.add.reduceat(weights[:, self.right_frames], self.right_starts, axis=1, dtype=np.float64)
        precision = np.divide(gained.cumsum(1), predicted, out=np.zeros_like(gained), where=predicted > 0)
        best_from_here = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        return (gained * best_from_here).sum(1)


def ranked_boxes(
    predictions: Sequence[BoxScores],
    truths: Sequence[Sequence[Box]],
    label_names: Sequence[str],
    most_rows: int | None = MOST_ROWS,
) -> list[RankedBoxes]:
    """Match the predictions of F frames with the boxes that are right there, for each of the classes.

    Args:
        predictions: one a frame.
        truths: the true boxes of each.
        label_names: the classes.
        most_rows: so many (box, class) pairs of a frame count, the highest-scored ones; None is all.

    Raises:
        InputError: a class that the adapter does not know, or scores that are not finite.
    """
    index = {label: k for k, label in enumerate(label_names)}
    tables = [BoxTable(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, 4)), np.zeros(0))]
    for frame, answer in enumerate(predictions):
        scores = _scores_of(answer, label_names)  # (P, K)
        kept = np.argsort(-scores, axis=None, kind="stable")[:most_rows]  # of P * K, best first
        boxes, classes = np.divmod(kept, len(label_names))
        corners = np.array(answer.corners, dtype=np.float64).reshape(-1, 4)
        tables.append(BoxTable(np.full(len(kept), frame), classes, corners[boxes], scores.ravel()[kept]))
    found = _joined(tables)
    people = [(frame, box) for frame, target in enumerate(truths) for box in target if box.label in index]
    known = BoxTable(
        np.array([frame for frame, _ in people], dtype=np.int64),
        np.array([index[box.label] for _, box in people], dtype=np.int64),
        np.array([box.corners for _, box in people], dtype=np.float64).reshape(-1, 4),
        np.ones(len(people)),
    )
    counts = np.zeros((len(label_names), len(truths)), dtype=np.int32)
    np.add.at(counts, (known.labels, known.frames), 1)
    right, frames = box_hits(found, known), found.frames.astype(np.int32)
    order = np.lexsort((-found.scores, found.labels))
    bounds = np.searchsorted(found.labels[order], np.arange(len(label_names) + 1))
    several = (order[bounds[k] : bounds[k + 1]] for k in range(len(label_names)))
    return [_ranked(frames[mine], found.scores[mine], right[mine], counts[k]) for k, mine in enumerate(several)]


def _joined(tables: Sequence[BoxTable]) -> BoxTable:
    columns = ("frames", "labels", "corners", "scores")
    return BoxTable(*(np.concatenate([getattr(one, name) for one in tables]) for name in columns))


def frame_map(ranked: Sequence[RankedBoxes], weights: NDArray[np.float32]) -> Floats:
    """The mean of the average precisions of the classes that have ground truth, for each row of weights `(R, F)`."""
    values = np.stack([one.average_precision(weights) for one in ranked], axis=1)  # (R, K)
    known = ~np.isnan(values)
    return np.divide(np.nansum(values, 1), known.sum(1), out=np.full(len(values), np.nan), where=known.any(1))


class FrameMAP:
    """Frame mAP over answers as they come, to choose between epochs; the target of a sample is its true boxes."""

    def __init__(self, label_names: Sequence[str], most_rows: int | None = MOST_ROWS) -> None:
        self.label_names = tuple(label_names)
        self.most_rows = most_rows
        self._seen: dict[str, tuple[BoxScores, Sequence[Box]]] = {}

    def update(self, predictions: Sequence[BoxScores], truths: Sequence[Truth]) -> None:
        """Add the answers for some samples; a sample counts once."""
        for answer, known in zip(predictions, truths, strict=True):
            self._seen[known.id] = (answer, known.target)

    def compute(self) -> float:
        """The value over all samples added.

        Raises:
            InputError: no class has ground truth.
        """
        answers, targets = zip(*self._seen.values(), strict=True)
        ranked = ranked_boxes(answers, targets, self.label_names, self.most_rows)
        return value_of(lambda weights: frame_map(ranked, weights), len(answers))


def _ranked(
    frames: NDArray[np.int32], scores: Floats, right: NDArray[np.bool_], counts: NDArray[np.int32]
) -> RankedBoxes:
    """The predictions of one class, the surest first."""
    ends = np.flatnonzero(np.diff(scores, append=-np.inf)) + 1  # of each tie
    found = np.cumsum(right)[ends - 1]  # right ones up to and with each tie
    before = np.concatenate([[0], found[:-1]])
    rises = found > before
    starts = np.concatenate([[0], ends[rises][:-1]])[: rises.sum()]
    last = ends[rises][-1] if rises.any() else 0
    return RankedBoxes(frames[:last], starts, frames[right], before[rises], counts)


def _scores_of(answer: BoxScores, label_names: Sequence[str]) -> Floats:
    """The scores `(P, K)` in the order of the task's classes."""
    scores = np.asarray(answer.scores, dtype=np.float64).reshape(-1, len(answer.label_names))
    if answer.label_names != tuple(label_names):
        absent = [name for name in label_names if name not in answer.label_names]
        if absent:
            raise InputError(f"{answer.sample_id}: class {absent[0]!r} is unknown to the adapter")
        scores = scores[:, [answer.label_names.index(name) for name in label_names]]
    if not np.isfinite(scores).all():
        raise InputError(f"{answer.sample_id}: the adapter's scores are not finite")
    return scores
