"""The feature store: frozen features on disk, each under the content address of what it was computed from.

    <root>/<spec.folder_name>/spec.json                  encoder, plan, preprocessing, kind, dtype
                              shard-<uuid>.safetensors   some records; the header names their keys

A record holds one view of one clip. Keys and facts are arrays inside the shards; opening a store maps them and makes
nothing for a record. A shard exists whole or not at all, never changes, and belongs to the process that
wrote it, so any number of processes may write at once: a key written twice holds the same features twice. A clip counts
as cached when all its views are. No file names another place, so the folder can be copied to another machine; it may
lie on an object store (`shard_folder.py`).
"""

from __future__ import annotations

import errno
import functools
import logging
import shlex
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import torch
from torch import Tensor

from core_encoder.errors import InputError
from core_encoder.features.feature_spec import (
    ClipKey,
    FeatureKey,
    FeatureSpec,
    Record,
    RecordInfo,
)
from core_encoder.features.key_index import KeyIndex, Place
from core_encoder.features.shard import BrokenShard, RecordBlock, Shard, unpack
from core_encoder.features.shard_folder import SPEC_FILE, shard_folder
from core_encoder.files.urls import Location, Url, as_location

_LARGE_RECORD = 1 << 16  # bytes from which on records are copied one by one
log = logging.getLogger(__name__)
Result = TypeVar("Result")


