"""CalMS21, task 1: a class a frame, `{"annotator-id_0": {"task1/train/<video>": {"annotations": [...]}}}`.

Source: `calms21_task1_train.json` and `calms21_task1_test.json` (Caltech, record s0vdx-0k302), and the videos
`<video>.mp4` of task1_videos_mp4. Frames of the class `other` are of none of the three behaviours.
"""

from __future__ import annotations

from core_encoder.errors import InputError
from tasks.readers.dataset_folder import DatasetFolder
from tasks.readers.labelled_frames import Labels, Windows, frame_samples
from tasks.readers.official_json import Entry, read_object
from tasks.sample import Sample

BEHAVIOURS = ("attack", "investigation", "mount")
_BY_NUMBER: tuple[Labels, ...] = (*((name,) for name in BEHAVIOURS), ())


def read_calms21(data: DatasetFolder, split: str) -> list[Sample]:
    """A clip of 16 frames around every frame of `train` or `test`.

    Raises:
        InputError: one line with file, sequence, field and the fix.
    """
    root = read_object(data.file(f"calms21_task1_{split}.json"))
    samples: list[Sample] = []
    for annotator in root.values:
        group = root.entry(annotator)
        for place in group.values:
            sequence = group.entry(place)
            name = place.rpartition("/")[2]
            path = data.video(name, under=split)
            samples += frame_samples(name, path, _labels(sequence), sequence.where, Windows(), split=split)
    if not samples:
        raise InputError(f"{root.where}: holds no sequence")
    return samples


def _labels(sequence: Entry) -> list[Labels]:
    numbers, labels = sequence.items("annotations"), []
    if not numbers:
        raise sequence.error("annotations is empty; give it or remove the sequence")
    for frame, number in enumerate(numbers):
        if type(number) is not int or not 0 <= number < len(_BY_NUMBER):
            raise sequence.error(f"annotations: frame {frame}: {number!r} is no class from 0 to {len(_BY_NUMBER) - 1}")
        labels.append(_BY_NUMBER[number])
    for field in ("keypoints", "scores"):
        if field in sequence.values and len(sequence.items(field)) != len(numbers):
            raise sequence.error(f"annotations has {len(numbers)} frames, {field} {len(sequence.items(field))}")
    return labels
