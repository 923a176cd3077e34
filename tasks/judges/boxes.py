"""Boxes with actions as the evaluators of AVA and of ChimpACT judge them. No torch.

    truth         video_id,timestamp,x1,y1,x2,y2,action_id,person_id      or video_id,timestamp: nobody is there
    predictions   video_id,timestamp,x1,y1,x2,y2,action_id,score

AVA, after `get_ava_performance.py` of ActivityNet and the PASCAL evaluator behind it:

- Of a frame the 50 surest rows are read. Of equals the official heap decides, and so it does here.
- A frame counts if the truth lists it, be it only with actions that are not evaluated: then all that is predicted there
  is a false alarm. What is predicted in other frames is ignored. Excluded frames are in neither file.
- Predicted boxes without width or height are dropped, after the 50 are chosen.
- Every prediction is tied to the one true box of its action that it overlaps most, and to no other.
- Actions without ground truth are left out of the mean; one that nobody predicts has 0.

ChimpACT, after `ava_utils.py` of its fork of mmaction2, differs: no limit of rows; only frames with ground truth of an
evaluated behaviour count; rows with a score of at most 0.002 are dropped; boxes and scores have single precision; true
boxes of excluded frames still count as missed; a behaviour that nobody predicts is left out of all means, so
`mAP@0.5_all`, which the official code lacks, is the mean with 0 for those.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core_encoder.errors import InputError
from tasks.judges.judgement import Judgement, by_name, id_note
from tasks.metrics.frame_map import MOST_ROWS, BoxTable, box_average_precisions
from tasks.metrics.ranked_detections import places_in_groups
from tasks.readers.ava_columns import AvaColumns, Frames, read_ava_columns, read_frame_list
from tasks.readers.box_rows import LabelMap, read_label_map
from tasks.readers.chimpact import LABELS

AVA_PROTOCOL = "ava-frame-map-50-v1"
"""Frame mAP at IoU 0.5 over the frames that the truth lists, of the 50 surest rows a frame."""
CHIMPACT_PROTOCOL = "chimpact-frame-map-v1"
"""Frame mAP at IoU 0.5 over the frames with ground truth, of rows with a score above 0.002."""

LEAST_SCORE = 0.002  # ChimpACT's `action_thr`: a row needs more
GROUPS = {
    "locomotion": range(1, 5),
    "object_interaction": range(5, 8),
    "social_interaction": range(8, 22),
    "others": range(22, 24),
}
"""Ids of the behaviours of each group."""


def judge_ava(
    truth: Path, predictions: Path, excluded: str | Path | None = None, labels: str | Path | None = None
) -> Judgement:
    """`mAP@0.5`, a fraction, and the average precision of each action.

    Args:
        excluded: file of `video_id,timestamp` that do not count.
        labels: the actions that are evaluated, a label map `.pbtxt`; by default AVA's 60.

    Raises:
        InputError: one line with file, line, field and the fix.
    """
    label_map = _label_map(labels or Path(__file__).with_name("ava_actions.pbtxt"))
    files = _read(truth, predictions, excluded, label_map)
    known = files.truth.table[files.known & ~np.isin(files.truth.table.frames, files.excluded)]
    said = files.predictions.table[files.said]
    said = said[evaluator_order(said, MOST_ROWS)]
    inside = np.isin(said.frames, np.setdiff1d(files.truth.listed, files.excluded))
    wide = (said.corners[:, 2] > said.corners[:, 0]) & (said.corners[:, 3] > said.corners[:, 1])
    counts = np.bincount(known.labels, minlength=len(label_map.ids))
    values = box_average_precisions(said[inside & wide], known[evaluator_order(known)], counts)
    return Judgement(
        "ava",
        AVA_PROTOCOL,
        len(np.setdiff1d(files.truth.listed, files.excluded)),
        by_name(["mAP@0.5"], [np.nanmean(values)]),
        by_name(label_map.names, values),
        files.notes(files.truth.listed),
    )


def judge_chimpact(
    truth: Path, predictions: Path, excluded: str | Path | None = None, labels: str | Path | None = None
) -> Judgement:
    """`mAP@0.5`, `mAP@0.5_` each group of behaviours, and `mAP@0.5_all`; of each behaviour the average precision.

    Args:
        excluded: file of `video,frame` that do not count.
        labels: `action_list.txt`, a label map; by default the 23 behaviours.

    Raises:
        InputError: one line with file, line, field and the fix.
    """
    label_map = LABELS if labels is None else _label_map(labels)
    files = _read(truth, predictions, excluded, label_map)
    everywhere = files.truth.table[files.known]
    known = everywhere[~np.isin(everywhere.frames, files.excluded)]
    frames, first = np.unique(known.frames, return_index=True)
    rank = dict(
        zip(frames[np.argsort(first)].tolist(), range(len(frames)), strict=True)
    )  # frames as the truth has them
    said = files.predictions.table
    judged = files.said & (said.scores > LEAST_SCORE) & np.isin(said.frames, frames)
    files.predictions.refuse_inverted(judged)
    said = said[judged]
    said = said[np.lexsort((-said.scores, [rank[frame] for frame in said.frames.tolist()]))]
    counts = np.bincount(everywhere.labels, minlength=len(label_map.ids))
    values = box_average_precisions(_single(said), _single(known), counts)
    ids, predicted = np.array(label_map.ids), np.bincount(said.labels, minlength=len(counts)) > 0
    official = np.where(predicted, values, np.nan)
    groups = {f"mAP@0.5_{name}": official[np.isin(ids, numbers)] for name, numbers in GROUPS.items()}
    several = {"mAP@0.5": official, **groups, "mAP@0.5_all": np.nan_to_num(values)}
    means = [np.nan if np.isnan(one).all() else np.nanmean(one) for one in several.values()]
    return Judgement(
        "chimpact",
        CHIMPACT_PROTOCOL,
        len(frames),
        by_name(list(several), means),
        by_name(label_map.names, official),
        files.notes(frames),
    )


def evaluator_order(table: BoxTable, most: int | None = None) -> NDArray[np.int64]:
    """The rows of the `most` surest of each frame, frames as they first come, in a frame from the surest on.

    The official evaluator keeps a heap of each frame and sorts it by score alone, so that the heap decides between
    equals. Here it is kept only for the frames in which that can matter: equals of one action, or one of them left out.
    """
    if not len(table):
        return np.zeros(0, dtype=np.int64)
    came = _as_they_come(table.frames)
    order = np.lexsort((-table.scores, came))
    place = places_in_groups(came[order])
    equal = _equal_neighbours(order, came, table.scores)  # (N - 1,)
    tied = order[np.append(equal, False) | np.insert(equal, 0, False)]
    tied = tied[np.lexsort((table.labels[tied], -table.scores[tied], came[tied]))]
    ties = tied[:-1][_equal_neighbours(tied, came, table.scores, table.labels)]
    if most is not None:
        ties = np.concatenate([ties, order[:-1][equal & (place[:-1] == most - 1)]])
        order = order[place < most]
    if len(ties):
        undecided = np.isin(came, came[ties])
        rows = np.flatnonzero(undecided)
        rows = rows[np.argsort(came[rows], kind="stable")]
        several = np.split(rows, np.flatnonzero(np.diff(came[rows])) + 1)
        order[undecided[order]] = np.concatenate([_by_heap(table, one, most) for one in several])
    return order


def _as_they_come(groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """Groups numbered in the order of their first members: `[7, 3, 7]` -> `[0, 1, 0]`."""
    if (groups[1:] >= groups[:-1]).all():  # as files mostly have them
        return np.cumsum(np.diff(groups, prepend=groups[:1]) > 0)
    _, first, group = np.unique(groups, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[group]


def _equal_neighbours(order: NDArray[np.int64], *columns: NDArray[Any]) -> NDArray[np.bool_]:
    """Which rows of an order are followed by one that is the same in some columns."""
    here, there = order[:-1], order[1:]
    same = np.ones(len(here), dtype=np.bool_)
    for column in columns:
        same &= column[here] == column[there]
    return same


def _by_heap(table: BoxTable, rows: NDArray[np.int64], most: int | None) -> list[int]:
    """The rows of one frame as the official `read_csv` leaves them: the heap, sorted by score."""
    left, top, right, bottom = table.corners[rows].T.tolist()
    scores, labels = table.scores[rows].tolist(), table.labels[rows].tolist()
    entries = list(zip(scores, labels, top, left, bottom, right, strict=True))
    heap: list[tuple[float, int, float, float, float, float]] = []
    for entry in entries:
        if most is None or len(heap) < most:
            heapq.heappush(heap, entry)
        elif entry[0] > heap[0][0]:
            heapq.heapreplace(heap, entry)
    of_entry = defaultdict(list)  # rows that are alike in everything are interchangeable
    for row, entry in zip(rows.tolist(), entries, strict=True):
        of_entry[entry].append(row)
    return [of_entry[entry].pop() for entry in sorted(heap, key=lambda entry: -entry[0])]


@dataclass(frozen=True, eq=False)
class _Files:
    """Both files; `known` and `said` say which of their rows are of an evaluated class, labels are its number."""

    frames: Frames
    truth: AvaColumns
    known: NDArray[np.bool_]
    predictions: AvaColumns
    said: NDArray[np.bool_]
    excluded: NDArray[np.int64]

    def notes(self, judged: NDArray[np.int64]) -> tuple[str, ...]:
        """What is to be said of the frames of one file that are not in the other; `judged` are those of the truth."""
        wanted = np.setdiff1d(judged, self.excluded)
        unseen = np.setdiff1d(wanted, self.predictions.listed)
        strange = np.setdiff1d(self.predictions.listed, np.union1d(judged, self.excluded))
        named = [[self.frames.names[frame] for frame in frames.tolist()] for frames in (unseen, strange)]
        return id_note(
            named[0], f"of {len(wanted)} frames have no predictions", "their boxes count as missed"
        ) + id_note(named[1], "predicted frames are not among those of the truth", "they are ignored")


def _read(truth: Path, predictions: Path, excluded: str | Path | None, label_map: LabelMap) -> _Files:
    frames = Frames()
    known, right = _numbered_labels(read_ava_columns(truth, frames), label_map)
    said, judged = _numbered_labels(read_ava_columns(predictions, frames), label_map)
    known.refuse_inverted(right)
    if not right.any():
        raise InputError(f"{truth}: none of its rows has an action that is evaluated; other classes need --labels")
    skipped = np.zeros(0, np.int64) if excluded is None else read_frame_list(excluded, frames)
    if np.isin(known.table.frames[right], skipped).all():
        raise InputError(f"{truth}: all of its frames are excluded")
    return _Files(frames, known, right, said, judged, skipped)


def _numbered_labels(file: AvaColumns, label_map: LabelMap) -> tuple[AvaColumns, NDArray[np.bool_]]:
    """The same with the numbers of classes instead of ids, and which rows are of one of the classes."""
    ids, table = np.array(label_map.ids), file.table
    number = np.searchsorted(ids, table.labels).clip(max=len(ids) - 1)
    return (
        AvaColumns(file.path, BoxTable(table.frames, number, table.corners, table.scores), file.listed),
        ids[number] == table.labels,
    )


def _label_map(path: str | Path) -> LabelMap:
    """A label map in the order of its ids, which decides between equals."""
    found = read_label_map(path)
    ids, names = zip(*sorted(zip(found.ids, found.names, strict=True)), strict=True)
    return LabelMap(names, ids)


def _single(table: BoxTable) -> BoxTable:
    """Boxes and scores in single precision."""
    return BoxTable(table.frames, table.labels, table.corners.astype(np.float32), table.scores.astype(np.float32))
