"""YouCook2's segments, and what is wrong with its file."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from core_encoder.errors import InputError
from tasks.readers.dataset_folder import DatasetFolder
from tasks.readers.youcook2 import read_youcook2
from tasks.registry import find_benchmark
from tests.tasks.miniatures import youcook2
from tests.tasks.miniatures.clips import with_windows_ends

VIDEO = "-GLd3aX16zBg"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return youcook2.write(tmp_path)


def test_each_segment_has_its_sentence(folder: Path) -> None:
    with_windows_ends(folder / "youcookii_annotations_trainval.json")
    samples = read_youcook2(DatasetFolder(folder), "validation")
    assert [one.id for one in samples] == [f"{VIDEO}_0", f"{VIDEO}_1", f"{VIDEO}_2", "fn9anlEL4FI_0"]
    assert samples[1].texts == ("place a slice of cheese",) and samples[1].question == ""
    assert (samples[1].clip.start_s, samples[1].clip.end_s) == (0.5, 1.0)
    assert all(Path(one.clip.path).is_file() for one in samples)
    assert len(read_youcook2(DatasetFolder(folder), "training")) == 2


def test_damage_is_named(folder: Path) -> None:
    file = folder / "youcookii_annotations_trainval.json"
    good = json.loads(file.read_text())

    def broken(field: str, value: Any) -> dict[str, Any]:
        content = copy.deepcopy(good)
        content["database"][VIDEO]["annotations"][1][field] = value
        return content

    where = rf"trainval.json: database: {VIDEO}: annotations 2"
    for damaged, complaint in (
        (broken("segment", [3, 1]), rf"{where}: segment \[3, 1\] does not end after it starts"),
        (broken("segment", [3]), rf"{where}: segment must be \[start, end\]"),
        (broken("sentence", ""), rf"{where}: sentence '' is empty or no text"),
        (broken("id", 0), rf"{where}: id 0 comes twice in this video"),
        (broken("id", "x"), rf"{where}: id 'x' is no whole number"),
        ({"database": {VIDEO: {}}}, rf"{VIDEO}: there is no field 'subset'"),
        ({"videos": {}}, r"trainval.json: there is no field 'database'"),
        ({"database": {VIDEO: {"subset": "testing"}}}, r"trainval.json: no segment of it is of subset 'validation'"),
    ):
        file.write_text(json.dumps(damaged))
        with pytest.raises(InputError, match=complaint):
            read_youcook2(DatasetFolder(folder), "validation")
    file.unlink()
    with pytest.raises(InputError, match=r"there is no youcookii_annotations_trainval.json in it"):
        read_youcook2(DatasetFolder(folder), "validation")


def test_segments_that_move_are_other_data(folder: Path) -> None:
    file = folder / "youcookii_annotations_trainval.json"
    digest = find_benchmark("youcook2-cap").open(folder).digest("test")
    file.write_text(file.read_text().replace("[1.0, 1.5]", "[1.0, 1.6]"))
    assert find_benchmark("youcook2-cap").open(folder).digest("test") != digest
