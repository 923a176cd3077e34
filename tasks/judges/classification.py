"""Class scores of any data: accuracy of one label an id, or average precision of several. No torch.

    truth         id,label                a row a label; several rows of an id, or an empty label, make it multi-label
    predictions   id,<class>,<class>,...  a score for each class

An id without scores is wrong in every metric and ranks below all others; scores of an id that the truth does not have
are ignored. Ties count against the prediction. No benchmark has an evaluator of its own for this format; the values are
those of scikit-learn (`top_k_accuracy_score`, `balanced_accuracy_score`, `average_precision_score`).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from core_encoder.errors import InputError
from core_encoder.files.storage import nearest
from tasks.judges.judgement import Judgement, by_name, id_note
from tasks.judges.tables import read_table
from tasks.metrics.class_statistics import average_precisions, target_ranks

PROTOCOL = "classification-scores-v1"
"""top-1, top-5, mean recall of the true classes, mean average precision; an id without scores counts as wrong."""


def judge_classification(truth: Path, predictions: Path) -> Judgement:
    """`top1`, `top5`, `macro` and `mAP`, fractions; with several labels an id only `mAP`, and None for the others.

    `macro` is the mean over the true classes of their recall. Of each class the recall, or with several labels an id
    the average precision.

    Raises:
        InputError: one line with file, line, field and the fix.
    """
    classes, scored = _read_scores(predictions)
    labels = _read_labels(truth, classes, predictions)
    targets = np.array([np.isin(range(len(classes)), list(one)) for one in labels.values()], dtype=np.int64)  # (n, K)
    if not targets.any():
        raise InputError(f"{truth}: no id has a label")
    nothing = np.full(len(classes), -np.inf)
    scores = np.stack([scored.get(name, nothing) for name in labels])  # (n, K)
    per_class = average_precisions(scores, targets)[0]
    metrics: dict[str, float | None] = {"top1": None, "top5": None, "macro": None, "mAP": float(np.nanmean(per_class))}
    if (targets.sum(axis=1) == 1).all():
        ranks = target_ranks(scores, targets.argmax(axis=1))
        ranks[np.isinf(scores[:, 0])] = len(classes) + 5  # without scores nothing is right, however few classes
        right, totals = targets[ranks < 1].sum(axis=0), targets.sum(axis=0)
        per_class = np.divide(right, totals, out=np.full(len(classes), np.nan), where=totals > 0)
        accuracies = {"top1": (ranks < 1).mean(), "top5": (ranks < 5).mean(), "macro": np.nanmean(per_class)}
        metrics |= {name: float(value) for name, value in accuracies.items()}
    return Judgement(
        "classification",
        PROTOCOL,
        len(labels),
        metrics,
        by_name(classes, per_class),
        id_note(labels.keys() - scored.keys(), f"of {len(labels)} ids have no scores", "they count as wrong")
        + id_note(scored.keys() - labels.keys(), "scored ids are not in the truth", "they are ignored"),
    )


def _read_scores(file: Path) -> tuple[list[str], dict[str, NDArray[np.float64]]]:
    """The classes of a file of scores, and the scores `(K,)` of each id."""
    header, lines = read_table(file, ["id"])
    place = header.index("id")
    classes = [name for name in header if name != "id"]
    if not classes:
        raise InputError(f"{file}: line 1: has no class; columns are id and a score for each class")
    found: dict[str, NDArray[np.float64]] = {}
    for line in lines:
        name = line.cells.pop(place).strip()  # as in the truth
        if name in found:
            raise line.error(f"id {name!r} has scores already; keep one row an id")
        numbers = [line.finite(column, cell) for column, cell in zip(classes, line.cells, strict=True)]
        found[name] = np.array(numbers)
    return classes, found


def _read_labels(file: Path, classes: list[str], predictions: Path) -> dict[str, set[int]]:
    """The numbers of the labels of each id."""
    header, lines = read_table(file, ["id", "label"])
    numbers = {name: number for number, name in enumerate(classes)}
    found: dict[str, set[int]] = {}
    for line in lines:
        name, label = (line.cells[header.index(column)].strip() for column in ("id", "label"))
        mine = found.setdefault(name, set())
        if label and label not in numbers:
            raise line.error(f"label {label!r} is no column of {predictions}{nearest(label, classes)}")
        if label:
            if numbers[label] in mine:
                raise line.error(f"label {label!r} of id {name!r} is there twice; remove one row")
            mine.add(numbers[label])
    if not found:
        raise InputError(f"{file}: holds no row; they are id,label")
    return found
