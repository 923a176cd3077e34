"""Charades: `id,...,actions,length` a row, actions `c092 11.90 21.20;c147 0.00 12.60`, videos `<id>.mp4`.

Source: Charades_v1_train.csv, Charades_v1_test.csv and Charades_v1_classes.txt (`c000 Holding some clothes` a line) of
Sigurdsson et al., arXiv 1604.01753. A video has the classes of all its actions, or none.
"""

from __future__ import annotations

from pathlib import Path

from core_encoder.clip_plan import Clip
from core_encoder.errors import InputError
from core_encoder.files.storage import nearest
from tasks.readers.dataset_folder import DatasetFolder
from tasks.readers.manifests import utf8_text
from tasks.readers.official_tables import TableRow, read_table
from tasks.sample import Sample

CLASSES = "Charades_v1_classes.txt"


def read_charades(data: DatasetFolder, split: str) -> list[Sample]:
    """The videos of a split (`train`, `test`) with the classes of their actions.

    Raises:
        InputError: one line with file, line, field and the fix.
    """
    names = _names(data.file(CLASSES))
    samples: dict[str, Sample] = {}
    for row in read_table(data.file(f"Charades_v1_{split}.csv"), ("id", "actions")):
        video = row.text("id")
        if video in samples:
            raise row.error(f"video {video!r} comes twice; remove one")
        samples[video] = Sample(video, Clip(data.video(video)), _actions(row, names), split)
    return list(samples.values())


def charades_classes(data: DatasetFolder) -> tuple[str, ...]:
    """What the classes are called, in the order of their numbers."""
    return tuple(_names(data.file(CLASSES)).values())


def _actions(row: TableRow, names: dict[str, str]) -> tuple[str, ...]:
    """The classes of a row's actions, each once."""
    found = []
    for action in filter(None, (one.strip() for one in row.cells["actions"].split(";"))):
        number = action.split()[0]
        if number not in names:
            raise row.error(f"actions: {action!r} begins with no class of {CLASSES}{nearest(number, names)}")
        found.append(names[number])
    return tuple(dict.fromkeys(found))


def _names(file: Path) -> dict[str, str]:
    """`c000` -> `Holding some clothes`."""
    names: dict[str, str] = {}
    for line, text in enumerate(utf8_text(file).split("\n"), start=1):
        number, _, name = text.strip().partition(" ")
        if text.strip() and (not name.strip() or name.strip() in names.values() or number in names):
            raise InputError(f"{file}: line {line}: {text!r} is not a new number and a new name of a class")
        if name.strip():
            names[number] = name.strip()
    if not names:
        raise InputError(f"{file}: holds no class")
    return names
