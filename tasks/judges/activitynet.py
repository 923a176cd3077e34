"""Temporal detections as ActivityNet's `eval_detection.py` judges them. No torch.

    truth         {"database": {id: {"subset", "annotations": [{"segment": [start, end], "label"}]}}, ...}
    predictions   {"results": {id: [{"segment": [start, end], "label", "score"}]}, ...}

Of the truth the videos of one subset count. A prediction in any other video is a false alarm, as in the official
evaluator; a label that the subset does not have is an error there and here. No video is blocked: the official list came
from a server that is gone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from core_encoder.errors import InputError
from core_encoder.files.storage import nearest, read_json
from tasks.judges.judgement import Judgement, by_name, id_note
from tasks.metrics.temporal_detection import TIOUS, SegmentTable, detection_average_precisions

PROTOCOL = "activitynet-detection-v1"
"""tIoU 0.5 to 0.95 in steps of 0.05; no blocked videos; the mean over the labels of the subset."""


def judge_activitynet(truth: Path, predictions: Path, subset: str = "validation") -> Judgement:
    """`mAP@0.5` to `mAP@0.95` and their mean `average_mAP`, fractions; of each class the mean over the thresholds.

    Raises:
        InputError: one line with file, video, row, field and the fix.
    """
    database = _videos(truth, "database", dict)
    judged = _of_subset(truth, database, subset)
    numbers = {video: number for number, video in enumerate(judged)}
    labels: dict[str, int] = {}
    known: list[tuple[int, int, float, float, float]] = []
    for video, segments in judged.items():
        for place, one in enumerate(segments, start=1):
            where = f"{truth}: video {video!r}: annotation {place}"
            start_s, end_s = _segment(one, where)
            known.append((numbers[video], labels.setdefault(_label(one, where), len(labels)), start_s, end_s, 1.0))
    if not known:
        raise InputError(f"{truth}: no video of subset {subset!r} has an annotation")
    results = _videos(predictions, "results", list)
    said: list[tuple[int, int, float, float, float]] = []
    for video, rows in results.items():
        number = numbers.setdefault(video, len(numbers))
        for place, one in enumerate(rows, start=1):
            where = f"{predictions}: video {video!r}: row {place}"
            start_s, end_s = _segment(one, where)
            label = _label(one, where)
            if label not in labels:
                raise InputError(
                    f"{where}: label {label!r} is not in subset {subset!r} of {truth}{nearest(label, labels)}"
                )
            said.append((number, labels[label], start_s, end_s, _number(one.get("score"), where, "score")))
    values = detection_average_precisions(SegmentTable.of(said), SegmentTable.of(known), len(labels))  # (K, X)
    per_threshold = values.mean(axis=0)
    names = [f"mAP@{tiou:g}" for tiou in np.round(TIOUS, 2)]
    strangers = results.keys() - judged.keys()
    elsewhere = f"predicted videos are not in subset {subset!r}"
    return Judgement(
        "activitynet",
        PROTOCOL,
        len(judged),
        by_name([*names, "average_mAP"], [*per_threshold, per_threshold.mean()]),
        by_name(list(labels), values.mean(axis=1)),
        id_note(judged.keys() - results.keys(), f"of {len(judged)} videos have no predictions", "they count as missed")
        + id_note(strangers, elsewhere, "their predictions count as false alarms"),
    )


def _of_subset(file: Path, database: Mapping[str, Any], subset: str) -> dict[str, list[Any]]:
    """The annotations of each video of a subset."""
    judged: dict[str, list[Any]] = {}
    subsets = set()
    for video, entry in database.items():
        own = entry.get("subset")
        if not isinstance(own, str):
            raise InputError(f"{file}: video {video!r}: subset must be text such as 'validation', not {own!r}")
        subsets.add(own)
        if own == subset:
            annotations = entry.get("annotations")
            if not isinstance(annotations, list):
                raise InputError(f"{file}: video {video!r}: annotations must be a list, not {annotations!r}")
            judged[video] = annotations
    if not judged:
        raise InputError(f"{file}: no video is of subset {subset!r}{nearest(subset, subsets)}")
    return judged


def _videos(file: Path, field: str, kind: type) -> dict[str, Any]:
    """What a file says of each video, under its field.

    Raises:
        InputError: it is not of this format.
    """
    content = read_json(file)
    videos = content.get(field) if isinstance(content, dict) else None
    if not isinstance(videos, dict):
        raise InputError(f"{file}: not ActivityNet's JSON: it has no object {field!r}")
    for video, entry in videos.items():
        if not isinstance(entry, kind):
            needed = "a list of predictions" if kind is list else "an object with 'subset' and 'annotations'"
            raise InputError(f"{file}: video {video!r}: must be {needed}, not {entry!r}")
    return videos


def _segment(one: Any, where: str) -> tuple[float, float]:
    if not isinstance(one, dict):
        raise InputError(f"{where}: must be an object with 'segment' and 'label', not {one!r}")
    segment = one.get("segment")
    if not isinstance(segment, list) or len(segment) != 2:
        raise InputError(f"{where}: segment must be [start, end] in seconds, not {segment!r}")
    return _number(segment[0], where, "segment"), _number(segment[1], where, "segment")


def _label(one: Mapping[str, Any], where: str) -> str:
    label = one.get("label")
    if not isinstance(label, str):
        raise InputError(f"{where}: label must be text, not {label!r}")
    return label


def _number(value: Any, where: str, name: str) -> float:
    """A finite number; the official evaluator takes the text of one for a time, too."""
    try:
        number = math.nan if isinstance(value, bool) or value is None else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise InputError(f"{where}: {name} must be a finite number, not {value!r}")
    return number
