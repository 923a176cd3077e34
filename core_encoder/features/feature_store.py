"""The feature store: frozen features on disk, each under the content address of what it was computed from.

    <root>/<spec.folder_name>/spec.json                  encoder, plan, preprocessing, kind, dtype
                              shard-<uuid>.safetensors   some records; the header names their keys

A record holds one view of one clip. A shard exists whole or not at all, never changes, and belongs to the process that
wrote it, so any number of processes may write at once: a key written twice holds the same features twice. A clip counts
as cached when all its views are. No file names another place, so the folder can be copied to another machine.
"""

from __future__ import annotations

import errno
import logging
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType

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
from core_encoder.features.shard import BrokenShard, PackedRecord, Shard, unpack, write_shard
from core_encoder.files.storage import read_json, write_json

SPEC_FILE = "spec.json"
log = logging.getLogger(__name__)


class FeatureStore:
    """The features of one spec under one root folder; opening it reads headers only and creates nothing."""

    def __init__(self, root: str | Path, spec: FeatureSpec) -> None:
        """Open the store of `spec` under `root`.

        Raises:
            InputError: the folder's `spec.json` describes something else, or a shard may not be read.
        """
        self.spec = spec
        self.folder = Path(root) / spec.folder_name
        self.broken: dict[Path, str] = {}  # shards left out, and why
        self._shards: dict[Path, Shard] = {}
        self._home: dict[FeatureKey, Shard] = {}
        self._num_views: dict[ClipKey, int] = {}
        file = self.folder / SPEC_FILE
        if file.exists() and FeatureSpec.from_dict(read_json(file)).folder_name != spec.folder_name:
            raise InputError(f"{file}: describes other features than the folder's name; remove the folder")
        self.refresh()

    @classmethod
    def open(cls, folder: str | Path) -> FeatureStore:
        """Open a store by its own folder.

        Raises:
            InputError: there is no `spec.json`, or it belongs to a folder of another name.
        """
        folder = Path(folder).absolute()
        spec = FeatureSpec.from_dict(read_json(folder / SPEC_FILE))
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
        present = set(self.folder.glob("shard-*.safetensors"))
        for path in self.broken.keys() - present:
            del self.broken[path]
        if gone := self._shards.keys() - present:
            kept = [shard for path, shard in self._shards.items() if path not in gone]
            self._shards, self._home, self._num_views = {}, {}, {}
            for shard in kept:
                self._learn(shard)
        for path in sorted(present - self._shards.keys() - self.broken.keys()):
            try:
                self._learn(Shard(path, self.spec.folder_name))
            except FileNotFoundError:
                continue  # removed since the listing
            except OSError as error:
                raise InputError(f"{path}: cannot be read ({error.strerror}); allow it, or move it away") from error
            except BrokenShard as error:
                self.broken[path] = str(error)
                log.warning("%s: shard left out, its clips count as missing: %s", path, error)

    def _learn(self, shard: Shard) -> None:
        self._shards[shard.path] = shard
        for key, num_views in shard.num_views.items():
            self._home[key] = shard
            self._num_views[key.clip_key] = num_views

    @property
    def shards(self) -> list[Shard]:
        """The whole shards."""
        return list(self._shards.values())

    def __len__(self) -> int:
        return len(self._home)

    def __contains__(self, key: FeatureKey) -> bool:
        return key in self._home

    def __iter__(self) -> Iterator[FeatureKey]:
        return iter(self.keys())

    def keys(self) -> list[FeatureKey]:
        """The keys of all records, sorted."""
        return sorted(self._home)

    def clip_keys(self) -> list[ClipKey]:
        """The cached clips, those whose views are all here, sorted."""
        return sorted(clip for clip in self._num_views if self.views(clip))

    def views(self, clip: ClipKey) -> list[FeatureKey]:
        """The keys of all views of a cached clip; empty unless every one is here."""
        keys = [clip.view(index) for index in range(self._num_views.get(clip, 0))]
        return keys if all(key in self._home for key in keys) else []

    def info(self, key: FeatureKey) -> RecordInfo:
        """What a record knows beside its values; KeyError when it is not here."""
        return self._shard_of(key).info(key)

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
        for index, key in enumerate(keys):
            stored = self._stored(key)
            if out is None:
                out = torch.empty((len(keys), *stored[0].shape), dtype=dtype or self.spec.float_dtype)
            unpack(stored, out[index])
        assert out is not None
        return out

    def _shard_of(self, key: FeatureKey) -> Shard:
        if key not in self._home:
            raise KeyError(f"{key} is not in {self.folder}")
        return self._home[key]

    def _stored(self, key: FeatureKey) -> tuple[Tensor, ...]:
        try:
            return self._shard_of(key).stored(key)
        except (OSError, RuntimeError):  # the file was removed: the same key may live in another by now
            self.refresh()
            return self._shard_of(key).stored(key)

    def writer(self, shard_bytes: int = 64 << 20, commit_every_s: float = 30.0) -> ShardWriter:
        """A context manager to add records with."""
        return ShardWriter(self, shard_bytes, commit_every_s)


class ShardWriter:
    """Gathers records and commits them as shards, by size and by age.

    A record can be read, here and by others, from its commit on. Leaving the context commits the rest, also on an error
    or Ctrl-C.
    """

    def __init__(self, store: FeatureStore, shard_bytes: int, commit_every_s: float) -> None:
        self.store = store
        self.shard_bytes = shard_bytes
        self.commit_every_s = commit_every_s
        self._pending: dict[FeatureKey, PackedRecord] = {}
        self._pending_bytes = 0
        # One block for what is pending, used again for every shard: records allocated one by one, between the
        # passing tensors of the encoder, would fragment the heap.
        self._block = torch.empty(shard_bytes, dtype=torch.uint8)
        self._oldest = 0.0
        if not (store.folder / SPEC_FILE).exists():
            write_json(store.folder / SPEC_FILE, store.spec.describe())

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.commit()

    def add(self, key: FeatureKey, values: Tensor, info: RecordInfo) -> None:
        """Add one record, in the store's dtype.

        Raises:
            UnstorableFeatures: a value is NaN, infinite or beyond the range of the dtype; this record is left out.
            InputError: the disk is full.
        """
        record = PackedRecord(values, self.store.spec.dtype, info)
        if self._pending_bytes + record.num_bytes > len(self._block):
            self.commit()
        if record.num_bytes > len(self._block):
            self._block = torch.empty(record.num_bytes, dtype=torch.uint8)
        if not self._pending:
            self._oldest = time.monotonic()
        record.move_to(self._block[self._pending_bytes :])
        self._pending_bytes += record.num_bytes
        self._pending[key] = record
        if self._pending_bytes >= self.shard_bytes or time.monotonic() - self._oldest >= self.commit_every_s:
            self.commit()

    def commit(self) -> None:
        """Write what is pending as one shard.

        Raises:
            InputError: the disk is full; the shards committed before stay.
        """
        if not self._pending:
            return
        path = self.store.folder / f"shard-{uuid.uuid4().hex}.safetensors"
        try:
            write_shard(path, self.store.spec.folder_name, self._pending)
        except (OSError, InputError) as error:
            self._clear()  # or leaving the context would try again
            if isinstance(error, OSError) and error.errno == errno.EFBIG:
                raise InputError(f"{path}: files may not grow this large; raise the limit and run again") from error
            raise
        self._clear()
        self.store._learn(Shard(path, self.store.spec.folder_name))

    def _clear(self) -> None:
        self._pending = {}
        self._pending_bytes = 0
