"""Moments in Time's tables without a header."""

from __future__ import annotations

from pathlib import Path

import pytest

from core_encoder.errors import InputError
from tasks.readers.dataset_folder import DatasetFolder
from tasks.readers.moments_in_time import moments_in_time_classes, read_moments_in_time
from tasks.registry import find_benchmark
from tests.tasks.miniatures import moments_in_time
from tests.tasks.miniatures.clips import in_latin1, with_windows_ends


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return moments_in_time.write(tmp_path)


def test_the_official_files_are_read_as_they_are(folder: Path) -> None:
    for _ in range(2):
        task = find_benchmark("moments-in-time").open(folder)
        assert task.label_names == moments_in_time.CLASSES  # by their indices
        assert (len(task.samples("train")), len(task.samples("test"))) == (6, 3)
        one = task.samples("test")[1]
        assert one.id == "adult+female+singing/0-0-1-6-2-9-7-0-7-5-3-0-0-2-0_1.mp4"
        assert one.clip.path == str(folder / "validation" / one.id)  # not its namesake in training
        assert all(Path(sample.clip.path).is_file() for split in task.splits for sample in task.samples(split))
        for name in ("moments_categories.txt", "validationSet.csv"):
            with_windows_ends(folder / name)


def test_damage_is_named(folder: Path) -> None:
    good = (folder / "moments_categories.txt").read_text()
    (folder / "moments_categories.txt").write_text("clapping,0\npraying,2\n")
    with pytest.raises(InputError, match=r"moments_categories.txt: line 2: index 2 follows 0"):
        moments_in_time_classes(DatasetFolder(folder))
    (folder / "moments_categories.txt").write_text("clapping\n")
    with pytest.raises(
        InputError, match=r"moments_categories.txt: line 1: has 1 fields instead of 2: index is missing"
    ):
        moments_in_time_classes(DatasetFolder(folder))
    (folder / "moments_categories.txt").write_text(good)
    in_latin1(folder / "trainingSet.csv")
    with pytest.raises(InputError, match=r"trainingSet.csv: line 2: byte 0xe9 is not UTF-8"):
        read_moments_in_time(DatasetFolder(folder), "training")
    (folder / "validationSet.csv").write_text("a/b.mp4,,3,0\n")
    with pytest.raises(InputError, match=r"validationSet.csv: line 1: label is empty"):
        read_moments_in_time(DatasetFolder(folder), "validation")
    (folder / "validationSet.csv").write_text("a/b.mp4,praying,3,0\na/c.mp4,prayng,3,0\n")
    with pytest.raises(InputError, match=r"validationSet.csv: line 2: label 'prayng' is not a class; did you mean"):
        read_moments_in_time(DatasetFolder(folder), "validation")
    (folder / "validationSet.csv").write_text("a/b.mp4,praying,3,0\na/c.mp4,praying,3,0,1\n")
    with pytest.raises(InputError, match=r"validationSet.csv: line 2: has 5 fields, line 1 has 4"):
        read_moments_in_time(DatasetFolder(folder), "validation")
