"""The cells of a folder, and the columns that they make."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.report.result_folder import columns_of, read_cells
from core_encoder.errors import InputError
from tests.benchmarks.report.written_results import write_cell


def shape(folder: Path) -> dict[str, dict[str, list[str]]]:
    """The columns as titles, benchmarks and names of files."""
    return {
        column.title: {task: [cell.path.stem for cell in cells] for task, cells in column.cells.items()}
        for column in columns_of(read_cells(folder))
    }


def settings(**training: Any) -> dict[str, Any]:
    return {"cell": {"how": "trained", "plan": {"num_frames": 8}, "training": training, "grid": [{}]}}


def test_an_encoder_is_a_column(tmp_path: Path) -> None:
    write_cell(tmp_path, "ssv2")
    write_cell(tmp_path, "ssv2", seed=1)
    write_cell(tmp_path, "msrvtt-t2v", adapter="words", seed=None)
    write_cell(tmp_path, "ssv2", encoder="eve", fingerprint="ab" * 32)
    found = shape(tmp_path)
    assert found == {
        "eve": {"ssv2": ["map_classifier-11111111-s0"]},
        "nano": {
            "msrvtt-t2v": ["words-11111111"],
            "ssv2": ["map_classifier-11111111-s0", "map_classifier-11111111-s1"],
        },
    }
    (trained, _, other, words) = sorted(read_cells(tmp_path), key=lambda cell: (cell.seed is None, str(cell.path)))
    assert (trained.seed, words.seed, other.name) == (0, None, "ssv2, nano, map_classifier, seed 1")


def test_encoders_of_one_name_are_told_apart(tmp_path: Path) -> None:
    write_cell(tmp_path, "ssv2", fingerprint="1" * 64)
    write_cell(tmp_path, "ssv2", fingerprint="2" * 64)
    assert list(shape(tmp_path)) == ["nano (11111111)", "nano (22222222)"]


def test_several_ways_are_columns_and_what_has_one_is_in_all(tmp_path: Path) -> None:
    write_cell(tmp_path, "ssv2", adapter="linear")
    write_cell(tmp_path, "ssv2")
    write_cell(tmp_path, "ava", adapter="spatiotemporal_localizer")
    write_cell(tmp_path, "diving48", adapter="linear")
    own, linear = {"ava": ["spatiotemporal_localizer-11111111-s0"]}, {"diving48": ["linear-11111111-s0"]}
    assert shape(tmp_path) == {
        "nano, linear": {**own, **linear, "ssv2": ["linear-11111111-s0"]},
        "nano, map_classifier": {**own, **linear, "ssv2": ["map_classifier-11111111-s0"]},
    }


def test_one_adapter_in_other_settings_is_named_by_them(tmp_path: Path) -> None:
    write_cell(tmp_path, "ssv2", settings="aaaaaaaa", config=settings(epochs=3, lr=0.1))
    write_cell(tmp_path, "ssv2", settings="bbbbbbbb", config=settings(epochs=9, lr=0.1))
    write_cell(tmp_path, "diving48", settings="cccccccc", config=settings(epochs=9, lr=0.1))
    write_cell(tmp_path, "diving48", settings="dddddddd", config=settings(epochs=3, lr=0.1))
    assert shape(tmp_path) == {
        "nano, map_classifier, epochs=3": {
            "diving48": ["map_classifier-dddddddd-s0"],
            "ssv2": ["map_classifier-aaaaaaaa-s0"],
        },
        "nano, map_classifier, epochs=9": {
            "diving48": ["map_classifier-cccccccc-s0"],
            "ssv2": ["map_classifier-bbbbbbbb-s0"],
        },
    }
    write_cell(tmp_path, "ssv2", settings="eeeeeeee", config=settings(epochs=3, lr=0.1))  # by what, is not known
    assert {"nano, map_classifier-aaaaaaaa", "nano, map_classifier-eeeeeeee"} < set(shape(tmp_path))


def test_what_is_no_folder_of_results_is_told(tmp_path: Path) -> None:
    cell = write_cell(tmp_path / "results", "ssv2")
    refused = {
        tmp_path / "none": "none: no such folder; give the folder of the results",
        cell.path: "json: is a file; give the folder of the results",
        tmp_path: "holds no results of `prismhub bench`$",
        cell.path.parent: r"holds no results of `prismhub bench`; results lie below it: give the folder that",
        cell.path.parent.parent: r"holds no results of `prismhub bench`; results lie below it: give the folder that",
    }
    for folder, said in refused.items():
        with pytest.raises(InputError, match=said):
            read_cells(folder)
    cell.path.write_text(cell.path.read_text()[:200])
    with pytest.raises(
        InputError, match=r"s0\.json: not valid JSON .*; delete the file, and `prismhub bench` runs its"
    ):
        read_cells(tmp_path / "results")
    cell.path.write_text("{}")
    with pytest.raises(InputError, match=r"s0\.json: result schema None, .*; delete the file"):
        read_cells(tmp_path / "results")
