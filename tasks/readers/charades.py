"""Charades: CSV with a column `actions`, `c092 11.90 21.20;c147 0.00 12.60`, classes `c000 Holding some clothes`.

Source: `Charades_v1_train.csv`, `Charades_v1_test.csv` and `Charades_v1_classes.txt`; videos are `<id>.mp4`.
"""

from __future__ import annotations

from core_encoder.clip_plan import Clip
from core_encoder.errors import InputError
from core_encoder.files.storage import read_utf8
from tasks.readers.dataset_folder import DatasetFolder
from tasks.readers.official_tables import TableRow, read_table
from tasks.sample import Sample


def read_charades(data: DatasetFolder, split: str) -> list[Sample]:
    """The videos of `train` or `test` with all that is done in them.

    Videos in which nothing is done are left out: the official evaluation (`Charades_v1_classify.m`) puts them behind
    all others in every class, where they change no average precision.

    Raises:
        InputError: one line with file, line, field and the fix; an action that is no class.
    """
    classes = charades_classes(data)
    samples = []
    for row in read_table(data.file(f"Charades_v1_{split}.csv"), ("id", "actions")):
        name = row.text("id")
        if labels := _labels(row, classes):
            samples.append(Sample(name, Clip(data.video(name)), labels, split))
    return samples


def charades_classes(data: DatasetFolder) -> tuple[str, ...]:
    """The names of the 157 classes in the order of their numbers.

    Raises:
        InputError: a line of another form, or a number that does not follow the one before.
    """
    file = data.file("Charades_v1_classes.txt")
    names = []
    for number, line in enumerate(read_utf8(file).splitlines(), start=1):
        code, _, name = line.strip().partition(" ")
        if code != f"c{number - 1:03d}" or not name.strip():
            raise InputError(f"{file}: line {number}: expected 'c{number - 1:03d} name of the class', not {line!r}")
        names.append(name.strip())
    if not names:
        raise InputError(f"{file}: holds no class")
    return tuple(names)


def _labels(row: TableRow, classes: tuple[str, ...]) -> tuple[str, ...]:
    labels = []
    for action in row.cells["actions"].split(";"):
        if action.strip():
            code = action.split()[0]
            if not (code[:1] == "c" and code[1:].isdigit() and int(code[1:]) < len(classes)):
                raise row.error(f"actions: {action.strip()!r} is no 'c000 start end' of one of {len(classes)} classes")
            labels.append(classes[int(code[1:])])
    return tuple(dict.fromkeys(labels))
