"""The feature store: what goes in comes out, whole or not at all, whoever writes beside it."""

from __future__ import annotations

import copy
import shutil
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from core_encoder.errors import InputError
from core_encoder.features.feature_store import FeatureStore
from core_encoder.features.shard import UnstorableFeatures
from core_encoder.features.store_upkeep import list_stores, prune_store, verify_store
from tests import ROOT
from tests.core_encoder.features.stores import SPEC, clip_key, filled, info, values

TORCH = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


@settings(max_examples=40, deadline=None)
@given(
    dtype=st.sampled_from(["fp32", "fp16", "bf16", "int8"]),
    kind=st.sampled_from(["tokens", "frames", "clip"]),
    layers=st.sampled_from([(), (3,), (0, 3, 5)]),
    views=st.lists(st.integers(1, 3), min_size=1, max_size=5),
    shard_records=st.integers(1, 4),
    num_writers=st.integers(1, 3),
    scale=st.sampled_from([1e-3, 1.0, 300.0]),
    seed=st.integers(0, 1000),
)
def test_what_goes_in_comes_out(
    tmp_path_factory: pytest.TempPathFactory,
    dtype: str,
    kind: str,
    layers: tuple[int, ...],
    views: list[int],
    shard_records: int,
    num_writers: int,
    scale: float,
    seed: int,
) -> None:
    root = tmp_path_factory.mktemp("store")
    spec = replace(SPEC, dtype=dtype, kind=kind, layers=layers)
    shape = spec.record_shape(num_patches=3, dim=5)
    given_values = {
        clip_key(clip).view(view): scale * values(seed + 10 * clip + view, shape)
        for clip, count in enumerate(views)
        for view in range(count)
    }
    given_infos = {key: info(views[int(key.digest, 16)], 1 + key.view) for key in given_values}
    stores = [FeatureStore(root, spec) for _ in range(num_writers)]
    one = next(iter(given_values.values())).numel() * 4
    writers = [store.writer(shard_bytes=one * shard_records // 2) for store in stores]
    for turn, key in enumerate(given_values):
        writers[turn % num_writers].add(key, given_values[key], given_infos[key])
    for writer in writers:
        writer.commit()

    for store in (FeatureStore(root, spec), stores[0]):
        store.refresh()
        assert store.keys() == sorted(given_values) and len(store) == len(given_values)
        assert store.clip_keys() == [clip_key(clip) for clip in range(len(views))]
        order = list(given_values)[::-1]
        batch = store.read_batch(order)
        assert batch.dtype == (torch.float32 if dtype == "int8" else TORCH[dtype])
        as_float = store.read_batch(order, torch.float32)
        for row, key in enumerate(order):
            expected, record = given_values[key], store.read(key)
            assert torch.equal(record.values, batch[row])
            assert (record.key, record.info) == (key, given_infos[key])
            assert record.frame_mask.tolist() == [t <= key.view for t in range(4)]
            if dtype == "int8":
                step = expected.abs().amax(-1, keepdim=True) / 127
                assert ((batch[row] - expected).abs() <= step * 0.501).all()
            else:
                assert torch.equal(batch[row], expected.to(TORCH[dtype]))
            assert torch.equal(as_float[row], batch[row].float())
    assert verify_store(stores[0].folder).ok


def test_reading_into_a_buffer_and_unknown_keys(tmp_path: Path) -> None:
    store = filled(tmp_path, range(3))
    buffer = torch.zeros(5, 4, 6, 8, dtype=torch.bfloat16)
    out = store.read_batch([clip_key(2).view(0), clip_key(0).view(0)], out=buffer[1:3])
    assert out.data_ptr() == buffer[1].data_ptr()
    assert torch.equal(buffer[1], values(2).bfloat16()) and torch.equal(buffer[2], values(0).bfloat16())
    assert not buffer[0].any() and not buffer[3:].any()
    with pytest.raises(KeyError, match="is not in"):
        store.read(clip_key(9).view(0))
    record = store.read(clip_key(1).view(0))
    record.values.zero_()  # a record is a copy
    assert torch.equal(store.read(clip_key(1).view(0)).values, values(1))


def test_values_that_are_not_contiguous_or_require_gradients(tmp_path: Path) -> None:
    for dtype in ("fp32", "int8"):
        store = FeatureStore(tmp_path, replace(SPEC, dtype=dtype))
        odd = values(0, (8, 6, 4)).permute(2, 1, 0).requires_grad_()
        with store.writer() as writer:
            writer.add(clip_key(0).view(0), odd, info())
        assert torch.allclose(store.read(clip_key(0).view(0)).values, odd.detach(), atol=0.02)


def test_the_library_opens_a_shard(tmp_path: Path) -> None:
    for dtype, name in (("fp16", torch.float16), ("int8", torch.int8)):
        store = filled(tmp_path, range(3), replace(SPEC, dtype=dtype))
        with safe_open(str(store.shards[0].path), "pt") as file:
            assert bytes(file.get_tensor("digest")[1].tolist()).hex() == clip_key(1).digest
            stored = file.get_tensor("values")[1]
            assert stored.dtype == name and stored.shape == (4, 6, 8)
            assert file.metadata()["spec"] == store.spec.folder_name
            if dtype == "int8":
                stored = stored * file.get_tensor("scales")[1]
        assert torch.equal(stored.to(store.spec.float_dtype), store.read(clip_key(1).view(0)).values)


def test_a_clip_counts_as_cached_when_all_its_views_are(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path, SPEC)
    with store.writer() as writer:
        for view in (0, 2):
            writer.add(clip_key(0).view(view), values(view), info(num_views=3))
    assert len(store) == 2 and store.views(clip_key(0)) == [] and store.clip_keys() == []
    assert verify_store(store.folder).incomplete_clips == 1
    with store.writer() as writer:
        writer.add(clip_key(0).view(1), values(1), info(num_views=3))
    assert store.views(clip_key(0)) == [clip_key(0).view(view) for view in range(3)]
    assert FeatureStore(tmp_path, SPEC).clip_keys() == [clip_key(0)]


def test_opening_creates_nothing(tmp_path: Path) -> None:
    assert len(FeatureStore(tmp_path / "none", SPEC)) == 0
    assert not (tmp_path / "none").exists() and list_stores(tmp_path / "none") == []
    with pytest.raises(InputError, match="no such file"):
        FeatureStore.open(tmp_path)


def test_records_are_readable_from_their_commit_on(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path, SPEC)
    other = FeatureStore(tmp_path, SPEC)
    writer = store.writer(commit_every_s=1000)
    writer.add(clip_key(0).view(0), values(0), info())
    other.refresh()
    assert clip_key(0).view(0) not in store and len(other) == 0
    writer.commit()
    writer.commit()
    other.refresh()
    assert clip_key(0).view(0) in store and clip_key(0).view(0) in other and len(other.shards) == 1
    hasty = store.writer(commit_every_s=0)
    hasty.add(clip_key(1).view(0), values(1), info())
    assert clip_key(1).view(0) in store


def test_an_error_and_ctrl_c_commit_what_was_added(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path, SPEC)
    for number, kind in enumerate((ZeroDivisionError, KeyboardInterrupt)):
        with pytest.raises(kind), store.writer() as writer:
            writer.add(clip_key(number).view(0), values(number), info())
            raise kind
    assert len(FeatureStore(tmp_path, SPEC)) == 2


@pytest.mark.parametrize("dtype", ["fp16", "bf16", "fp32", "int8"])
def test_features_that_are_not_numbers_are_refused(tmp_path: Path, dtype: str) -> None:
    store = FeatureStore(tmp_path, replace(SPEC, dtype=dtype))
    with store.writer() as writer:
        for bad in (float("nan"), float("inf")):
            with pytest.raises(UnstorableFeatures, match="NaN or infinite"):
                writer.add(clip_key(0).view(0), torch.full((4, 6, 8), bad), info())
        if dtype == "fp16":
            with pytest.raises(UnstorableFeatures, match="beyond the range of fp16; take bf16"):
                writer.add(clip_key(0).view(0), torch.full((4, 6, 8), 7e4), info())
        else:
            writer.add(clip_key(1).view(0), torch.full((4, 6, 8), 7e4), info())
    assert clip_key(0).view(0) not in store


def test_the_folder_can_be_copied_elsewhere(tmp_path: Path) -> None:
    store = filled(tmp_path / "here", range(3))
    text = b"".join(path.read_bytes() for path in store.folder.iterdir())
    assert str(tmp_path).encode() not in text
    shutil.copytree(tmp_path / "here", tmp_path / "dort drüben")
    shutil.rmtree(tmp_path / "here")
    copied = FeatureStore(tmp_path / "dort drüben", SPEC)
    assert torch.equal(copied.read(clip_key(2).view(0)).values, values(2))
    assert FeatureStore.open(copied.folder).spec == SPEC
    renamed = copied.folder.rename(tmp_path / "renamed")
    with pytest.raises(InputError, match=SPEC.folder_name):
        FeatureStore.open(renamed)


def test_shards_may_come_and_go_under_a_reader(tmp_path: Path) -> None:
    filled(tmp_path, range(3))
    reader = FeatureStore(tmp_path, SPEC)
    first = reader.shards[0].path
    filled(tmp_path, range(5))  # the same keys again, and two more
    assert len(reader) == 3
    first.unlink()
    assert torch.equal(reader.read(clip_key(1).view(0)).values, values(1))  # mapped still, or from the other shard
    reader.refresh()
    assert len(reader) == 5 and torch.equal(reader.read(clip_key(4).view(0)).values, values(4))
    for path in reader.folder.glob("shard-*"):
        path.unlink()
    reader.refresh()
    assert len(reader) == 0 and reader.clip_keys() == []


def test_a_copy_of_a_store_reads_for_itself(tmp_path: Path) -> None:
    store = filled(tmp_path, range(3))
    store.read(clip_key(0).view(0))
    twin = copy.deepcopy(store)  # the way to a worker process: no mapping may travel
    assert torch.equal(twin.read(clip_key(1).view(0)).values, values(1))
    assert all(not shard._mapped for shard in copy.deepcopy(store).shards)


@pytest.mark.slow
def test_processes_write_at_once(tmp_path: Path) -> None:
    code = f"""
        import sys
        from pathlib import Path
        from tests.core_encoder.features.stores import filled
        filled(Path({str(tmp_path)!r}), range(int(sys.argv[1]), int(sys.argv[1]) + 80), shard_bytes=4000)
    """
    starts = [0, 60]
    command = [sys.executable, "-c", textwrap.dedent(code)]
    running = [subprocess.Popen([*command, str(start)], cwd=ROOT) for start in starts]
    assert [process.wait() for process in running] == [0, 0]
    store = FeatureStore(tmp_path, SPEC)
    assert [int(key.digest, 16) for key in store] == list(range(140))
    assert all(torch.equal(store.read(clip_key(n).view(0)).values, values(n)) for n in range(140))
    before = sum(len(shard.keys) for shard in store.shards)
    assert before == 160 and verify_store(store.folder).ok
    dry = prune_store(store.folder, dry_run=True)
    assert prune_store(store.folder).removed == dry.removed and dry.num_bytes > 0
    store = FeatureStore(tmp_path, SPEC)
    assert len(store) == 140 and sum(len(shard.keys) for shard in store.shards) < before