class FeatureStore:
    """The features of one spec under one root folder; opening it reads headers only and creates nothing."""

    def __init__(self, root: str | Path | Url, spec: FeatureSpec) -> None:
        """Open the store of `spec` under `root`, a folder or an address such as `s3://bucket/features`.

        Raises:
            InputError: the folder's `spec.json` describes something else, or a shard may not be read.
        """
        self.spec = spec
        self.root = as_location(root)
        self.folder = self.root / spec.folder_name
        self.files = shard_folder(self.folder)
        self.broken: dict[Location, str] = {}  # shards left out, and why
        self._shards: dict[Location, Shard] = {}
        self._index: KeyIndex | None = None  # made when it is asked for after the shards have changed
        described = self.files.read_spec()
        if described is not None and FeatureSpec.from_dict(described).folder_name != spec.folder_name:
            file = self.folder / SPEC_FILE
            raise InputError(f"{file}: describes other features than the folder's name; remove the folder")
        mention_old_store(root, spec)
        self.refresh()

    @classmethod
    def open(cls, folder: str | Path | Url) -> FeatureStore:
        """Open a store by its own folder.

        Raises:
            InputError: there is no `spec.json`, or it belongs to a folder of another name or is of an older version.
        """
        place = as_location(folder)
        folder = place if isinstance(place, Url) else place.absolute()
        described = shard_folder(folder).read_spec()
        if described is None:
            raise InputError(f"{folder / SPEC_FILE}: no such file")
        spec = FeatureSpec.from_dict(described)
        if spec.old_folder_name == folder.name:
            raise InputError(f"{folder}: {_is_old(folder)}")
        if spec.folder_name != folder.name:
            raise InputError(f"{folder}: features of this spec belong in a folder named {spec.folder_name}")
        return cls(folder.parent, spec)

    def __repr__(self) -> str:
        return f"FeatureStore({str(self.folder)!r}, encoder={self.spec.encoder!r}, records={len(self)})"

    def refresh(self) -> None:
        """Take notice of the shards that other processes added or removed.

        Raises:
            InputError: a shard may not be read.
        """
        present = self.files.shards()
        for path in self.broken.keys() - present:
            del self.broken[path]
        for path in self._shards.keys() - present:
            del self._shards[path]
            self._index = None
        new = sorted(present - self._shards.keys() - self.broken.keys())
        self.files.expect(new)
        for path in new:
            try:
                self._learn(self.files.open(path, self.spec.folder_name))
            except FileNotFoundError:
                continue  # removed since the listing
            except OSError as error:
                raise InputError(f"{path}: cannot be read ({error.strerror}); allow it, or move it away") from error
            except BrokenShard as error:
                self.broken[path] = str(error)
                log.warning("%s: shard left out, its clips count as missing: %s", path, error)

    def _learn(self, shard: Shard) -> None:
        self._shards[shard.path] = shard
        self._index = None

    @property
    def _keys(self) -> KeyIndex:
        if self._index is None:
            self._index = self._reading(lambda: KeyIndex(list(self._shards.values())))
        return self._index

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_index": None}

    @property
    def shards(self) -> list[Shard]:
        """The whole shards."""
        return list(self._shards.values())

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, key: FeatureKey) -> bool:
        return self._keys.find([key])[0] is not None

    def __iter__(self) -> Iterator[FeatureKey]:
        return iter(self.keys())

    def has(self, keys: Sequence[FeatureKey]) -> list[bool]:
        """Whether each record is here."""
        return [place is not None for place in self._keys.find(keys)]

    def keys(self) -> list[FeatureKey]:
        """The keys of all records, sorted."""
        return self._keys.keys()

    def clip_keys(self) -> list[ClipKey]:
        """The cached clips, those whose views are all here, sorted."""
        return self._keys.complete_clips()

    @property
    def num_clips(self) -> int:
        """How many clips are cached, with all their views."""
        return self._keys.num_complete_clips()

    @property
    def num_incomplete_clips(self) -> int:
        """How many clips are cached in part."""
        return self._keys.num_clips() - self.num_clips

    def num_views(self, clip: ClipKey) -> int:
        """How many views the clip has, here or not; 0 when none of them is here."""
        return self._keys.num_views(clip)

    def views(self, clip: ClipKey) -> list[FeatureKey]:
        """The keys of all views of a cached clip; empty unless every one is here."""
        count = self.num_views(clip)
        if count > len(self):  # some are missing, or the count is damaged
            return []
        keys = [clip.view(index) for index in range(count)]
        return keys if all(self.has(keys)) else []

    def info(self, key: FeatureKey) -> RecordInfo:
        """What a record knows beside its values; KeyError when it is not here."""
        return self.infos([key])[0]

    def infos(self, keys: Sequence[FeatureKey]) -> list[RecordInfo]:
        """`info` of several records."""
        return self._reading(lambda: [shard.info(row) for shard, row in self._places(keys)])

    def read(self, key: FeatureKey, dtype: torch.dtype | None = None) -> Record:
        """One record; KeyError when it is not here."""
        return Record(key, self.read_batch([key], dtype)[0], self.info(key))

    def read_batch(
        self, keys: Sequence[FeatureKey], dtype: torch.dtype | None = None, out: Tensor | None = None
    ) -> Tensor:
        """The values of several records, `(B, ...)`, in `dtype` (default `spec.float_dtype`).

        Given `out`, a tensor of that shape, values are copied straight into it and its dtype counts. KeyError when a
        record is not here.
        """
        if not keys:
            raise ValueError("read_batch needs at least one key")
        if out is None:
            first = self._reading(lambda: self._places(keys[:1])[0].shard.stored(0))
            out = torch.empty((len(keys), *first[0].shape), dtype=dtype or self.spec.float_dtype)
        into = out
        self._reading(lambda: self._copy(self._places(keys), into))
        return out

    def _copy(self, places: Sequence[Place], out: Tensor) -> None:
        if out[0].nbytes > _LARGE_RECORD:  # straight from the mapped file: no copy in between
            for index, (shard, row) in enumerate(places):
                unpack(shard.stored(row), out[index])
            return
        by_shard: dict[Location, list[int]] = {}
        for index, place in enumerate(places):
            by_shard.setdefault(place.shard.path, []).append(index)
        for indices in by_shard.values():
            rows = torch.tensor([places[index].row for index in indices])
            stored = places[indices[0]].shard.stored_rows(rows)
            out[torch.tensor(indices)] = (
                stored[0].to(out.dtype) if len(stored) == 1 else (stored[0] * stored[1]).to(out.dtype)
            )

    def _places(self, keys: Sequence[FeatureKey]) -> list[Place]:
        found = self._keys.find(keys)
        places = [place for place in found if place is not None]
        if len(places) < len(keys):
            raise KeyError(f"{keys[found.index(None)]} is not in {self.folder}")
        return places

    def _reading(self, read: Callable[[], Result]) -> Result:
        try:
            return read()
        except (OSError, RuntimeError):  # a file was removed: the same keys may live in another by now
            self.refresh()
            return read()

    def writer(self, shard_bytes: int = 64 << 20, commit_every_s: float = 30.0) -> ShardWriter:
        """A context manager to add records with."""
        return ShardWriter(self, shard_bytes, commit_every_s)


