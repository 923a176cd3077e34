"""Frame mAP: average precision of boxes with classes, frame by frame, as the official AVA evaluator computes it.

- Of a frame the 50 highest-scored (box, class) pairs count; of equals the earlier ones.
- A prediction is tied to the individual of its class and frame that it overlaps the most, and to no other. It is right
  when their IoU is at least the threshold and no better-scored prediction was right about the same individual before.
- All predictions of a class are ranked together. Average precision is the area under the interpolated curve of
  precision over recall (PASCAL VOC, all points). Classes without ground truth are left out of the mean.

One rule is ours: predictions of one score enter the curve together, so that neither the order of the rows nor luck
decides; without ties the values are the official ones (`Evaluation/get_ava_performance.py` of ActivityNet).
F frames, K classes, R draws. No torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from adapters.boxes import BoxScores, Corners, overlaps
from adapters.predictions import Box, Truth
from core_encoder.errors import InputError
from tasks.metrics.bootstrap import Floats, value_of

MOST_ROWS = 50  # of one frame
MATCH_IOU = 0.5


@dataclass(frozen=True, eq=False)
class RankedBoxes:
    """The predictions of one class over all frames, best first, and its ground truth."""

    frames: NDArray[np.int64]  # (M,) of which frame each is
    right: NDArray[np.bool_]  # (M,)
    last_of_tie: NDArray[np.int64]  # places after which another score begins
    counts: NDArray[np.int64]  # (F,) individuals of the class in each frame

    def average_precision(self, weights: NDArray[np.float32]) -> Floats:
        """The average precision for each row of frame weights `(R, F)`; nan without ground truth."""
        total = weights @ self.counts  # (R,)
        weight = weights[:, self.frames].astype(np.float64)  # (R, M)
        predicted = weight.cumsum(1)[:, self.last_of_tie]
        found = (weight * self.right).cumsum(1)[:, self.last_of_tie]  # (R, ties)
        precision = np.divide(found, predicted, out=np.zeros_like(found), where=predicted > 0)
        best_from_here = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        gained = np.diff(found, axis=1, prepend=0.0)
        area = (gained * best_from_here).sum(1)
        return np.divide(area, total, out=np.full(len(weights), np.nan), where=total > 0)


def ranked_boxes(
    predictions: Sequence[BoxScores], truths: Sequence[Sequence[Box]], label_names: Sequence[str]
) -> list[RankedBoxes]:
    """Match the predictions of F frames with the boxes that are right there, for each of the classes.

    Raises:
        InputError: a class that the adapter does not know, or scores that are not finite.
    """
    rows: list[list[tuple[int, float, bool]]] = [[] for _ in label_names]  # frame, score, right
    counts = np.zeros((len(label_names), len(truths)), dtype=np.int64)
    for frame, (answer, target) in enumerate(zip(predictions, truths, strict=True)):
        scores = _scores_of(answer, label_names)  # (P, K)
        boxes = np.array(answer.corners, dtype=np.float64).reshape(-1, 4)
        kept = np.argsort(-scores, axis=None, kind="stable")[:MOST_ROWS]  # of P * K
        people: dict[str, list[Corners]] = {}
        for box in target:
            people.setdefault(box.label, []).append(box.corners)
        for k, label in enumerate(label_names):
            counts[k, frame] = len(people.get(label, ()))
            mine = kept[kept % len(label_names) == k] // len(label_names)  # best first
            taken: set[int] = set()
            shared = overlaps(boxes[mine], np.array(people[label])) if label in people else None
            for place, box_index in enumerate(mine.tolist()):
                right = False
                if shared is not None:
                    person = int(shared[place].argmax())
                    right = bool(shared[place, person] >= MATCH_IOU) and person not in taken
                    taken |= {person} if right else set()
                rows[k].append((frame, float(scores[box_index, k]), right))
    return [_ranked(found, counts[k]) for k, found in enumerate(rows)]


def frame_map(ranked: Sequence[RankedBoxes], weights: NDArray[np.float32]) -> Floats:
    """The mean of the average precisions of the classes that have ground truth, for each row of weights `(R, F)`."""
    values = np.stack([one.average_precision(weights) for one in ranked], axis=1)  # (R, K)
    known = ~np.isnan(values)
    return np.divide(np.nansum(values, 1), known.sum(1), out=np.full(len(values), np.nan), where=known.any(1))


class FrameMAP:
    """Frame mAP over answers as they come, to choose between epochs; the target of a sample is its true boxes."""

    def __init__(self, label_names: Sequence[str]) -> None:
        self.label_names = tuple(label_names)
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
        ranked = ranked_boxes(answers, targets, self.label_names)
        return value_of(lambda weights: frame_map(ranked, weights), len(answers))


def _ranked(found: Sequence[tuple[int, float, bool]], counts: NDArray[np.int64]) -> RankedBoxes:
    frames = np.array([frame for frame, _, _ in found], dtype=np.int64)
    scores = np.array([score for _, score, _ in found], dtype=np.float64)
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.diff(scores[order], append=-np.inf) != 0)
    right = np.array([right for _, _, right in found], dtype=bool)
    return RankedBoxes(frames[order], right[order], ends, counts)


def _scores_of(answer: BoxScores, label_names: Sequence[str]) -> Floats:
    """The scores `(P, K)` in the order of the task's classes."""
    absent = [name for name in label_names if name not in answer.label_names]
    if absent:
        raise InputError(f"{answer.sample_id}: class {absent[0]!r} is unknown to the adapter")
    columns = [answer.label_names.index(name) for name in label_names]
    scores = np.asarray(answer.scores, dtype=np.float64).reshape(-1, len(answer.label_names))[:, columns]
    if not np.isfinite(scores).all():
        raise InputError(f"{answer.sample_id}: the adapter's scores are not finite")
    return scores
