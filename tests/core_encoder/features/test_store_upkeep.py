"""Looking after stores: list, verify, remove."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from core_encoder.errors import InputError
from core_encoder.features.feature_store import FeatureStore
from core_encoder.features.store_upkeep import list_stores, prune_store, prune_stores, verify_store
from tests.core_encoder.features.stores import SPEC, clip_key, filled, flip_byte


def test_verify_finds_flipped_bytes(tmp_path: Path) -> None:
    store = filled(tmp_path, range(3), replace(SPEC, dtype="int8"))
    path, whole = store.shards[0].path, store.shards[0].path.read_bytes()
    header = json.loads(whole[8 : 8 + int.from_bytes(whole[:8], "little")])
    start = len(whole) - max(entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__")
    begins = {name: start + entry["data_offsets"][0] for name, entry in header.items() if name != "__metadata__"}
    last_value = start + header["values"]["data_offsets"][1] - 1
    for at, record in ((last_value, 2), (begins["scales"], 0), (begins["num_real"] + 4, 1), (begins["times_s"], 0)):
        flip_byte(path, at)
        report = verify_store(store.folder)
        assert report.corrupt_records == [(path, clip_key(record).view(0))] and not report.ok
        path.write_bytes(whole)
    assert verify_store(store.folder).ok
    flip_byte(path, begins["num_real"])
    assert verify_store(store.folder).corrupt_records == [(path, clip_key(0).view(0))]
    assert prune_store(store.folder).removed == ()
    assert prune_store(store.folder, check_bytes=True).removed == (path,)


def test_listing_beside_a_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shard's aside file is renamed between two looks at it."""
    store = filled(tmp_path, range(2))
    aside = store.folder / ".shard-1.safetensors.1-ab.tmp"
    aside.touch()
    real = Path.stat

    def last_look(path: Path, **how: bool) -> os.stat_result:
        status = real(path, **how)
        if path == aside:
            aside.unlink()
        return status

    monkeypatch.setattr(Path, "stat", last_look)
    assert [row.num_records for row in list_stores(tmp_path)] == [2]
    assert not aside.exists()


def test_list_and_prune_stores(tmp_path: Path) -> None:
    stores = [filled(tmp_path, range(n + 1), replace(SPEC, encoder=name, fingerprint=name * 32)) for n, name in
              enumerate(("aa", "bb", "cc"))]  # fmt: skip
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "spec.json").write_text("{}")
    rows = {row.spec.encoder: row for row in list_stores(tmp_path)}
    assert [rows[name].num_clips for name in ("aa", "bb", "cc")] == [1, 2, 3]
    assert rows["cc"].num_bytes == sum(path.stat().st_size for path in stores[2].folder.iterdir())

    orphan = stores[1].folder / ".shard-x.safetensors.999999999-abcdef01.tmp"
    young = stores[1].folder / ".shard-y.safetensors.999999999-abcdef01.tmp"
    alive = stores[1].folder / f".shard-z.safetensors.{os.getpid()}-abcdef01.tmp"
    for path in (orphan, young, alive):
        path.write_bytes(b"half")
    for path in (orphan, alive):
        os.utime(path, (path.stat().st_mtime - 100,) * 2)
    assert prune_stores(tmp_path).removed == (orphan,)

    with pytest.raises(InputError, match="'dd'"):
        prune_stores(tmp_path, encoder="dd")
    assert len(prune_stores(tmp_path, encoder="bb", dry_run=True).removed) == 4
    prune_stores(tmp_path, encoder="b" * 8)
    assert not stores[1].folder.exists() and stores[0].folder.exists()
    for path in stores[0].folder.iterdir():
        os.utime(path, (path.stat().st_mtime - 10 * 86400,) * 2)
    prune_stores(tmp_path, older_than_days=9)
    assert not stores[0].folder.exists() and len(FeatureStore.open(stores[2].folder)) == 3
    prune_stores(tmp_path, everything=True)
    assert list_stores(tmp_path) == []
