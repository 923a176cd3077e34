"""A feature store and what befalls files: cut, spoiled, forbidden, a full disk."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from core_encoder.errors import InputError
from core_encoder.features.feature_store import FeatureStore
from core_encoder.features.store_upkeep import list_stores, prune_store, verify_store
from tests import ROOT
from tests.core_encoder.features.stores import SPEC, clip_key, filled, flip_byte, info, values


def cut(length: Callable[[int], int]) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        os.truncate(path, length(path.stat().st_size))

    return spoil


SPOILS: dict[str, Callable[[Path], None]] = {
    "empty": cut(lambda size: 0),
    "in the length": cut(lambda size: 5),
    "in the header": cut(lambda size: 100),
    "in the values": cut(lambda size: size - 1),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"x"),
    "garbage": lambda path: path.write_bytes(os.urandom(1000)),
    "not JSON": lambda path: flip_byte(path, 8),
    "other JSON": lambda path: path.write_bytes((2).to_bytes(8, "little") + b"[]"),
    "no metadata": lambda path: path.write_bytes((2).to_bytes(8, "little") + b"{}"),
}


@pytest.mark.parametrize("name", SPOILS)
def test_a_broken_shard_is_named_left_out_and_made_anew(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    filled(tmp_path, range(2))
    filled(tmp_path, range(2, 4))
    path = next(shard.path for shard in FeatureStore(tmp_path, SPEC).shards if clip_key(2).view(0) in shard.keys)
    SPOILS[name](path)
    with caplog.at_level(logging.WARNING):
        store = FeatureStore(tmp_path, SPEC)
    assert str(path) in caplog.text and list(store.broken) == [path]
    assert store.keys() == [clip_key(0).view(0), clip_key(1).view(0)]
    report = verify_store(store.folder)
    assert not report.ok and list(report.broken_shards) == [path]

    with store.writer() as writer:  # what the next extraction does
        for number in (2, 3):
            writer.add(clip_key(number).view(0), values(number), info())
    assert torch.equal(FeatureStore(tmp_path, SPEC).read(clip_key(2).view(0)).values, values(2))
    assert prune_store(store.folder).removed == (path,)
    assert verify_store(store.folder).ok


def test_a_shard_of_another_store_is_left_out(tmp_path: Path) -> None:
    theirs = filled(tmp_path, range(2), replace(SPEC, fingerprint="0" * 64))
    ours = filled(tmp_path, range(1))
    shutil.copy(theirs.shards[0].path, ours.folder)
    assert len(FeatureStore(tmp_path, SPEC)) == 1
    shutil.copy(theirs.folder / "spec.json", ours.folder)
    with pytest.raises(InputError, match="describes other features"):
        FeatureStore(tmp_path, SPEC)


def python(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], check=True, capture_output=True, text=True, cwd=ROOT
    ).stdout


def test_more_shards_than_open_files(tmp_path: Path) -> None:
    store = filled(tmp_path, range(100), shard_bytes=1)
    assert len(store.shards) == 100
    code = f"""
        import resource
        from core_encoder.features.feature_store import FeatureStore
        store = FeatureStore.open({str(store.folder)!r})
        resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))
        print(store.read_batch(store.keys()).double().sum().item())
    """
    found = float(python(code))
    assert found == pytest.approx(sum(values(number).double().sum().item() for number in range(100)))


def test_disk_full_is_one_line_and_keeps_finished_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = filled(tmp_path, range(2))
    fsync = os.fsync

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("core_encoder.files.storage.os.fsync", full)
    with pytest.raises(InputError, match="disk is full") as caught, store.writer() as writer:
        writer.add(clip_key(5).view(0), values(5), info())
    assert "\n" not in str(caught.value)
    monkeypatch.setattr("core_encoder.files.storage.os.fsync", fsync)
    assert sorted(path.name[:5] for path in store.folder.iterdir()) == ["shard", "spec."]
    assert FeatureStore(tmp_path, SPEC).keys() == [clip_key(0).view(0), clip_key(1).view(0)]


def test_a_file_size_limit_is_one_line_and_keeps_finished_shards(tmp_path: Path) -> None:
    code = f"""
        import resource, signal
        from pathlib import Path
        from core_encoder.errors import InputError
        from core_encoder.features.feature_store import FeatureStore
        from tests.core_encoder.features.stores import SPEC, clip_key, filled, info, values
        store = filled(Path({str(tmp_path)!r}), range(2))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        try:
            with store.writer() as writer:
                for number in range(100):
                    writer.add(clip_key(number).view(0), values(number), info())
        except InputError as error:
            print(error)
    """
    assert "may not grow this large" in python(code)
    store = FeatureStore(tmp_path, SPEC)
    assert len(store) == 2 and not store.broken and not list(store.folder.glob(".*"))


def test_a_shard_that_may_not_be_read_is_one_line(tmp_path: Path) -> None:
    store = filled(tmp_path, range(2))
    (store.folder / "shard-0.safetensors").mkdir()
    with pytest.raises(InputError, match=r"shard-0\.safetensors: cannot be read"):
        FeatureStore(tmp_path, SPEC)


@pytest.mark.parametrize("content", ["[1]", "7", '{"version": 1, "plan": 3}', None])
def test_a_spec_that_makes_no_sense_is_one_line(tmp_path: Path, content: str | None) -> None:
    store = filled(tmp_path, range(2))
    file = store.folder / "spec.json"
    file.unlink()
    file.write_text(content) if content else file.mkdir()
    with pytest.raises(InputError) as caught:
        FeatureStore(tmp_path, SPEC)
    assert "\n" not in str(caught.value)
    assert list_stores(tmp_path) == []


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_a_store_that_cannot_be_written_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    filled(tmp_path, range(2))

    def refuse(path: Path, target: Path) -> None:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(
        InputError, match=r"\.safetensors: cannot be written \(.*; allow it, or name another place"
    ) as caught:
        filled(tmp_path, range(2, 4))
    assert "\n" not in str(caught.value)
    assert len(FeatureStore(tmp_path, SPEC)) == 2 and not list(tmp_path.rglob("*.tmp"))


@given(at=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), in_header=st.booleans())
def test_a_flipped_bit_anywhere_breaks_no_command(
    tmp_path_factory: pytest.TempPathFactory, at: float, bit: int, in_header: bool
) -> None:
    root = tmp_path_factory.mktemp("flipped")
    filled(root, range(3), replace(SPEC, dtype="int8"))
    (path,) = root.rglob("shard-*.safetensors")
    content = bytearray(path.read_bytes())
    header = 8 + int.from_bytes(content[:8], "little")
    first, last = (0, header) if in_header else (header, len(content))
    content[first + int(at * (last - first))] ^= 1 << bit
    path.write_bytes(content)
    store = FeatureStore(root, replace(SPEC, dtype="int8"))
    for key in store:
        store.read(key)
    for number in range(3):
        store.views(clip_key(number))
    assert len(list_stores(root)) == 1
    assert in_header or not verify_store(store.folder).ok
    prune_store(store.folder, check_bytes=True)
    assert verify_store(store.folder).ok
