"""AVA and AVA-Kinetics as they are given out: CSV by split, the 60 classes that count, moments that do not.

    ava_{train,val}_v2.2.csv, ava_{train,val}_excluded_timestamps_v2.2.csv     `tasks.readers.ava` describes the rows
    kinetics_{train,val}_v1.0.csv                                              AVA-Kinetics: seconds of the whole film
    ava_action_list_v2.2_for_activitynet_2019.pbtxt                            the classes
    ava_val_predicted_boxes.csv                                                boxes that SlowFast's detector found

AVA's videos are whole films, or their part from second 900 (SlowFast, mmaction2 cut them so): one that lasts less than
1200 seconds is taken for the part. Kinetics' are called `<film>_<start>_<end>`, so that none has to be opened.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path

from core_encoder.errors import InputError, UnreadableVideo
from tasks.readers.ava import read_ava, read_excluded
from tasks.readers.box_rows import BoxRow, LabelMap, read_label_map
from tasks.readers.boxes import BoxSample, Moments, asked_about, video_moments
from tasks.readers.dataset_folder import DatasetFolder
from tasks.readers.kinetics import kinetics_clips

CONTEXT_S = 64 / 30
"""16 frames, every fourth of a video of 30 frames a second, around each moment."""
DETECTOR_SCORE = 0.8
"""A detected box that is less sure is not asked about."""
AVA_IDS = (
    *(1, *range(3, 16), 17, 20, 22, 24, *range(26, 31), 34, 36, 37, 38, 41, 43, *range(45, 50), 51, 52, 54),
    *(*range(56, 71), 72, 73, 74, *range(76, 81)),
)
"""The numbers of the classes that are evaluated."""
ACTIONS = 80
"""They are numbered from 1; those that are not evaluated have numbers, too."""
_LABELS = "ava_action_list_v2.2_for_activitynet_2019.pbtxt"
_DETECTED = ("ava_val_predicted_boxes.csv", "ava_detection_val_boxes_and_labels_include_negative_v2.2.csv")
_CUT_AT_S, _CUT_IS_SHORTER_THAN_S = 900.0, 1200.0

Place = Callable[[str, float], tuple[str, float, float | None]]
"""A video's name and a second that is asked about -> its file, the second at which the file begins, and how long it is,
where that is known without opening it."""


def read_ava_split(data: DatasetFolder, split: str) -> list[BoxSample]:
    """The moments of `train`, asked about the true boxes, or of `val`, asked about the detected ones.

    Raises:
        InputError: one line with file, line, field and the fix.
    """
    samples = _ava(data, split)
    if split == "train":
        return samples
    file = data.file(*_DETECTED)
    rows = [replace(row, label=None) for row in read_ava(file, ["score"]) if row.score >= DETECTOR_SCORE]
    if not rows:
        raise InputError(f"{file}: none of its boxes has a score of {DETECTOR_SCORE:g} or more")
    return asked_about(samples, _moments(rows, _films(data), LabelMap((), ())), file.name)


def read_ava_kinetics_split(data: DatasetFolder, split: str) -> list[BoxSample]:
    """The moments of `train` or `val` of AVA and of the Kinetics part together, asked about the true boxes.

    Raises:
        InputError: one line with file, line, field and the fix.
    """
    rows = _true_rows(data.file(f"kinetics_{split}_v1.0.csv"))
    clips = kinetics_clips(data)

    def place(film: str, time_s: float) -> tuple[str, float, float | None]:
        for start_s, end_s, path in clips.get(film, ()):
            if start_s <= time_s <= end_s:
                return path, start_s, end_s - start_s
        return data.video(film), 0.0, None

    return [*_ava(data, split), *_moments(rows, place, ava_labels(data))]


def ava_labels(data: DatasetFolder) -> LabelMap:
    """The classes that are evaluated, with their numbers.

    Raises:
        InputError: the label map has others.
    """
    file = data.file(_LABELS)
    label_map = read_label_map(file)
    if strange := sorted({*label_map.ids} ^ {*AVA_IDS}):
        raise InputError(f"{file}: is not the map of the 60 classes that are evaluated: they differ in {strange[0]}")
    return label_map


def ava_classes(data: DatasetFolder) -> tuple[str, ...]:
    """The names of the classes that are evaluated."""
    return ava_labels(data).names


def _ava(data: DatasetFolder, split: str) -> list[BoxSample]:
    rows = _true_rows(data.file(f"ava_{split}_v2.2.csv"))
    excluded = read_excluded(data.file(f"ava_{split}_excluded_timestamps_v2.2.csv"))
    return _moments(rows, _films(data), ava_labels(data), excluded)


def _true_rows(file: Path) -> list[BoxRow]:
    """The rows of a file of ground truth, whose boxes all have an action of AVA's 80."""
    rows = read_ava(file, ["action_id"])
    for row in rows:
        action = row.label
        if action is not None and not (action.isascii() and action.isdigit() and 1 <= int(action) <= ACTIONS):
            raise row.error(f"action_id {action!r} is none of 1 to {ACTIONS}")
    return rows


def _moments(
    rows: Sequence[BoxRow], place: Place, label_map: LabelMap, excluded: Collection[tuple[str, int]] = ()
) -> list[BoxSample]:
    by_file: dict[tuple[str, str, float, float | None], list[BoxRow]] = defaultdict(list)
    for row in rows:
        by_file[(row.video, *place(row.video, row.time_s or 0.0))].append(row)
    samples = []
    for (video, path, begins_s, length_s), several in by_file.items():
        moments = Moments(CONTEXT_S, offset_s=begins_s, length_s=length_s)
        samples += video_moments(video, several, Path(path), label_map, moments, excluded)
    return samples


def _films(data: DatasetFolder) -> Place:
    """Where AVA's videos lie, and the second of the film at which each begins; each is looked at once."""
    begins_s = functools.cache(_begins_s)

    def place(video: str, time_s: float) -> tuple[str, float, float | None]:
        path = data.video(video)
        return path, begins_s(path), None

    return place


def _begins_s(path: str) -> float:
    from core_encoder.video.decoders import read_facts

    try:
        return _CUT_AT_S if read_facts(path).duration_s < _CUT_IS_SHORTER_THAN_S else 0.0
    except UnreadableVideo:
        return _CUT_AT_S
