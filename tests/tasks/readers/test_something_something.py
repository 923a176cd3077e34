"""Something-Something v2's JSON, under both sets of names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from core_encoder.errors import InputError
from tasks.readers.dataset_folder import DatasetFolder
from tasks.readers.something_something import read_something_something, something_something_classes
from tasks.registry import find_benchmark
from tests.tasks.miniatures import something_something
from tests.tasks.miniatures.clips import with_windows_ends


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return something_something.write(tmp_path)


def test_the_official_files_are_read_as_they_are(folder: Path) -> None:
    task = find_benchmark("ssv2").open(folder)
    assert task.label_names[0] == "Holding something next to something"
    assert (len(task.samples("train")), len(task.samples("test"))) == (6, 3)
    assert [sample.labels[0] for sample in task.samples("test")] == list(task.label_names)
    assert all(Path(sample.clip.path).is_file() for split in task.splits for sample in task.samples(split))


def test_the_later_download_has_other_names(folder: Path) -> None:
    plain = read_something_something(DatasetFolder(folder), "validation")
    (folder / "labels").mkdir()
    for file in folder.glob("*.json"):
        with_windows_ends(file)
        file.rename(folder / "labels" / file.name.removeprefix("something-something-v2-"))
    assert read_something_something(DatasetFolder(folder), "validation") == plain
    assert len(something_something_classes(DatasetFolder(folder))) == 3


def test_damage_is_named(folder: Path) -> None:
    file = folder / "something-something-v2-train.json"
    entries = json.loads(file.read_text())
    del entries[2]["template"]
    file.write_text(json.dumps(entries))
    with pytest.raises(InputError, match=r"train.json: entry 3: there is no field 'template'"):
        read_something_something(DatasetFolder(folder), "train")
    labels = folder / "something-something-v2-labels.json"
    labels.write_text('{"Holding something": "0", "Moving something": "2"}')
    with pytest.raises(InputError, match=r"labels.json: the indices of its 2 classes are not 0 to 1"):
        something_something_classes(DatasetFolder(folder))
    labels.write_text('{"Holding something next to something": "0", "Moving something away from the camera": "1"}')
    with pytest.raises(
        InputError, match=r"validation.json: entry 3: template 'Lifting up one end of .*' is not a class"
    ):
        find_benchmark("ssv2").open(folder).samples("test")
