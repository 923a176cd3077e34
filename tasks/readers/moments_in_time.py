"""Moments in Time, version 1: rows `path,label,votes,votes` without a header, classes `name,index`.

Source: `trainingSet.csv`, `validationSet.csv` and `moments_categories.txt` of the release of 339 classes, whose videos
lie in `training/<class>/` and `validation/<class>/`. Later releases have 305 classes, or several a video.
"""

from __future__ import annotations

from core_encoder.clip_plan import Clip
from core_encoder.files.storage import nearest
from tasks.readers.dataset_folder import DatasetFolder
from tasks.readers.official_tables import read_table
from tasks.sample import Sample


def read_moments_in_time(data: DatasetFolder, split: str) -> list[Sample]:
    """The videos of `training` or `validation`, each of some three seconds and one class.

    Raises:
        InputError: one line with file, line, field and the fix.
    """
    classes, samples = moments_in_time_classes(data), []
    for row in read_table(data.file(f"{split}Set.csv"), ("path", "label"), header=False):
        name, label = row.text("path"), row.text("label")
        if label not in classes:
            raise row.error(f"label {label!r} is not a class{nearest(label, classes)}")
        samples.append(Sample(name, Clip(data.video(name, under=split)), (label,), split))
    return samples


def moments_in_time_classes(data: DatasetFolder) -> tuple[str, ...]:
    """The classes in the order of their indices.

    Raises:
        InputError: the indices are not 0, 1, 2, ...
    """
    file = data.file("moments_categories.txt")
    rows = sorted(read_table(file, ("name", "index"), header=False), key=lambda row: row.whole("index"))
    for place, row in enumerate(rows):
        if row.whole("index") != place:
            raise row.error(f"index {row.whole('index')} follows {place - 1}; each class has the next one, from 0")
    return tuple(row.text("name") for row in rows)
