"""KABR's table of frames, separated by spaces."""

from __future__ import annotations

from pathlib import Path

import pytest

from core_encoder.errors import InputError
from tasks.readers.dataset_folder import DatasetFolder
from tasks.readers.kabr import kabr_classes, read_kabr
from tasks.registry import find_benchmark
from tests.tasks.miniatures import kabr
from tests.tasks.miniatures.clips import reordered, with_windows_ends


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return kabr.write(tmp_path)


def test_the_official_files_are_read_as_they_are(folder: Path) -> None:
    for _ in range(2):
        task = find_benchmark("kabr").open(folder)
        assert task.label_names == kabr.CLASSES
        assert [(one.id, one.labels[0]) for one in task.samples("train")] == [
            ("ZG0001.1@40", "Walk"),
            ("ZG0001.1@120", "Graze"),
            ("G0002.3@40", "Head Up"),
            ("ZP0004.2@40", "Graze"),
        ]
        first = task.samples("train")[0].clip
        assert first.start_s == pytest.approx(0.25 / 30, abs=1e-4)
        assert first.end_s == pytest.approx(79.75 / 30, abs=1e-4)
        assert all(Path(sample.clip.path).is_file() for split in task.splits for sample in task.samples(split))
        reordered(folder / "annotation" / "train.csv", " ")
        with_windows_ends(folder / "annotation" / "train.csv")


def test_damage_is_named(folder: Path) -> None:
    file = folder / "annotation" / "train.csv"
    good = file.read_text()
    for old, new, message in (
        ("ZG0001.1/2.jpg 0", "ZG0001.1/2.jpg 8", r"train.csv: line 3: labels 8 is none of the 8 classes"),
        ("ZG0001.1/2.jpg 0", "ZG0001.1/2.jpg x", r"train.csv: line 3: labels 'x' is no whole number"),
        ("ZG0001.1 1 2 ", "ZG0001.1 1 3 ", r"train.csv: line 3: frame_id 3 follows 1"),
        (" labels\n", " label\n", r"train.csv: line 1: there is no column 'labels'"),
        ("ZG0001.1/2.jpg 0", "ZG0001.1/2.jpg", r"train.csv: line 3: has 4 fields instead of 5: labels is missing"),
    ):
        file.write_text(good.replace(old, new, 1))
        with pytest.raises(InputError, match=message):
            read_kabr(DatasetFolder(folder), "train")
    (folder / "annotation" / "classes.json").write_text('{"Walk": 0, "Graze": 2}')
    with pytest.raises(InputError, match=r"classes.json: the indices of its 2 classes are not 0 to 1"):
        kabr_classes(DatasetFolder(folder))
