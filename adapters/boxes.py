"""Who is where: tracks that are given beside a video, and what the individuals in them do. No torch at import.

Corners are `(left, top, right, bottom)` as fractions of the picture, times are seconds of the video.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from adapters.predictions import Box, Segment
from core_encoder.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

Corners = tuple[float, float, float, float]
SURE = 0.5  # from this probability on a class of several is taken to apply


@dataclass(frozen=True)
class Track:
    """One individual: its corners at some times, in order. One without times stays where it is.

    `score` is how sure whoever found it was.

    Raises:
        InputError: a box that has no area or reaches outside the picture.
        ValueError: there are not as many times as corners.
    """

    corners: tuple[Corners, ...]
    times_s: tuple[float, ...] = ()
    id: str = ""
    score: float = 1.0

    def __post_init__(self) -> None:
        if len(self.corners) != max(len(self.times_s), 1):
            raise ValueError(f"a track of {len(self.times_s)} times cannot have {len(self.corners)} boxes")
        for box in self.corners:
            if problem := box_problem(box):
                raise InputError(problem)

    def at(self, times_s: Sequence[float] | NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """The corners `(T, 4)` at times `(T,)`: between two boxes in a straight line, beyond the ends as at the end."""
        corners = np.array(self.corners, dtype=np.float64)  # (M, 4)
        if len(self.corners) == 1:
            return corners.repeat(len(times_s), axis=0)
        return np.stack([np.interp(times_s, self.times_s, edge) for edge in corners.T], axis=-1)

    def is_seen(self, start_s: float, end_s: float) -> bool:
        """Whether it is there at some time of a span; one of a single box always is."""
        return len(self.corners) == 1 or (self.times_s[0] <= end_s and self.times_s[-1] >= start_s)


def given_tracks(given: Any, name: str) -> tuple[Track, ...]:
    """What was given as `boxes` beside the video `name`: tracks, or corners `(Q, 4)` as an array, tensor or lists.

    Raises:
        InputError: neither, or a box that has no area or reaches outside the picture.
    """
    several = list(given)
    if not all(isinstance(one, Track) for one in several):
        try:
            array = np.array([[float(edge) for edge in box] for box in several], dtype=np.float64)
        except (TypeError, ValueError):
            array = np.zeros(0)
        if array.ndim != 2 or array.shape[1] != 4:
            raise InputError(f"{name}: boxes must be corners (left, top, right, bottom), four numbers each, or tracks")
        try:
            several = [Track(((box[0], box[1], box[2], box[3]),)) for box in array.tolist()]
        except InputError as error:
            raise InputError(f"{name}: {error}") from error
    return tuple(several)


def box_problem(corners: Sequence[float]) -> str:
    """What is wrong with a box, and what to do about it; empty where nothing is."""
    left, top, right, bottom = corners
    if -_ROUNDING <= left < right <= 1 + _ROUNDING and -_ROUNDING <= top < bottom <= 1 + _ROUNDING:
        return ""  # at once: there may be a million
    shown = f"box {left:g} {top:g} {right:g} {bottom:g}"
    if not np.isfinite(corners).all():
        return f"{shown} holds a number that is not finite; correct or remove it"
    if max(corners) > 2:
        return f"{shown} seems to be in pixels; give fractions of the picture: divide by its width and height"
    if min(corners) < -_ROUNDING or max(corners) > 1 + _ROUNDING:
        return f"{shown} reaches outside the picture; corners are fractions from 0 to 1: cut it there"
    return f"{shown} has no area; corners are left, top, right, bottom: correct or remove it"


_ROUNDING = 1e-3  # how far a rounded edge may lie outside the picture


def overlaps(boxes: NDArray[np.floating[Any]], others: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """The intersection over union `(A, B)` of boxes `(A, 4)` and `(B, 4)`; 0 where both are empty."""
    return overlaps_of_pairs(boxes[:, None], others[None])


def overlaps_of_pairs(boxes: NDArray[np.floating[Any]], others: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """The intersection over union of boxes `(..., 4)`, pair by pair where their leading axes are the same."""
    low = np.maximum(boxes[..., :2], others[..., :2])
    high = np.minimum(boxes[..., 2:], others[..., 2:])
    shared = np.clip(high - low, 0, None).astype(np.float64).prod(-1)
    areas = [(one[..., 2:] - one[..., :2]).prod(-1) for one in (boxes, others)]
    union = areas[0] + areas[1] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


@dataclass(frozen=True, eq=False)
class BoxScores:
    """The probability of every class for everyone at one moment of a video, or at several.

    A row is one box: `times_s (R,)`, `spans_s (R, 2)` (the seconds that were looked at), `corners (R, 4)`, `scores
    (R, K)` float32 on the CPU in the order of `label_names`, and which track it is of ("" for a box of no track).
    Scores of one row sum to 1; with `multi_label` they are independent.
    """

    columns: ClassVar[tuple[str, ...]] = ("time", "track", "box", "label", "score")
    sample_id: str
    times_s: tuple[float, ...]
    spans_s: tuple[tuple[float, float], ...]
    corners: tuple[Corners, ...]
    tracks: tuple[str, ...]
    scores: Tensor
    label_names: tuple[str, ...]
    multi_label: bool = False

    def __post_init__(self) -> None:
        rows = {len(self.times_s), len(self.spans_s), len(self.corners), len(self.tracks)}
        if rows != {len(self.scores)} or self.scores.shape[1:] != (len(self.label_names),):
            raise ValueError(f"{rows} boxes of {len(self.label_names)} classes, scores {tuple(self.scores.shape)}")

    @property
    def boxes(self) -> tuple[Box, ...]:
        """What everyone does, by time and the surest first: the best class, or all that apply."""
        found = [
            Box(self.times_s[row], self.corners[row], label, score, self.tracks[row])
            for row in range(len(self.times_s))
            for label, score in self._said(row)
        ]
        return tuple(sorted(found, key=lambda box: (box.time_s, -box.score)))

    @cached_property
    def segments(self) -> dict[str, tuple[Segment, ...]]:
        """What each track does from when to when: neighbouring moments of one class, joined; times in seconds."""
        found = {}
        for track in dict.fromkeys(self.tracks):
            rows = sorted((i for i, one in enumerate(self.tracks) if one == track), key=lambda i: self.times_s[i])
            if track:
                found[track] = tuple(sorted(self._joined(rows), key=lambda one: (one.start_s, one.label)))
        return found

    def _joined(self, rows: Sequence[int]) -> Iterator[Segment]:
        """The segments of one track's rows, which are in the order of time."""
        starts, ends = [self.spans_s[row][0] for row in rows], [self.spans_s[row][1] for row in rows]
        for i in range(1, len(rows)):
            if ends[i - 1] >= starts[i] - 1e-6:  # they touch: each has the half that is nearer to its moment
                starts[i] = ends[i - 1] = (self.times_s[rows[i - 1]] + self.times_s[rows[i]]) / 2
        said = [dict(self._said(row)) for row in rows]
        for label in self.label_names:
            run: list[int] = []
            for i in range(len(rows) + 1):
                goes_on = i < len(rows) and label in said[i] and (not run or ends[run[-1]] >= starts[i] - 1e-6)
                if run and not goes_on:
                    score = float(np.mean([said[one][label] for one in run]))
                    yield Segment(starts[run[0]], ends[run[-1]], label, score)
                    run = []
                if i < len(rows) and label in said[i]:
                    run.append(i)

    def _said(self, row: int, top: int | None = None, every: bool = False) -> list[tuple[str, float]]:
        """The classes of one box, best first: those that apply, the `top` ones, or every one."""
        scores = self.scores[row]
        order = scores.argsort(descending=True, stable=True).tolist()
        ranked = [(self.label_names[k], float(scores[k])) for k in order]
        if every or top is not None:
            return ranked[:top] if not every else ranked
        return [one for one in ranked if one[1] >= SURE] if self.multi_label else ranked[:1]

    def describe(self, top: int | None = None, all_scores: bool = False) -> dict[str, Any]:
        """`{"id", "boxes": [{"time", "box", "labels"}], "tracks": {id: segments}}`, times in seconds.

        `labels` are those that apply, the `top` ones, or all of them, each with its score; `tracks` are there where one
        was seen at several moments.
        """
        boxes = []
        for row in range(len(self.times_s)):
            box: dict[str, Any] = {"time": self.times_s[row], "box": list(self.corners[row])}
            if self.tracks[row]:
                box["track"] = self.tracks[row]
            said = self._said(row, top, all_scores)
            boxes.append(box | {"labels": [{"label": label, "score": score} for label, score in said]})
        record: dict[str, Any] = {"id": self.sample_id, "boxes": boxes}
        if self._follows:
            record["tracks"] = {
                track: [
                    {"start": one.start_s, "end": one.end_s, "label": one.label, "score": one.score} for one in several
                ]
                for track, several in self.segments.items()
            }
        return record

    def rows(self, top: int | None = None, all_scores: bool = False) -> list[tuple[str, ...]]:
        """One line a box and class, by time; `-` where no class applies."""
        lines: list[tuple[str, ...]] = []
        for row in sorted(range(len(self.times_s)), key=lambda i: self.times_s[i]):
            where = " ".join(f"{edge:.3f}" for edge in self.corners[row])
            before = (f"{self.times_s[row]:.2f}", self.tracks[row] or "-", where)
            said = self._said(row, top, all_scores)
            lines += [(*before, label, f"{score:.3f}") for label, score in said] or [(*before, "-", "-")]
        return lines

    @property
    def _follows(self) -> bool:
        known = [track for track in self.tracks if track]
        return len(set(known)) < len(known)


def joined_scores(answers: Sequence[BoxScores]) -> BoxScores:
    """The answers for several views or moments of one video as one; of the same box at the same time the mean."""
    import torch

    if len(answers) == 1:
        return answers[0]
    rows: dict[tuple[float, str, Corners], list[tuple[BoxScores, int]]] = {}
    for answer in answers:
        for row, (time_s, track, corners) in enumerate(zip(answer.times_s, answer.tracks, answer.corners, strict=True)):
            rows.setdefault((time_s, track, corners), []).append((answer, row))
    first = answers[0]
    spans = [
        (min(answer.spans_s[row][0] for answer, row in several), max(answer.spans_s[row][1] for answer, row in several))
        for several in rows.values()
    ]
    means = [torch.stack([answer.scores[row] for answer, row in several]).mean(0) for several in rows.values()]
    return BoxScores(
        first.sample_id,
        tuple(time_s for time_s, _, _ in rows),
        tuple(spans),
        tuple(corners for _, _, corners in rows),
        tuple(track for _, track, _ in rows),
        torch.stack(means) if means else first.scores[:0],
        first.label_names,
        first.multi_label,
    )
