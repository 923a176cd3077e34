"""What the predictions of a cell show: a score for each class, what was taken for what, and some examples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapters.boxes import BoxScores
from adapters.predictions import ClassScores, Embedding, Segment, Segments, Text
from benchmarks.report.judged_log import SPLIT, JudgedLog, read_log, task_of
from benchmarks.report.result_folder import ReportedCell
from core_encoder.errors import InputError
from tasks.families.classification import ClassificationTask
from tasks.families.multiple_choice import MultipleChoiceTask
from tasks.metrics.answers import is_exact
from tasks.metrics.bootstrap import Floats
from tasks.metrics.retrieval import rank_predictions
from tasks.readers.boxes import BoxSample
from tasks.readers.captions import CaptionedSample
from tasks.readers.texts import TextSample
from tasks.sample import ChoiceSample, Sample, SegmentSample
from tasks.task import ByClass

EXAMPLES = 6  # of a cell
SAID = 3  # answers and truths of an example
MOST_DRAWN = 20  # classes of a confusion matrix that is drawn
MIX_UPS = 20  # listed


@dataclass(frozen=True)
class Example:
    """One sample: what is right, what was said with its score, and whether it was right, where that is plain."""

    name: str
    truth: tuple[str, ...]
    said: tuple[tuple[str, str], ...]
    right: bool | None = None
    question: str = ""


@dataclass(frozen=True)
class Confusions:
    """Counts of samples by true class (row) and predicted class, and how many classes there are in all.

    Only of classes that occur or were predicted; `labels` is empty where they are too many to be drawn. `mix_ups` are
    the most frequent wrong ones: true class, called, count, samples of the true class.
    """

    labels: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]
    mix_ups: tuple[tuple[str, str, int, int], ...]
    mix_ups_left_out: int
    classes: int


@dataclass(frozen=True)
class Details:
    """What the predictions of one cell show; where they are not at hand, the `reason`; `note` says what lacks."""

    cell: ReportedCell
    by_class: ByClass | None = None
    confusions: Confusions | None = None
    examples: tuple[Example, ...] = ()
    reason: str = ""
    note: str = ""


def details_of(cell: ReportedCell) -> Details:
    """What the predictions of a finished cell show.

    Raises:
        InputError: its file of predictions was cut or is damaged.
    """
    if not cell.predictions_path.is_file():
        return Details(cell, reason=f"{cell.predictions_path.name} is not there")
    try:
        task = task_of(cell)
    except InputError as error:
        return Details(cell, reason=str(error))
    log = read_log(cell, task)
    confusions = None
    if isinstance(log.task, ClassificationTask) and not log.task.multi_label:
        names = log.predictions[0].label_names
        confusions = _confusions(names, log.task.confusion(log.predictions, SPLIT))
    by_class, note = None, ""
    try:
        by_class = log.task.by_class(log.predictions, SPLIT)
    except InputError as error:  # such as: no WordNet on this machine
        note = f"no scores by class: {error}"
    return Details(cell, by_class, confusions, _examples(log), note=note)


def _confusions(names: Sequence[str], counts: NDArray[np.int64]) -> Confusions:
    present = np.flatnonzero(counts.sum(axis=0) + counts.sum(axis=1))
    totals = counts.sum(axis=1)
    wrong = counts - np.diag(counts.diagonal())
    order = np.argsort(-wrong, axis=None, kind="stable")[: (wrong > 0).sum()]
    rows, columns = np.unravel_index(order[:MIX_UPS], wrong.shape)
    mix_ups = tuple(
        (names[i], names[j], int(wrong[i, j]), int(totals[i]))
        for i, j in zip(rows.tolist(), columns.tolist(), strict=True)
    )
    drawn = present if len(present) <= MOST_DRAWN else present[:0]
    return Confusions(
        tuple(names[place] for place in drawn),
        tuple(tuple(row) for row in counts[np.ix_(drawn, drawn)].tolist()),
        mix_ups,
        len(order) - len(mix_ups),
        len(present),
    )


def _examples(log: JudgedLog) -> tuple[Example, ...]:
    """Wrong ones and right ones, as many of each where there are, evenly spread over the samples."""
    samples = log.samples
    ranks = _ranks(log)
    said = [(one, samples[one.sample_id]) for one in log.predictions]
    if ranks is None and not _plainly_right(log):
        chosen = _evenly(range(len(said)), EXAMPLES)
    else:
        verdicts = [_is_right(log, place, *pair, ranks) for place, pair in enumerate(said)]
        wrong, right = ([place for place, one in enumerate(verdicts) if one is wanted] for wanted in (False, True))
        few = _evenly(wrong, max(EXAMPLES // 2, EXAMPLES - len(right)))
        chosen = sorted([*few, *_evenly(right, EXAMPLES - len(few))])
    return tuple(_example(log, place, *said[place], ranks) for place in chosen)


def _evenly(places: Sequence[int], count: int) -> list[int]:
    """At most `count` of some places, evenly spread."""
    if len(places) <= count:
        return list(places)
    return [places[int(k)] for k in np.linspace(0, len(places) - 1, count).round()]


def _plainly_right(log: JudgedLog) -> bool:
    """Whether a single answer of the task is right or wrong."""
    task = log.task
    if isinstance(task, ClassificationTask):
        return not task.multi_label
    return isinstance(task, MultipleChoiceTask) or task.main_metric == "accuracy"


def _ranks(log: JudgedLog) -> Floats | None:
    """Of retrieval the rank of each sample: of its first text among videos, or of it among texts."""
    if not isinstance(log.predictions[0], Embedding):
        return None
    ranks = rank_predictions(log.predictions, log.task.targets(list(log.samples.values())))
    if log.task.main_metric.startswith("v2t"):
        return ranks.v2t
    return ranks.t2v[np.searchsorted(ranks.owners, np.arange(len(log.predictions)))]


def _is_right(log: JudgedLog, place: int, said: Any, sample: Sample, ranks: Floats | None) -> bool | None:
    if ranks is not None:
        return bool(ranks[place] == 1)
    if not _plainly_right(log):
        return None
    if isinstance(sample, ChoiceSample):
        (right,) = log.task.targets([sample])[0]
        return said.text == right if isinstance(said, Text) else _surest(said) == right
    if isinstance(sample, TextSample):
        return is_exact(said.text, sample.texts)
    return _surest(said) in sample.labels


def _surest(said: ClassScores) -> str | None:
    """The class with the highest score; None where several have it, which counts as wrong."""
    best = said.top(2)
    return None if len(best) == 2 and best[0][1] == best[1][1] else best[0][0]


def _example(log: JudgedLog, place: int, said: Any, sample: Sample, ranks: Floats | None) -> Example:
    question = sample.question if isinstance(sample, ChoiceSample | TextSample) else ""
    right = _is_right(log, place, said, sample, ranks)
    if ranks is not None:
        by_text = log.task.main_metric.startswith("t2v")
        what = "its first text finds it" if by_text else "the nearest of its texts is found"
        answers: tuple[tuple[str, str], ...] = ((f"{what} at rank {ranks[place]:g}", ""),)
    else:
        answers = tuple(_said(said))
    return Example(said.sample_id, tuple(_truth(sample))[:SAID], answers[:SAID], right, question)


def _said(said: Any) -> list[tuple[str, str]]:
    if isinstance(said, Text):
        return [(said.text, "" if said.score is None else f"log-likelihood {said.score:.1f}")]
    if isinstance(said, Segments):
        return [(_segment(one), f"{one.score:.3f}") for one in said.segments[:SAID]] or [("nothing found", "")]
    if isinstance(said, BoxScores):
        best = sorted(said.shown(top=1), key=lambda box: -box.score)[:SAID]
        said_of = [(f"{box.label}, in {_corners(box.corners)}", f"{box.score:.3f}") for box in best]
        return said_of or [("nobody was asked about", "")]
    return [(label, f"{score:.3f}") for label, score in said.top(SAID)]


def _truth(sample: Sample) -> list[str]:
    if isinstance(sample, ChoiceSample):
        return [sample.answer]
    if isinstance(sample, TextSample):
        return list(sample.texts)
    if isinstance(sample, CaptionedSample):
        return list(sample.captions)
    if isinstance(sample, SegmentSample):
        return [_segment(one) for one in sample.timeline.segments] or ["nothing happens"]
    if isinstance(sample, BoxSample):
        return [f"{box.label}, in {_corners(box.corners)}" for box in sample.actors] or [
            "nobody does anything that counts"
        ]
    return list(sample.labels) or ["none of the classes"]


def _segment(one: Segment) -> str:
    return f"{one.label}, {one.start_s:.1f} to {one.end_s:.1f} s"


def _corners(corners: Sequence[float]) -> str:
    return " ".join(f"{edge:.2f}" for edge in corners)
