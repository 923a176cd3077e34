"""Stores of version 1, read in order to be converted and for nothing else.

Their shards are safetensors files with one tensor a record, named by its key, and with a second one of scales for int8.
The header's metadata holds the facts of each record as JSON, with a checksum over key, facts and values.
"""

from __future__ import annotations

import json
import shutil
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from core_encoder.errors import InputError
from core_encoder.features.dtypes import TORCH_DTYPES
from core_encoder.features.feature_spec import FeatureKey, FeatureSpec, RecordInfo
from core_encoder.features.feature_store import SPEC_FILE, FeatureStore, ShardWriter
from core_encoder.files.storage import read_config_json, write_json, writing_to
from core_encoder.files.urls import Location, Url, as_location


@dataclass(frozen=True)
class OldStore:
    """A store of version 1 and the features it holds."""

    folder: Path
    spec: FeatureSpec

    @property
    def new_folder(self) -> Path:
        """Where the same features are kept now."""
        return self.folder.with_name(self.spec.folder_name)


@dataclass
class Conversion:
    """What became of an old store's records."""

    num_converted: int = 0
    num_present: int = 0  # in the new store already
    padded: set[FeatureKey] = field(default_factory=set)  # left out: most encoders compute them otherwise now
    corrupt: set[FeatureKey] = field(default_factory=set)  # left out
    broken_shards: dict[Path, str] = field(default_factory=dict)  # left out, and why


class _Record(NamedTuple):
    tensors: tuple[str, ...]  # names of values and scales; the first spells the key
    key: FeatureKey
    facts: dict[str, Any]
    info: RecordInfo
    crc32: int


class _BrokenShard(Exception):
    pass


def old_stores(root: str | Location) -> list[OldStore]:
    """The stores of version 1 under `root`, by name; folders without a readable `spec.json` are passed over."""
    found: list[OldStore] = []
    if isinstance(as_location(root), Url):  # older versions kept none elsewhere
        return found
    for file in sorted(Path(root).glob(f"*/{SPEC_FILE}")):
        try:
            spec = FeatureSpec.from_dict(read_config_json(file))
        except InputError:
            continue
        if spec.old_folder_name == file.parent.name:
            found.append(OldStore(file.parent, spec))
    return found


def convert_store(
    old: OldStore, *, remove: bool = False, progress: Callable[[int, int], None] | None = None
) -> Conversion:
    """Write the records of an old store into the new one beside it, every value and fact bit for bit.

    Padded clips are left out, for nothing here says whether their encoder computes them as before; corrupt records and
    broken shards are left out too: the next encoding makes them anew. The same call again goes on where the last one
    ended. With `remove`, each old shard goes as soon as its records are on the disk, and the folder at the end, so that
    little more than one shard need be free. `progress` is told the shards done and their number.

    Raises:
        InputError: the disk is full, or a shard may not be read or removed.
    """
    if not (old.new_folder / SPEC_FILE).exists():  # made before the store is opened, or that would warn of the old one
        write_json(old.new_folder / SPEC_FILE, old.spec.describe())
    store = FeatureStore(old.folder.parent, old.spec)
    done = set(store.keys())
    conversion = Conversion()
    paths = sorted(old.folder.glob("shard-*.safetensors"))
    with store.writer() as writer:
        for number, path in enumerate(paths, start=1):
            try:
                _convert_shard(path, old, writer, done, conversion)
            except _BrokenShard as error:
                conversion.broken_shards[path] = str(error)
            if remove:
                writer.commit()
                with writing_to(path):
                    path.unlink(missing_ok=True)
            if progress is not None:
                progress(number, len(paths))
    conversion.corrupt -= done  # whole in another shard
    if remove:
        with writing_to(old.folder):
            shutil.rmtree(old.folder)
    return conversion


def _convert_shard(
    path: Path, old: OldStore, writer: ShardWriter, done: set[FeatureKey], conversion: Conversion
) -> None:
    try:
        file = safe_open(path, "pt")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error}); allow it, or move it away") from error
    except SafetensorError as error:
        raise _BrokenShard(f"not a whole safetensors file ({error})") from error
    with file:
        for record in _records(file.metadata(), set(file.keys()), old):
            if record.key in done:
                conversion.num_present += 1
                continue
            stored = [file.get_tensor(name) for name in record.tensors]
            if stored[0].dtype != TORCH_DTYPES[old.spec.dtype] or _checksum(record, stored) != record.crc32:
                conversion.corrupt.add(record.key)
            elif record.info.num_real < len(record.info.times_s):
                conversion.padded.add(record.key)
            else:
                writer.add(record.key, stored[0], record.info, *stored[1:])
                done.add(record.key)
                conversion.num_converted += 1


def _records(metadata: dict[str, str], tensors: set[str], old: OldStore) -> list[_Record]:
    """What the header says of each record."""
    suffixes = ("", ".scale") if old.spec.dtype == "int8" else ("",)
    try:
        if metadata["spec"] != old.folder.name:
            raise _BrokenShard(f"it was written for {metadata['spec']}")
        records = []
        for name, entry in json.loads(metadata["records"]).items():
            facts = entry["info"]
            info = RecordInfo(**{**facts, "times_s": tuple(facts["times_s"])})
            names = tuple(name + suffix for suffix in suffixes)
            records.append(_Record(names, FeatureKey.parse(name), facts, info, entry["crc32"]))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _BrokenShard("its header makes no sense") from error
    if lacking := sum(not tensors.issuperset(record.tensors) for record in records):
        raise _BrokenShard(f"{lacking} of its records have no values")
    return records


def _checksum(record: _Record, stored: Sequence[Tensor]) -> int:
    crc = zlib.crc32((record.tensors[0] + json.dumps(record.facts, sort_keys=True)).encode())
    for tensor in stored:
        crc = zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy().data, crc)
    return crc
