"""Diving48's JSON of version 2."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from core_encoder.errors import InputError
from tasks.readers.dataset_folder import DatasetFolder
from tasks.readers.diving48 import diving48_classes, read_diving48
from tasks.registry import find_benchmark
from tests.tasks.miniatures import diving48


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return diving48.write(tmp_path)


def test_the_official_files_are_read_as_they_are(folder: Path) -> None:
    task = find_benchmark("diving48").open(folder)
    assert task.label_names[1] == "Forward 25som NoTwis PIKE"
    assert [sample.labels[0] for sample in task.samples("test")] == list(task.label_names)
    assert len(task.samples("train")) == 6
    assert all(Path(sample.clip.path).is_file() for split in task.splits for sample in task.samples(split))


def test_version_1_is_not_taken_for_version_2(folder: Path) -> None:
    (folder / "Diving48_V2_test.json").rename(folder / "Diving48_test.json")
    with pytest.raises(InputError, match=r"there is no Diving48_V2_test.json in it or below it; get it from"):
        find_benchmark("diving48").open(folder).samples("test")


def test_damage_is_named(folder: Path) -> None:
    file = folder / "Diving48_V2_train.json"
    entries = json.loads(file.read_text())
    for field, value, message in (
        ("label", 3, r"train.json: entry 2: label 3 is none of the 3 classes"),
        ("label", "x", r"train.json: entry 2: label 'x' is no whole number"),
        ("vid_name", "", r"train.json: entry 2: vid_name '' is empty"),
    ):
        file.write_text(json.dumps([entries[0], entries[1] | {field: value}]))
        with pytest.raises(InputError, match=message):
            read_diving48(DatasetFolder(folder), "train")
    for content, message in (('{"a": 1}', "must be a list of classes"), ('[["a"], []]', "entry 2: must be a list of")):
        (folder / "Diving48_vocab.json").write_text(content)
        with pytest.raises(InputError, match=message):
            diving48_classes(DatasetFolder(folder))
