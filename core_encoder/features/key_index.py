"""Where every record of a store is: keys as sorted 64-bit hashes, looked up in batches, exact by a second look.

A hash alone never decides: what it points at is compared with the key itself, in the arrays of the shard.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from core_encoder.features.feature_spec import ClipKey, FeatureKey
from core_encoder.features.shard import Shard

Hashes = NDArray[np.uint64]
_FEW = 32  # keys that are compared one by one: arrays of so few cost more than they save
_FACTORS = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9)


class Place(NamedTuple):
    """Where a record is."""

    shard: Shard
    row: int


class KeyIndex:
    """The records of some shards; of several under one key the last shard's counts."""

    def __init__(self, shards: Sequence[Shard]) -> None:
        self.shards = tuple(shards)
        counts = [len(shard) for shard in self.shards]
        shard = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
        row = np.concatenate([np.arange(count, dtype=np.int32) for count in counts] or [np.empty(0, np.int32)])
        parts = [_clip_hashes(s.column("digest"), s.column("bounds_ms")) for s in self.shards]
        clips = np.concatenate(parts or [np.empty(0, np.uint64)])
        views = np.concatenate([s.column("view") for s in self.shards] or [np.empty(0, np.int32)])
        hashes = _with_views(clips, views)
        order = np.argsort(hashes, kind="stable")
        self._hashes, self._shard, self._row = hashes[order], shard[order], row[order]
        del hashes
        last = np.ones(len(order), bool)
        last[:-1] = self._hashes[1:] != self._hashes[:-1]
        self._num_records = int(last.sum())
        chosen = order[last]
        self._by_clip = _Clips(clips[chosen], self._shard[last], self._row[last], self.shards)

    def __len__(self) -> int:
        return self._num_records

    def find(self, keys: Sequence[FeatureKey]) -> list[Place | None]:
        """Where each record is; None for one that is not here."""
        if not keys or not len(self._hashes):
            return [None] * len(keys)
        wanted = _with_views(_hashes_of(keys), np.array([key.view for key in keys], np.int32))
        places = np.searchsorted(self._hashes, wanted, side="right") - 1
        hit = np.flatnonzero((places >= 0) & (self._hashes[places] == wanted))
        found: list[Place | None] = [None] * len(keys)
        if len(keys) <= _FEW:
            for at in hit.tolist():
                found[at] = self._exactly(keys[at], int(wanted[at]), int(places[at]))
            return found
        digests = _digests(keys)
        bounds = np.array([key[1:] for key in keys], np.int64)  # (B, 3): start, end, view
        for number in np.unique(self._shard[places[hit]]).tolist():
            mine = hit[self._shard[places[hit]] == number]
            shard, rows = self.shards[number], self._row[places[mine]]
            same = (shard.column("digest")[rows] == digests[mine]).all(1)
            same &= (shard.column("bounds_ms")[rows] == bounds[mine, :2]).all(1)
            same &= shard.column("view")[rows] == bounds[mine, 2]
            for at, row, right in zip(mine.tolist(), rows.tolist(), same.tolist(), strict=True):
                found[at] = Place(shard, row) if right else self._exactly(keys[at], int(wanted[at]), int(places[at]))
        return found

    def _exactly(self, key: FeatureKey, hashed: int, place: int) -> Place | None:
        while place >= 0 and int(self._hashes[place]) == hashed:
            shard, row = self.shards[self._shard[place]], int(self._row[place])
            if shard.holds(row, key):
                return Place(shard, row)
            place -= 1
        return None

    def num_views(self, clip: ClipKey) -> int:
        """How many views the clip has; 0 when none of them is here."""
        return self._by_clip.num_views(clip)

    def complete_clips(self) -> list[ClipKey]:
        """The clips whose views are all here, sorted."""
        return sorted(shard.key(row).clip_key for shard, row in self._by_clip.complete())

    def num_clips(self) -> int:
        """How many clips have at least one view here."""
        return self._by_clip.count

    def num_complete_clips(self) -> int:
        """How many clips have all their views here."""
        return len(self._by_clip.complete())

    def keys(self) -> list[FeatureKey]:
        """The keys of all records, sorted."""
        return sorted({key for shard in self.shards for key in shard.keys})


class _Clips:
    """The distinct records grouped by clip."""

    def __init__(
        self, hashes: Hashes, shard: NDArray[np.int32], row: NDArray[np.int32], shards: Sequence[Shard]
    ) -> None:
        order = np.argsort(hashes, kind="stable")
        self._hashes, first, self._found = np.unique(hashes[order], return_index=True, return_counts=True)
        self._shard, self._row = shard[order][first], row[order][first]
        self._shards = shards
        self.count = len(self._hashes)

    def num_views(self, clip: ClipKey) -> int:
        wanted = _hashes_of([clip])[0]
        place = int(np.searchsorted(self._hashes, wanted))
        if place == len(self._hashes) or self._hashes[place] != wanted:
            return 0
        shard, row = self._shards[self._shard[place]], int(self._row[place])
        return int(shard.column("num_views")[row]) if shard.key(row).clip_key == clip else 0

    def complete(self) -> list[Place]:
        wanted = np.zeros(self.count, np.int64)
        for number, shard in enumerate(self._shards):
            mine = self._shard == number
            wanted[mine] = shard.column("num_views")[self._row[mine]]
        places = np.flatnonzero(wanted == self._found)
        return [Place(self._shards[self._shard[place]], int(self._row[place])) for place in places]


def _clip_hashes(digests: NDArray[np.uint8], bounds_ms: NDArray[np.int64]) -> Hashes:
    """64 bits of every clip `(R,)`, of its digest (random bits already) and its bounds."""
    start = np.ascontiguousarray(digests[:, :8]).view(np.uint64)[:, 0]
    tail = np.ascontiguousarray(digests[:, 24:]).view(np.uint64)[:, 0]
    bounds = bounds_ms.astype(np.uint64)
    return _mixed(start ^ _mixed(tail) ^ _times(bounds[:, 0], 0) ^ _times(bounds[:, 1], 1))


def _with_views(clips: Hashes, views: NDArray[np.int32]) -> Hashes:
    return _mixed(clips ^ _times(views.astype(np.uint64) + np.uint64(1), 2))


def _hashes_of(keys: Sequence[ClipKey | FeatureKey]) -> Hashes:
    return _clip_hashes(_digests(keys), np.array([key[1:3] for key in keys], np.int64))


def _digests(keys: Sequence[ClipKey | FeatureKey]) -> NDArray[np.uint8]:
    return np.frombuffer(bytes.fromhex("".join(key.digest for key in keys)), np.uint8).reshape(len(keys), 32)


def _times(values: Hashes, which: int) -> Hashes:
    return values * np.uint64(_FACTORS[which])


def _mixed(values: Hashes) -> Hashes:
    """The finalizer of splitmix64: neighbouring bounds and views fall far apart."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
