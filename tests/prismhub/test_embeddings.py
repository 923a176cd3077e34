"""Embeddings in memory and in their three files: each opens with its own library, and holds the same."""

from __future__ import annotations

import errno
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core_encoder.errors import InputError
from prismhub.embeddings import Embeddings, check_target

PATHS = ("a.mp4", "a.mp4", "Vidéos/日本 b.mp4")


def embeddings(*shape: int, padded: bool = True, paths: tuple[str, ...] = PATHS) -> Embeddings:
    """Three rows of values of `shape`, of frames where it has two axes or more."""
    rng = np.random.default_rng(0)
    n, frames = len(paths), shape[0] if len(shape) > 1 else 0
    times = np.arange(2.0 * n).reshape(n, 2)
    mask = np.arange(frames) < np.array([frames, frames - 1, frames])[:n, None]
    return Embeddings(
        rng.normal(size=(n, *shape)).astype(np.float32),
        times,
        paths,
        {"kind": "frames" if frames else "clip", "encoder": "nano", "plan": {"num_frames": 4}},
        rng.random((n, frames)) if frames else None,
        mask if frames and padded else None,
    )


def read_npz(path: Path) -> tuple[dict[str, Any], list[str], Any]:
    with np.load(path) as file:  # no pickle by default
        arrays = dict(file)
    return arrays, arrays.pop("path").tolist(), json.loads(str(arrays.pop("meta")))


def read_parquet(path: Path) -> tuple[dict[str, Any], list[str], Any]:
    from pyarrow import parquet

    table = parquet.read_table(path)
    arrays = {name: np.array(table[name].to_pylist()) for name in table.column_names if name != "path"}
    return arrays, table["path"].to_pylist(), json.loads(table.schema.metadata[b"meta"])


def read_safetensors(path: Path) -> tuple[dict[str, Any], list[str], Any]:
    from safetensors import safe_open

    with safe_open(path, "np") as file:
        names, about = list(file.keys()), file.metadata()
        arrays = {name: file.get_tensor(name) for name in names}
    return arrays, json.loads(about["path"]), json.loads(about["meta"])


READERS = {".npz": read_npz, ".parquet": read_parquet, ".safetensors": read_safetensors}


@pytest.mark.parametrize("suffix", [*READERS, ".NPZ"])
@pytest.mark.parametrize("shape", [(6,), (4, 6), (4, 3, 6), (2, 4, 3, 6)], ids=str)
def test_files_hold_all_of_it(tmp_path: Path, suffix: str, shape: tuple[int, ...]) -> None:
    given = embeddings(*shape)
    path = given.save(tmp_path / f"features{suffix}")
    arrays, paths, about = READERS[suffix.lower()](path)
    assert paths == list(PATHS) and about == given.about
    assert np.array_equal(arrays["values"].astype(np.float32), given.values)
    if suffix != ".parquet":
        assert arrays["values"].dtype == np.float32
    assert np.array_equal(arrays["start"], [0, 2, 4]) and np.array_equal(arrays["end"], [1, 3, 5])
    assert arrays.keys() == given.arrays().keys()
    assert ("frame_mask" in arrays) == (len(shape) > 1)
    for name in ("frame_times", "frame_mask"):
        if name in arrays:
            assert np.array_equal(arrays[name], given.arrays()[name]) and arrays[name].dtype in (np.float64, np.bool_)
    assert [one.name for one in tmp_path.iterdir()] == [path.name], "nothing is left beside it"


def test_parquet_opens_in_pandas_as_arrays(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    from pyarrow import parquet, types

    given = embeddings(6)
    path = given.save(tmp_path / "f.parquet")
    kind = parquet.read_schema(path).field("values").type
    assert types.is_fixed_size_list(kind) and kind.list_size == 6
    table = pandas.read_parquet(path)
    assert table.columns.tolist() == ["path", "start", "end", "values"]
    assert np.array_equal(np.stack(table["values"]), given.values) and table["values"][0].dtype == np.float32
    own = given.to_pandas()
    assert own.columns.tolist() == ["path", "start", "end", "values"] and own["path"].tolist() == list(PATHS)
    assert np.array_equal(np.stack(own["values"]), given.values) and own["end"].tolist() == [1, 3, 5]
    frames = embeddings(4, 6).to_pandas()
    assert frames["values"][2].shape == (4, 6) and frames["frame_mask"][1].tolist() == [True, True, True, False]


def test_without_pandas_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(InputError, match="to_pandas needs pandas, which is not installed"):
        embeddings(6).to_pandas()


@pytest.mark.parametrize("suffix", READERS)
def test_names_that_are_no_utf8(tmp_path: Path, suffix: str) -> None:
    name = os.fsdecode(b"caf\xe9.mp4")
    _, [found], _ = READERS[suffix](embeddings(6, paths=(name,)).save(tmp_path / f"f{suffix}"))
    assert found == ("caf\\xe9.mp4" if suffix == ".parquet" else name)


@pytest.mark.parametrize("suffix", READERS)
def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    path = embeddings(6).save(tmp_path / f"f{suffix}")
    before = path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match=r"f\..*the disk is full"):
        embeddings(4, 6).save(path)
    assert path.read_bytes() == before and [one.name for one in tmp_path.iterdir()] == [path.name]


def test_targets_that_cannot_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("f.csv", "f", "f.npz.gz", ".npz"):
        with pytest.raises(InputError, match=r"one of \.npz, \.parquet, \.safetensors"):
            check_target(tmp_path / name)
    with pytest.raises(InputError, match="there is no folder .*none"):
        check_target(tmp_path / "none" / "f.npz")
    (tmp_path / "d.npz").mkdir()
    with pytest.raises(InputError, match=r"d\.npz: is a folder"):
        check_target(tmp_path / "d.npz")

    def refused(dir: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("prismhub.embeddings.TemporaryFile", refused)
    with pytest.raises(InputError, match=r"f\.npz: nothing can be written to .* \(Permission denied\)"):
        check_target(tmp_path / "f.npz")
    monkeypatch.undo()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match="needs pyarrow, which is not installed"):
        check_target(tmp_path / "f.parquet")


def test_what_it_says_of_itself() -> None:
    assert repr(embeddings(6)) == "Embeddings(clip (3, 6) of encoder 'nano')" and len(embeddings(6)) == 3
