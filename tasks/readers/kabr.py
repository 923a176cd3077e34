"""KABR: `original_vido_id video_id frame_id path labels` (as it is written) a frame, separated by spaces.

Source: `annotation/train.csv`, `annotation/val.csv` and `classes.json` of imageomics/KABR. Its pictures
`<original_vido_id>/<frame>.jpg` are to be joined to a video `<original_vido_id>.mp4` first, a picture a frame.
"""

from __future__ import annotations

from tasks.readers.dataset_folder import DatasetFolder
from tasks.readers.labelled_frames import Labels, Windows, frame_samples
from tasks.readers.official_json import read_class_index
from tasks.readers.official_tables import read_table
from tasks.sample import Sample

WINDOWS = Windows(num_frames=16, stride=5, every=80)
"""16 frames, five apart, laid side by side."""


def read_kabr(data: DatasetFolder, split: str) -> list[Sample]:
    """The clips of `train` or `val`, each with the behaviour in its middle.

    Raises:
        InputError: one line with file, line, field and the fix.
    """
    classes = kabr_classes(data)
    file = data.file(f"{split}.csv")
    scenes: dict[str, list[Labels | None]] = {}
    for row in read_table(file, ("original_vido_id", "frame_id", "labels"), delimiter=" "):
        label, frame = row.whole("labels"), row.whole("frame_id")
        if label >= len(classes):
            raise row.error(f"labels {label} is none of the {len(classes)} classes, counted from 0")
        labels = scenes.setdefault(row.text("original_vido_id"), [])
        if frame != len(labels) + 1:
            raise row.error(f"frame_id {frame} follows {len(labels)}; the frames of a video are numbered from 1")
        labels.append((classes[label],))
    samples: list[Sample] = []
    for name, labels in scenes.items():
        windows = WINDOWS if len(labels) > WINDOWS.every // 2 else Windows(16, 5, len(labels))
        samples += frame_samples(name, data.video(name), labels, f"{file}: video {name!r}", windows, split=split)
    return samples


def kabr_classes(data: DatasetFolder) -> tuple[str, ...]:
    """The behaviours in the order of their indices."""
    return read_class_index(data.file("classes.json"))
