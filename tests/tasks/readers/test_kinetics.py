"""Kinetics' CSV files, in the layouts that its users have."""

from __future__ import annotations

from pathlib import Path

import pytest

from core_encoder.errors import InputError
from tasks.readers.dataset_folder import DatasetFolder
from tasks.readers.kinetics import kinetics_classes, read_kinetics
from tasks.registry import find_benchmark
from tests.tasks.miniatures import kinetics
from tests.tasks.miniatures.clips import in_latin1, with_windows_ends, without_column


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return kinetics.write(tmp_path)


def test_the_official_files_are_read_as_they_are(folder: Path) -> None:
    task = find_benchmark("kinetics400").open(folder)
    assert task.label_names == kinetics.CLASSES and task.metrics == ("top1", "top5")
    assert (len(task.samples("train")), len(task.samples("test"))) == (6, 3)
    second = task.samples("train")[3]
    assert (second.id, second.labels) == ("-train_11xy_000008_000018", ("massaging person's head",))
    assert all(Path(sample.clip.path).is_file() for split in task.splits for sample in task.samples(split))


def test_other_layouts_and_names(folder: Path) -> None:
    plain = read_kinetics(DatasetFolder(folder), "val")
    (folder / "validate.csv").rename(folder / "val.csv")
    (folder / "flat").mkdir()
    for video in (folder / "val").rglob("*.mp4"):
        video.rename(folder / "flat" / f"{video.stem.rsplit('_', 2)[0]}.mp4")  # named by the film alone
    with_windows_ends(folder / "val.csv")
    moved = read_kinetics(DatasetFolder(folder), "val")
    assert [sample.id for sample in moved] == [sample.id for sample in plain]
    assert all("flat" in sample.clip.path and Path(sample.clip.path).is_file() for sample in moved)


def test_further_columns_mean_nothing(folder: Path) -> None:
    """The copy of the validation list in ActivityNet's repository ends in a column `is_cc`."""
    plain, file = read_kinetics(DatasetFolder(folder), "val"), folder / "validate.csv"
    header, *rows = file.read_text().splitlines()
    file.write_text("\n".join([f"{header},is_cc", *(f"{row},0" for row in rows)]) + "\n")
    assert read_kinetics(DatasetFolder(folder), "val") == plain


def test_a_missing_video_keeps_its_row(folder: Path) -> None:
    next((folder / "val").rglob("*.mp4")).unlink()
    there = [Path(sample.clip.path).is_file() for sample in read_kinetics(DatasetFolder(folder), "val")]
    assert sorted(there) == [False, True, True]


def test_damage_is_named(folder: Path) -> None:
    file = folder / "train.csv"
    good = file.read_text()
    file.write_text(good.replace(",1,11,", ",x,11,", 1))
    with pytest.raises(InputError, match=r"train.csv: line 2: time_start 'x' is not a time in seconds"):
        read_kinetics(DatasetFolder(folder), "train")
    file.write_text(good)
    other = folder / "validate.csv"
    right = other.read_text()
    other.write_text(right.replace("tai chi", "tai chy"))
    task = find_benchmark("kinetics400").open(folder)
    with pytest.raises(InputError, match=r"validate.csv: line 4: label 'tai chy' is no class of train; did you mean"):
        task.samples("test")
    other.write_text(right)
    without_column(file, "youtube_id")
    with pytest.raises(InputError, match=r"train.csv: line 1: there is no column 'youtube_id'"):
        read_kinetics(DatasetFolder(folder), "train")
    in_latin1(file)
    with pytest.raises(InputError, match=r"train.csv: line 2: byte 0xe9 is not UTF-8"):
        kinetics_classes(DatasetFolder(folder))
    file.unlink()
    with pytest.raises(InputError, match=r"no train.csv in it or below it; get it from train.csv and validate.csv of"):
        find_benchmark("kinetics400").open(folder)
