"""The index of keys against a dictionary, and where hashes collide."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from core_encoder.features.feature_spec import ClipKey, FeatureKey, RecordInfo
from core_encoder.features.key_index import KeyIndex
from core_encoder.features.shard import RecordBlock, Shard

DIGESTS = [bytes([n] * 32).hex() for n in range(3)]
NUM_VIEWS = 3
CLIPS = st.builds(ClipKey, st.sampled_from(DIGESTS), st.sampled_from([0, 1, 2**40]), st.sampled_from([-1, 0, 1, 2**40]))
KEYS = st.builds(lambda clip, view: clip.view(view), CLIPS, st.integers(0, NUM_VIEWS - 1))


def shard_of(path: Path, keys: list[FeatureKey]) -> Shard:
    block = RecordBlock("fp32", 4 * len(keys))
    for key in keys:
        block.add(key, torch.zeros(1), RecordInfo(NUM_VIEWS, 1, 0.0, 1.0, (0.0,)))
    block.write(path, "a-store")
    return Shard(path, "a-store")


@settings(max_examples=60, deadline=None)
@given(
    held=st.lists(st.lists(KEYS, min_size=1, max_size=12, unique=True), max_size=4),
    asked=st.lists(KEYS, max_size=20),
)
def test_the_index_is_a_dictionary(
    tmp_path_factory: pytest.TempPathFactory, held: list[list[FeatureKey]], asked: list[FeatureKey]
) -> None:
    folder = tmp_path_factory.mktemp("index")
    shards = [shard_of(folder / f"{number}.safetensors", keys) for number, keys in enumerate(held)]
    index = KeyIndex(shards)
    expected = {key: (shard, row) for shard, keys in zip(shards, held, strict=True) for row, key in enumerate(keys)}
    assert len(index) == len(expected) and index.keys() == sorted(expected)
    for keys in (asked, sorted(expected), asked[:1], []):
        assert index.find(keys) == [expected.get(key) for key in keys]
    clips = {key.clip_key for key in expected}
    complete = [clip for clip in sorted(clips) if all(clip.view(view) in expected for view in range(NUM_VIEWS))]
    assert index.complete_clips() == complete
    assert (index.num_clips(), index.num_complete_clips()) == (len(clips), len(complete))
    for key in asked:
        assert index.num_views(key.clip_key) == (NUM_VIEWS if key.clip_key in clips else 0)


def test_a_hash_alone_never_decides(tmp_path: Path) -> None:
    """Only the ends of a digest go into the hash: these keys share it."""
    alike = [FeatureKey("ab" * 8 + f"{number:032x}" + "cd" * 8, 0, -1, 0) for number in range(7)]
    index = KeyIndex([shard_of(tmp_path / "a", alike[:3]), shard_of(tmp_path / "b", alike[3:6])])
    found = index.find(alike[::-1])
    assert found[0] is None
    assert [(place.shard.path.name, place.row) for place in found[:0:-1] if place] == [
        (name, row) for name in "ab" for row in range(3)
    ]
    assert index.num_views(alike[6].clip_key) == 0


def test_hashes_of_neighbours_fall_apart(tmp_path: Path) -> None:
    """Sliding windows of one video: the same digest, bounds and views that differ by one."""
    keys = [FeatureKey(DIGESTS[1], start, start + 1, view) for start in range(100) for view in range(100)]
    index = KeyIndex([shard_of(tmp_path / "a", keys)])
    assert len(index) == len(keys) and index.num_clips() == 100
    assert [place.row for place in index.find(keys) if place] == list(range(len(keys)))
