"""Parquet files as data: names of classes, captions, splits by the names of files, paths in place of bytes."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from core_encoder.errors import InputError
from tasks.readers.annotations import read_samples
from tasks.readers.captions import read_captions
from tests.parquet_files import write_parquet


def test_samples_of_a_folder_of_parquet_files(tmp_path: Path) -> None:
    for name in ("train-00000-of-00002", "train-00001-of-00002", "test-00000-of-00001"):
        write_parquet(tmp_path / "data" / f"{name}.parquet", [b"a", b"b"], caption=["one", "two"])
    found = read_samples(tmp_path)
    assert [(one.id, one.labels, one.split) for one in found[:3]] == [
        ("data/test-00000-of-00001.parquet/video/000000", ("run",), "test"),
        ("data/test-00000-of-00001.parquet/video/000001", ("walk",), "test"),
        ("data/train-00000-of-00002.parquet/video/000000", ("run",), "train"),
    ]
    assert len(found) == 6 and found[0].clip.path == str(tmp_path / found[0].id)
    assert [one.captions for one in read_captions(tmp_path / "data")[:2]] == [("one",), ("two",)]


def test_a_column_of_labels_goes_before_one_of_classes_and_may_be_named(tmp_path: Path) -> None:
    file = write_parquet(tmp_path / "a.parquet", [b"a", b"b"], label=["x", "y"])
    assert [one.labels for one in read_samples(file)] == [("x",), ("y",)]
    assert [one.labels for one in read_samples(file, label_column="activity")] == [("run",), ("walk",)]
    with pytest.raises(InputError, match=r"a.parquet: .*no column 'lable'; did you mean 'label'"):
        read_samples(file, label_column="lable")


def test_a_class_of_minus_one_is_none(tmp_path: Path) -> None:
    file = write_parquet(tmp_path / "a.parquet", [b"a"], activity=[-1])
    with pytest.raises(InputError, match=r"a.parquet: sample 'video/000000': label is empty"):
        read_samples(file)


def test_paths_in_place_of_bytes_are_those_of_a_manifest(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"x")
    pq.write_table(pa.table({"file_name": ["a.mp4"], "clip": ["a.mp4"], "label": [3]}), tmp_path / "list.parquet")
    for column in (None, "clip"):
        found = read_samples(tmp_path / "list.parquet", path_column=column)
        assert [(one.id, one.clip.path, one.labels) for one in found] == [("a.mp4", str(tmp_path / "a.mp4"), ("3",))]


def test_other_tables_beside_class_folders_are_no_shards(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "a.mp4").write_bytes(b"x")
    pq.write_table(pa.table({"vector": [[1.0, 2.0]]}), tmp_path / "features.parquet")
    assert [one.id for one in read_samples(tmp_path)] == ["run/a.mp4"]
