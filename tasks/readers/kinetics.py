"""Kinetics: `label,youtube_id,time_start,time_end,split` a row, videos `<youtube_id>_<start>_<end>.mp4`.

Source: the CSV files that DeepMind gives out (train.csv, validate.csv; mirrors call the latter val.csv, and the copies
in ActivityNet's repository, `Crawler/Kinetics/data`, may end in a column `is_cc`). Class names in
alphabetical order are the indices of every list made of them (SlowFast, mmaction2).
"""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

from core_encoder.clip_plan import Clip
from core_encoder.files.storage import nearest
from tasks.readers.dataset_folder import DatasetFolder
from tasks.readers.official_tables import read_table
from tasks.sample import Sample

_CLIP = re.compile(r"(.+)_(\d{6})_(\d{6})")
_NAMES = {"train": ("train.csv",), "val": ("validate.csv", "val.csv", "validation.csv"), "test": ("test.csv",)}


def read_kinetics(data: DatasetFolder, split: str, classes_of: str = "") -> list[Sample]:
    """The clips of a split; each is a video of its own, some 10 seconds of the film that it was cut from.

    Args:
        data: the folder of the data set.
        split: `train`, `val` or `test`.
        classes_of: the split that has all classes, where another may not have further ones.

    Raises:
        InputError: one line with file, line, field and the fix.
    """
    rows = read_table(data.file(*_NAMES[split]), ("label", "youtube_id", "time_start", "time_end"))
    known = {*kinetics_classes(data, classes_of)} if classes_of not in ("", split) else None
    samples = []
    for row in rows:
        label = row.text("label")
        if known is not None and label not in known:
            raise row.error(f"label {label!r} is no class of {classes_of}{nearest(label, known)}")
        film, start, end = row.text("youtube_id"), row.seconds("time_start"), row.seconds("time_end")
        name = f"{film}_{round(start):06d}_{round(end):06d}"
        samples.append(Sample(name, Clip(data.video(name, film, under=split)), (label,), split))
    return samples


def kinetics_classes(data: DatasetFolder, split: str = "train") -> tuple[str, ...]:
    """The classes of a split, in alphabetical order; in the official lists every split has all of them."""
    rows = read_table(data.file(*_NAMES[split]), ("label",))
    return tuple(sorted({row.text("label") for row in rows}))


def kinetics_clips(data: DatasetFolder) -> dict[str, list[tuple[float, float, str]]]:
    """Of every film the clips of it that are there: start and end in seconds of the film, and the path."""
    clips = defaultdict(list)
    for path in data.videos:
        if named := _CLIP.fullmatch(Path(path).stem):
            clips[named[1]].append((float(named[2]), float(named[3]), path))
    return dict(clips)
