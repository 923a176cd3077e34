"""Scores of Charades' 157 actions as its own evaluation judges them. No torch.

    truth         Charades_v1_test.csv: columns id and actions, such as `c092 11.90 21.20;c147 0.00 12.60`
    predictions   lines of `ID s0 s1 ... s156`, separated by spaces

After `Charades_v1_classify.m` and its port `charades_map`: a video without any action sinks below all others for every
class, a video without scores has 0 for every class, and scores of videos that the truth does not have are ignored.
The official mean is NaN as soon as one class has no video; here it is over the classes that have one, and that is said.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from core_encoder.errors import InputError
from tasks.judges.judgement import Judgement, by_name, id_note
from tasks.judges.tables import Line, read_table
from tasks.metrics.class_statistics import charades_average_precisions

PROTOCOL = "charades-map-v1"
"""mAP over the 157 classes, videos without actions below all others, videos without scores at 0."""
CLASSES = tuple(f"c{number:03}" for number in range(157))
_ACTION = re.compile(r"c(\d+)(?: +\S+ +\S+)?")


def judge_charades(truth: Path, predictions: Path) -> Judgement:
    """`mAP`, a fraction, and the average precision of each class `c000` to `c156`.

    Raises:
        InputError: one line with file, line, field and the fix.
    """
    labels = _read_actions(truth)
    scored = _read_scores(predictions)
    targets = np.stack(list(labels.values()))  # (n, K)
    if not targets.any():
        raise InputError(f"{truth}: no video has an action")
    nothing = np.zeros(len(CLASSES))
    scores = np.stack([scored.get(name, nothing) for name in labels])
    values = charades_average_precisions(scores, targets)
    absent = [name for name, value in zip(CLASSES, values, strict=True) if np.isnan(value)]
    return Judgement(
        "charades",
        PROTOCOL,
        len(labels),
        {"mAP": float(np.nanmean(values))},
        by_name(CLASSES, values),
        id_note(labels.keys() - scored.keys(), f"of {len(labels)} videos have no scores", "each has 0 for every class")
        + id_note(scored.keys() - labels.keys(), "scored videos are not in the truth", "they are ignored")
        + id_note(absent, "classes have no video", "they are left out of the mean, which would officially be NaN"),
    )


def _read_actions(file: Path) -> dict[str, NDArray[np.int64]]:
    """Which classes each video has `(K,)`, zeros and ones."""
    header, lines = read_table(file, ["id", "actions"])
    found: dict[str, NDArray[np.int64]] = {}
    for line in lines:
        name, actions = (line.cells[header.index(column)] for column in ("id", "actions"))
        if name in found:
            raise line.error(f"video {name!r} is there twice; keep one row")
        found[name] = np.zeros(len(CLASSES), dtype=np.int64)
        for action in filter(None, map(str.strip, actions.split(";"))):
            match = _ACTION.fullmatch(action)
            if match is None or int(match[1]) >= len(CLASSES):
                raise line.error(f"actions: {action!r} is none such as 'c092 11.90 21.20', from c000 to c156")
            found[name][int(match[1])] = 1
    if not found:
        raise InputError(f"{file}: holds no video")
    return found


def _read_scores(file: Path) -> dict[str, NDArray[np.float64]]:
    """The scores `(K,)` of each video."""
    found: dict[str, NDArray[np.float64]] = {}
    try:
        texts = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: cannot be read ({getattr(error, 'strerror', None) or error})") from error
    for number, text in enumerate(texts, start=1):
        if not text.strip():
            continue
        line = Line(file, number, text.split())
        name, *cells = line.cells
        if len(cells) != len(CLASSES):
            raise line.error(f"{len(cells)} scores, expected {len(CLASSES)}: ID s0 s1 ... s156")
        if name in found:
            raise line.error(f"video {name!r} has scores already; keep one line a video")
        found[name] = np.array([line.finite(f"s{k}", cell) for k, cell in enumerate(cells)])
    return found
