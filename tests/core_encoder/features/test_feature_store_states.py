"""Several writers and readers of one store, in any order, against plain dictionaries."""

from __future__ import annotations

import copy
import tempfile
from collections import Counter
from pathlib import Path

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from torch import Tensor

from core_encoder.features.feature_spec import FeatureKey, RecordInfo
from core_encoder.features.feature_store import FeatureStore
from core_encoder.features.store_upkeep import prune_store, verify_store
from tests.core_encoder.features.stores import SPEC, clip_key

SHAPE = (4, 2)
IN_A_SHARD = 3
VIEWS = {clip_key(number): number % 3 + 1 for number in range(5)}
KEYS = [clip.view(view) for clip, count in VIEWS.items() for view in range(count)]
WHO = st.integers(0, 2)


def value_of(key: FeatureKey) -> Tensor:
    return torch.full(SHAPE, float(KEYS.index(key)))


def info_of(key: FeatureKey) -> RecordInfo:
    start_s = float(KEYS.index(key))
    return RecordInfo(VIEWS[key.clip_key], 1 + key.view, start_s, start_s + 1, (0.0, 0.25, 0.5, 0.75), key.digest[-1:])


class Stores(RuleBasedStateMachine):
    """Three stores over one folder, each with its writer; what a process sees is told by its shards alone."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.stores = [FeatureStore(self.folder.name, SPEC) for _ in range(3)]
        self.writers = [self.writer(store) for store in self.stores]
        self.pending: list[set[FeatureKey]] = [set(), set(), set()]
        self.seen: list[set[Path]] = [set(), set(), set()]
        self.shards: dict[Path, set[FeatureKey]] = {}  # all that ever were
        self.there: set[Path] = set()
        self.junk: set[Path] = set()

    def teardown(self) -> None:
        self.folder.cleanup()

    @staticmethod
    def writer(store: FeatureStore):  # type: ignore[no-untyped-def]
        return store.writer(shard_bytes=IN_A_SHARD * torch.Size(SHAPE).numel() * 4, commit_every_s=1000)

    def expect_commit(self, who: int) -> None:
        if not self.pending[who]:
            return
        [path] = set(self.stores[who].folder.glob("shard-*")) - self.there - self.junk
        self.shards[path], self.pending[who] = self.pending[who], set()
        self.there.add(path)
        self.seen[who].add(path)

    @rule(who=WHO, keys=st.lists(st.sampled_from(KEYS), min_size=1, max_size=6))
    def add(self, who: int, keys: list[FeatureKey]) -> None:
        for key in keys:
            self.writers[who].add(key, value_of(key), info_of(key))
            self.pending[who].add(key)
            if len(self.pending[who]) == IN_A_SHARD:
                self.expect_commit(who)

    @rule(who=WHO)
    def commit(self, who: int) -> None:
        self.writers[who].commit()
        self.expect_commit(who)

    @rule(who=WHO)
    def refresh(self, who: int) -> None:
        self.stores[who].refresh()
        self.seen[who] = set(self.there)
        assert set(self.stores[who].broken) == self.junk

    @rule(who=WHO)
    def reopen(self, who: int) -> None:
        self.commit(who)
        self.stores[who] = FeatureStore(self.folder.name, SPEC)
        self.writers[who] = self.writer(self.stores[who])
        self.seen[who] = set(self.there)

    @rule(who=WHO)
    def go_to_another_process(self, who: int) -> None:
        self.commit(who)
        self.stores[who] = copy.deepcopy(self.stores[who])  # as pickling does it
        self.writers[who] = self.writer(self.stores[who])

    @precondition(lambda self: self.there)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        path = data.draw(st.sampled_from([path for path in self.shards if path in self.there]))
        path.unlink()
        self.there.remove(path)

    @precondition(lambda self: len(self.there) > 1)
    @rule()
    def prune(self) -> None:
        before = Counter(key for path in self.there for key in self.shards[path])
        removed = set(prune_store(self.stores[0].folder).removed)
        assert removed >= self.junk and removed - self.junk <= self.there
        self.there -= removed
        self.junk.clear()
        assert {key for path in self.there for key in self.shards[path]} == set(before)

    @precondition(lambda self: self.there)
    @rule(length=st.integers(0, 200))
    def leave_junk(self, length: int) -> None:
        path = self.stores[0].folder / f"shard-junk{length}.safetensors"
        path.write_bytes(b"{" * length)
        self.junk.add(path)

    @rule(who=WHO, order=st.permutations(KEYS))
    def look(self, who: int, order: list[FeatureKey]) -> None:
        store = self.stores[who]
        found = store.keys()
        self.looked(who)
        here = {key for path in self.seen[who] for key in self.shards[path]}
        assert found == sorted(here) == list(store) and len(store) == len(here)
        assert store.has(order) == [key in here for key in order] == [key in store for key in order]
        views = {clip: [key for key in found if key.clip_key == clip] for clip in VIEWS}
        whole = [clip for clip in VIEWS if len(views[clip]) == VIEWS[clip]]
        assert store.clip_keys() == whole and store.num_clips == len(whole)
        assert store.num_incomplete_clips == sum(0 < len(views[clip]) < VIEWS[clip] for clip in VIEWS)
        for clip in VIEWS:
            assert store.views(clip) == (views[clip] if clip in whole else [])
            assert store.num_views(clip) == (VIEWS[clip] if views[clip] else 0)
        wanted = [key for key in order if key in here]
        assert store.infos(wanted) == [info_of(key) for key in wanted]
        if wanted:
            assert torch.equal(store.read_batch(wanted), torch.stack([value_of(key) for key in wanted]))
        if len(wanted) < len(order):
            with pytest.raises(KeyError):
                store.read_batch(order)

    @rule(who=WHO, key=st.sampled_from(KEYS))
    def read(self, who: int, key: FeatureKey) -> None:
        store = self.stores[who]
        try:
            record = store.read(key)
        except KeyError:
            record = None
        self.looked(who)
        assert (record is not None) == (key in store) == any(key in self.shards[path] for path in self.seen[who])
        if record is not None:
            assert torch.equal(record.values, value_of(key)) and record.info == info_of(key)

    def looked(self, who: int) -> None:
        """A shard that was removed before it was first looked into makes a store look at the folder anew."""
        shards = {shard.path for shard in self.stores[who].shards}
        assert shards == self.seen[who] or (shards == self.there and self.seen[who] - self.there)
        self.seen[who] = shards

    @initialize()
    def open_another(self) -> None:
        assert len(FeatureStore(self.folder.name, SPEC)) == 0

    @precondition(lambda self: self.there and not self.junk)
    @rule()
    def verify(self) -> None:
        report = verify_store(self.stores[0].folder)
        assert report.ok and report.num_records == len({key for path in self.there for key in self.shards[path]})


TestStores = Stores.TestCase
TestStores.settings = settings(max_examples=80, stateful_step_count=30, deadline=None)
