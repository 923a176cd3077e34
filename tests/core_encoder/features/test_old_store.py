"""Stores of version 1, written here as its format says, are named as old and taken over bit for bit."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from core_encoder.errors import InputError
from core_encoder.features import feature_store
from core_encoder.features.feature_spec import FeatureKey, FeatureSpec, RecordInfo
from core_encoder.features.feature_store import FeatureStore
from core_encoder.features.old_store import OldStore, convert_store, old_stores
from core_encoder.features.store_upkeep import list_stores, verify_store
from tests.core_encoder.features.stores import SPEC, clip_key, flip_byte, info, values

Records = Mapping[FeatureKey, tuple[RecordInfo, tuple[Tensor, ...]]]  # facts, and values with scales as stored


def write_old_store(root: Path, spec: FeatureSpec, shards: Sequence[Records]) -> Path:
    """A store as version 1 wrote it: one tensor and one JSON entry a record."""
    described = {**spec.describe(), "version": 1}
    del described["grid"]
    identity = json.dumps({name: value for name, value in described.items() if name != "encoder"}, sort_keys=True)
    prefix = f"{spec.kind}-{spec.dtype}-{spec.plan.num_frames}x{spec.preprocessing.image_size}px"
    folder = root / f"{prefix}-{hashlib.sha256(identity.encode()).hexdigest()[:16]}"
    folder.mkdir(parents=True)
    (folder / "spec.json").write_text(json.dumps(described))
    for number, records in enumerate(shards):
        entries, tensors = {}, {}
        for key, (facts, stored) in records.items():
            described_facts = dataclasses.asdict(facts) | {"times_s": list(facts.times_s)}
            crc = zlib.crc32((str(key) + json.dumps(described_facts, sort_keys=True)).encode())
            for suffix, tensor in zip(("", ".scale"), stored, strict=False):
                tensors[f"{key}{suffix}"] = tensor
                crc = zlib.crc32(bytes(tensor.reshape(-1).view(torch.uint8).tolist()), crc)
            entries[str(key)] = {"info": described_facts, "crc32": crc}
        metadata = {"spec": folder.name, "records": json.dumps(entries)}
        save_file(tensors, str(folder / f"shard-{number}.safetensors"), metadata)
    return folder


def stored_as(spec: FeatureSpec, seed: int) -> tuple[Tensor, ...]:
    shape = spec.record_shape(num_patches=3, dim=5)
    if spec.dtype != "int8":
        return (values(seed, shape).to(spec.float_dtype),)
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-127, 128, shape, dtype=torch.int8, generator=generator), values(seed, (*shape[:-1], 1)).abs()


def records(spec: FeatureSpec, numbers: range, num_real: int = 4) -> Records:
    return {
        clip_key(number).view(view): (
            RecordInfo(2, num_real, number / 3, number / 3 + 0.1, (0.1, 0.2, 1 / 3, 0.7), f"vidéo {number}.mp4"),
            stored_as(spec, 2 * number + view),
        )
        for number in numbers
        for view in range(2)
    }


def holds_exactly(store: FeatureStore, expected: Records) -> None:
    assert store.keys() == sorted(expected)
    for shard in store.shards:
        for row, key in enumerate(shard.keys):
            facts, stored = expected[key]
            assert shard.info(row) == facts
            for mine, theirs in zip(shard.stored(row), stored, strict=True):
                assert mine.dtype == theirs.dtype and mine.shape == theirs.shape
                assert torch.equal(mine.reshape(-1).view(torch.uint8), theirs.reshape(-1).view(torch.uint8))
    assert verify_store(store.folder).ok


def only(root: Path) -> OldStore:
    [old] = old_stores(root)
    return old


def spoil(path: Path, tensor: str) -> None:
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    flip_byte(path, start + json.loads(data[8:start])[tensor]["data_offsets"][0])


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_old_folder_is_the_one_that_version_1_chose() -> None:
    assert SPEC.old_folder_name == "tokens-fp32-4x32px-e0d3c4d2306d6cba"
    assert replace(SPEC, encoder="another", grid=(2, 2)).old_folder_name == SPEC.old_folder_name


@pytest.mark.parametrize("dtype", ["fp32", "fp16", "bf16", "int8"])
@pytest.mark.parametrize(("kind", "layers"), [("tokens", ()), ("frames", (0, 3)), ("clip", ())])
def test_every_record_is_taken_over_bit_for_bit(tmp_path: Path, dtype: str, kind: str, layers: tuple[int, ...]) -> None:
    spec = replace(SPEC, dtype=dtype, kind=kind, layers=layers)
    everything = records(spec, range(30))
    folder = write_old_store(tmp_path, spec, [records(spec, range(20)), records(spec, range(15, 30))])
    before = contents(folder)
    conversion = convert_store(only(tmp_path))
    assert (conversion.num_converted, conversion.num_present) == (60, 10)
    assert not conversion.padded and not conversion.corrupt and not conversion.broken_shards
    holds_exactly(FeatureStore(tmp_path, spec), everything)
    assert contents(folder) == before  # kept, unless it is to be removed
    again = convert_store(only(tmp_path), remove=True)
    assert (again.num_converted, again.num_present) == (0, 70) and not folder.exists() and old_stores(tmp_path) == []
    holds_exactly(FeatureStore(tmp_path, spec), everything)


def test_padded_clips_are_left_out_and_counted(tmp_path: Path) -> None:
    padded = records(SPEC, range(3, 5), num_real=3)
    write_old_store(tmp_path, SPEC, [records(SPEC, range(3)) | padded, padded])
    conversion = convert_store(only(tmp_path))
    assert conversion.padded == set(padded) and conversion.num_converted == 6
    holds_exactly(FeatureStore(tmp_path, SPEC), records(SPEC, range(3)))


def test_what_is_corrupt_or_broken_is_left_out_and_named(tmp_path: Path) -> None:
    shards = [records(SPEC, range(2)), records(SPEC, range(2, 3)), records(SPEC, range(3, 4)), records(SPEC, range(1))]
    folder = write_old_store(tmp_path, SPEC, shards)
    paths = [folder / f"shard-{number}.safetensors" for number in range(7)]
    repeated, lost = clip_key(0).view(1), clip_key(2).view(0)
    spoil(paths[0], str(repeated))  # whole in the last shard
    spoil(paths[1], str(lost))
    paths[2].write_bytes(paths[2].read_bytes()[:-1])
    save_file({"a": torch.zeros(1)}, str(paths[4]), {"spec": "another", "records": "{}"})
    save_file({"a": torch.zeros(1)}, str(paths[5]), {"spec": folder.name})
    save_file({"a": torch.zeros(1)}, str(paths[6]))
    conversion = convert_store(only(tmp_path))
    assert list(conversion.broken_shards) == [paths[2], *paths[4:]]
    assert "another" in conversion.broken_shards[paths[4]]
    assert conversion.corrupt == {lost}
    expected = {key: record for key, record in records(SPEC, range(3)).items() if key != lost}
    holds_exactly(FeatureStore(tmp_path, SPEC), expected)


def test_changed_facts_and_scales_are_found(tmp_path: Path) -> None:
    spec = replace(SPEC, dtype="int8")
    [path] = write_old_store(tmp_path, spec, [records(spec, range(3))]).glob("shard-*")
    spoil(path, f"{clip_key(1).view(0)}.scale")
    data = path.read_bytes()
    assert data.count(b"o 2.mp4") == 2
    path.write_bytes(data.replace(b"o 2.mp4", b"o 9.mp4"))
    conversion = convert_store(only(tmp_path))
    assert conversion.corrupt == {clip_key(1).view(0), clip_key(2).view(0), clip_key(2).view(1)}
    assert conversion.num_converted == 3


@pytest.mark.parametrize("remove", [False, True])
def test_an_interrupted_conversion_goes_on(tmp_path: Path, remove: bool) -> None:
    shards = [records(SPEC, range(5 * n, 5 * n + 5)) for n in range(4)]
    folder = write_old_store(tmp_path, SPEC, shards)

    def interrupt(done: int, total: int) -> None:
        assert total == 4
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert_store(only(tmp_path), remove=remove, progress=interrupt)
    assert len(FeatureStore(tmp_path, SPEC)) == 20 and not list(tmp_path.rglob("*.tmp"))
    assert len(list(folder.glob("shard-*"))) == (2 if remove else 4)
    conversion = convert_store(only(tmp_path), remove=remove)
    assert (conversion.num_converted, conversion.num_present) == (20, 0 if remove else 20)
    store = FeatureStore(tmp_path, SPEC)
    assert sum(len(shard) for shard in store.shards) == 40  # nothing twice
    holds_exactly(store, {key: record for shard in shards for key, record in shard.items()})
    assert folder.exists() is not remove


def test_a_shard_goes_only_after_its_records_are_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_old_store(tmp_path, SPEC, [records(SPEC, range(2)), records(SPEC, range(2, 4))])
    before = contents(folder)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    (tmp_path / SPEC.folder_name).mkdir()
    (tmp_path / SPEC.folder_name / "spec.json").write_text(json.dumps(SPEC.describe()))
    with monkeypatch.context() as patch, pytest.raises(InputError, match="disk is full"):
        patch.setattr("core_encoder.files.storage.os.fsync", full)
        convert_store(only(tmp_path), remove=True)
    assert contents(folder) == before
    assert convert_store(only(tmp_path), remove=True).num_converted == 8


def test_what_was_encoded_anew_meanwhile_stays(tmp_path: Path) -> None:
    write_old_store(tmp_path, SPEC, [records(SPEC, range(3))])
    store = FeatureStore(tmp_path, SPEC)
    with store.writer() as writer:
        writer.add(clip_key(1).view(0), torch.ones(4, 3, 5), info(2))
    assert convert_store(only(tmp_path)).num_present == 1
    store.refresh()
    assert len(store) == 6 and bool((store.read(clip_key(1).view(0)).values == 1).all())


def test_an_old_store_is_named_in_one_line_with_the_command(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = tmp_path / "my features"
    command = f"prismhub cache convert --store '{root}'"
    folder = write_old_store(root, SPEC, [records(SPEC, range(2))])
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert len(FeatureStore(root, SPEC)) == 0
        FeatureStore(root, replace(SPEC, kind="clip"))
    [line] = caplog.messages
    assert str(folder) in line and line.endswith(command) and "\n" not in line
    with pytest.raises(InputError) as caught:
        FeatureStore.open(folder)
    assert str(folder) in str(caught.value) and command in str(caught.value)
    assert list_stores(root) == []

    caplog.clear()
    feature_store._warn_once.cache_clear()
    with caplog.at_level(logging.WARNING):
        convert_store(only(root))
        assert len(FeatureStore(root, SPEC)) == 4
    assert caplog.messages == []


def test_other_folders_are_no_old_stores(tmp_path: Path) -> None:
    write_old_store(tmp_path, SPEC, []).rename(tmp_path / "renamed")
    FeatureStore(tmp_path, SPEC).writer()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "spec.json").write_text("{}")
    assert old_stores(tmp_path) == [] and old_stores(tmp_path / "none") == []