def mention_old_store(root: str | Path | Url, spec: FeatureSpec) -> None:
    """Warn, once, of features of `spec` that an older version left under `root` and that nobody has converted."""
    if isinstance(as_location(root), Url):  # older versions kept none elsewhere
        return
    old = Path(root) / spec.old_folder_name
    if (old / SPEC_FILE).exists() and not (Path(root) / spec.folder_name / SPEC_FILE).exists():
        _warn_once(f"{old}: {_is_old(old)}")


@functools.cache  # a command opens a store several times
def _warn_once(message: str) -> None:
    log.warning("%s", message)


def _is_old(folder: Location) -> str:
    command = f"prismhub cache convert --store {shlex.quote(str(folder.parent))}"
    return f"features of an older version, not read as they are; take them over with: {command}"


class ShardWriter:
    """Gathers records and commits them as shards, by size and by age.

    A record can be read, here and by others, from its commit on. Leaving the context commits the rest, also on an error
    or Ctrl-C.
    """

    def __init__(self, store: FeatureStore, shard_bytes: int, commit_every_s: float) -> None:
        self.store = store
        self.shard_bytes = shard_bytes
        self.commit_every_s = commit_every_s
        # One block for what is pending, used again for every shard: records allocated one by one, between the
        # passing tensors of the encoder, would fragment the heap.
        self._block = RecordBlock(store.spec.dtype, shard_bytes)
        self._oldest = 0.0
        if store.files.read_spec() is None:
            store.files.write_spec(store.spec.describe())

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.commit()

    def add(self, key: FeatureKey, values: Tensor, info: RecordInfo, scales: Tensor | None = None) -> None:
        """Add one record, in the store's dtype; int8 values with their `scales` `(..., 1)` are kept as they are.

        Raises:
            UnstorableFeatures: a value is NaN, infinite or beyond the range of the dtype; this record is left out.
            InputError: the disk is full.
        """
        if key in self._block:
            return
        if not self._block.count:
            self._oldest = time.monotonic()
        self._block.add(key, values, info, scales)
        if self._block.is_full or time.monotonic() - self._oldest >= self.commit_every_s:
            self.commit()

    @property
    def is_pending(self) -> bool:
        """Whether records wait to be committed."""
        return self._block.count > 0

    def commit(self) -> None:
        """Write what is pending as one shard.

        Raises:
            InputError: the disk is full; the shards committed before stay.
        """
        if not self._block.count:
            return
        name, spec_name = f"shard-{uuid.uuid4().hex}.safetensors", self.store.spec.folder_name
        try:
            path = self.store.files.put(name, lambda path: self._block.write(path, spec_name))
        except OSError as error:
            if error.errno == errno.EFBIG:
                path = self.store.folder / name
                raise InputError(f"{path}: files may not grow this large; raise the limit and run again") from error
            raise
        finally:
            self._block.clear()  # on an error too, or leaving the context would try again
        self.store._learn(self.store.files.open(path, spec_name))
