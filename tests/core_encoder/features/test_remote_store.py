"""A store on an object store: the one of a folder, key for key and value for value, through copies within a bound."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from core_encoder.clip_plan import Clip, ClipPlan
from core_encoder.encoder import load_encoder
from core_encoder.errors import InputError
from core_encoder.extraction import extract, spec_for
from core_encoder.features.derivation import FinerStores
from core_encoder.features.feature_source import FeatureSource
from core_encoder.features.feature_store import FeatureStore
from core_encoder.features.store_upkeep import list_stores, prune_store, verify_store
from core_encoder.files.remote import RemoteLimits, limit_remote
from tests.core_encoder.features.stores import SPEC, clip_key, filled, info, values
from tests.remote_servers import BUCKET

ROOT = f"s3://{BUCKET}/features"


@pytest.fixture
def copies(private_home: Path) -> Path:
    return private_home / "remote" / "features"


def names(copies: Path) -> list[str]:
    return sorted(path.name.partition("-")[2] for path in copies.iterdir())


def test_what_is_written_is_read_back_by_others(s3: Any, copies: Path) -> None:
    ours = filled(ROOT, range(40), shard_bytes=10 * 4 * 6 * 8 * 4)
    assert len(ours.shards) == 4
    for path in copies.iterdir():
        path.unlink()
    store = FeatureStore(ROOT, SPEC)
    assert store.keys() == sorted(clip_key(number).view(0) for number in range(40))
    assert all(name.endswith(".facts") for name in names(copies)) and len(names(copies)) == 4
    assert store.info(clip_key(3).view(0)) == info()
    assert torch.equal(store.read(clip_key(3).view(0)).values, values(3))
    assert sum(not name.endswith(".facts") for name in names(copies)) == 1, "only the shard that was asked for"
    batch = store.read_batch([clip_key(number).view(0) for number in range(40)])
    assert torch.equal(batch, torch.stack([values(number) for number in range(40)]))
    assert torch.equal(pickle.loads(pickle.dumps(store)).read_batch(store.keys()), batch)  # noqa: S301


def test_shards_and_spec_are_the_files_of_a_folder(s3: Any, tmp_path: Path) -> None:
    filled(ROOT, range(8))
    s3.get(f"{BUCKET}/features/", str(tmp_path / "here"), recursive=True)
    here = FeatureStore(tmp_path / "here", SPEC)
    assert len(here) == 8 and torch.equal(here.read(clip_key(5).view(0)).values, values(5))
    assert verify_store(here.folder).ok


def test_int8_and_many_facts(s3: Any, copies: Path) -> None:
    from dataclasses import replace

    spec = replace(SPEC, dtype="int8")
    ours = filled(ROOT, range(4000), spec)
    for path in copies.iterdir():
        path.unlink()
    theirs = FeatureStore(ROOT, spec)
    assert theirs.keys() == ours.keys()
    key = clip_key(3999).view(0)
    assert torch.equal(theirs.read(key).values, ours.read(key).values) and theirs.info(key) == info()


def test_copies_stay_within_their_bound(s3: Any, copies: Path) -> None:
    each = 10 * 4 * 6 * 8 * 4
    filled(ROOT, range(100), shard_bytes=each)
    bound = 8 * each
    limit_remote(RemoteLimits(copies_bytes=bound))
    store = FeatureStore(ROOT, SPEC)
    for _ in range(2):
        for number in range(100):
            assert torch.equal(store.read(clip_key(number).view(0)).values, values(number))
            assert sum(path.stat().st_size for path in copies.iterdir()) <= bound
    limit_remote(RemoteLimits(copies_bytes=each // 2))
    small = FeatureStore(ROOT, SPEC)
    with pytest.raises(InputError, match=r"its copy would be larger than .*--local-copies"):
        small.read(clip_key(0).view(0))


def test_what_does_not_fit_into_copies_is_written_all_the_same(s3: Any, copies: Path) -> None:
    limit_remote(RemoteLimits(copies_bytes=20_000))
    store = filled(ROOT, range(40), shard_bytes=1 << 20)
    assert len(store) == 40 and all(name.endswith(".facts") for name in names(copies))
    limit_remote(RemoteLimits())
    assert torch.equal(FeatureStore(ROOT, SPEC).read(clip_key(7).view(0)).values, values(7))


def test_writers_at_once_and_readers_that_look_again(s3: Any) -> None:
    reader = FeatureStore(ROOT, SPEC)
    parts = [threading.Thread(target=filled, args=(ROOT, range(10 * n, 10 * n + 10))) for n in range(4)]
    for part in parts:
        part.start()
    for part in parts:
        part.join()
    assert len(reader) == 0
    reader.refresh()
    assert len(reader) == 40


def test_a_shard_that_was_removed_is_read_from_another(s3: Any, copies: Path) -> None:
    store = filled(ROOT, range(4))
    gone = store.shards[0]
    filled(ROOT, range(4), SPEC)  # finds them there
    other = FeatureStore(ROOT, SPEC)
    with FeatureStore(ROOT, SPEC).writer() as writer:
        for number in range(4):
            writer.add(clip_key(number).view(0), values(number), info())
    prune_store(other.folder)
    for path in copies.iterdir():
        path.unlink()
    reader = FeatureStore(ROOT, SPEC)
    gone.file.forget_copies()
    assert torch.equal(reader.read(clip_key(2).view(0)).values, values(2))


def test_list_verify_and_prune(s3: Any) -> None:
    store = filled(ROOT, range(20), shard_bytes=10 * 4 * 6 * 8 * 4)
    [listed] = list_stores(ROOT)
    assert (listed.folder, listed.num_clips, listed.num_broken) == (store.folder, 20, 0)
    assert listed.num_bytes == sum(file["size"] for file in s3.find(f"{BUCKET}/features", detail=True).values())
    assert listed.changed > 1e9
    assert verify_store(listed.folder).ok
    first, second = (str(shard.path).removeprefix("s3://") for shard in store.shards)
    content = bytearray(s3.cat(first))
    content[len(content) // 2] ^= 1
    s3.pipe(first, bytes(content))
    s3.pipe(second, s3.cat(second)[:500])
    report = verify_store(listed.folder)
    assert not report.ok and len(report.corrupt_records) == 1 and len(report.broken_shards) == 1
    assert report.num_records == 10
    pruned = prune_store(listed.folder, check_bytes=True)
    assert len(pruned.removed) == 2
    prune_store(listed.folder, everything=True)
    assert not s3.find(f"{BUCKET}/features")
    assert list_stores(ROOT) == []


def test_errors_are_one_line_with_the_place(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"s3://videos/features/x/spec.json: no such file"):
        FeatureStore.open(f"{ROOT}/x")
    with pytest.raises(InputError, match="a web server keeps no features"):
        FeatureStore("https://host/features", SPEC)
    with pytest.raises(InputError, match=r"^s3://no-such-bucket.*: s3://no-such-bucket: .+") as caught:
        filled("s3://no-such-bucket/features", range(2))
    assert "\n" not in str(caught.value)


def test_extraction_into_an_object_store_is_that_into_a_folder(
    s3: Any, tmp_path: Path, video_file: Callable[..., Path], private_home: Path
) -> None:
    encoder = load_encoder("nano")
    files = [video_file(f"{seed}.mp4", seed=seed) for seed in range(3)]
    for file in files:
        s3.put(str(file), f"{BUCKET}/raw/{file.name}")
    s3.pipe(f"{BUCKET}/raw/broken.mp4", b"no video")
    here = [Clip(str(file)) for file in files]
    there = [Clip(f"s3://{BUCKET}/raw/{name}") for name in ("0.mp4", "1.mp4", "2.mp4", "broken.mp4")]
    spec = spec_for(encoder, ClipPlan(encoder.num_frames), kind="frames")
    local = extract(encoder, here, spec, tmp_path / "features")
    remote = extract(encoder, there, spec, ROOT)
    assert (remote.n_encoded, len(remote.failures)) == (3, 1)
    assert remote.failures_path.is_relative_to(private_home) and "text, not a video" in remote.failures_path.read_text()
    ours, theirs = FeatureStore.open(local.folder), FeatureStore.open(remote.folder)
    assert ours.keys() == theirs.keys()
    assert torch.equal(ours.read_batch(ours.keys()), theirs.read_batch(ours.keys()))
    again = extract(encoder, there, spec, ROOT)
    assert (again.n_cached, again.frames_decoded) == (3, 0)
    coarser = spec_for(encoder, ClipPlan(encoder.num_frames), kind="clip")
    assert len(FinerStores(ROOT, coarser).stores) == 1
    source = FeatureSource(None, coarser, ROOT)
    assert source[there[0]][0].values.shape == (encoder.dim,)
    assert extract(encoder, here, coarser, ROOT).n_derived == 3
