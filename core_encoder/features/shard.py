"""One file of records, in the safetensors format: 8 bytes of header length, a JSON header, the values.

The header's metadata holds what each record knows beside its values and a checksum over both, so that a shard is its
own index. Headers are read here and not through the library, which maps the file and checks every tensor: opening a
store of thousands of shards must be quick. The values are mapped at the first read.
"""

from __future__ import annotations

import dataclasses
import json
import os
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from core_encoder.errors import InputError
from core_encoder.features.feature_spec import TORCH_DTYPES, FeatureKey, RecordInfo, StoredDtype
from core_encoder.files.storage import atomic_path

_DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I8": torch.int8}  # the format's names
_DTYPE_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
_SCALE = ".scale"
_LARGEST_HEADER = 100_000_000  # the format's limit


class BrokenShard(ValueError):
    """A shard that is truncated, or whose header makes no sense."""


class UnstorableFeatures(InputError):
    """The features of one clip are NaN, infinite or beyond the range of the stored dtype."""


class Shard:
    """A whole shard: its keys are known, its values are mapped when first asked for."""

    def __init__(self, path: Path, spec_name: str) -> None:
        """Read the header of a shard that must have been written for the store named `spec_name`.

        Raises:
            BrokenShard: the file is not whole, or is of another store.
        """
        self.path = path
        self._bytes: Tensor | None = None
        try:
            with path.open("rb") as file:
                self.size = os.fstat(file.fileno()).st_size
                length = int.from_bytes(file.read(8), "little")
                if not 2 <= length <= min(self.size - 8, _LARGEST_HEADER):
                    raise BrokenShard("its header is cut off")
                self._tensors: dict[str, dict[str, Any]] = json.loads(file.read(length))
            metadata = self._tensors.pop("__metadata__")
            self._records: dict[str, dict[str, Any]] = json.loads(metadata["records"])
            self.keys = {FeatureKey.parse(name): name for name in self._records}
            self.num_views = {key: self._records[name]["info"]["num_views"] for key, name in self.keys.items()}
            self._data_start = 8 + length
            whole = self._data_start + max((entry["data_offsets"][1] for entry in self._tensors.values()), default=0)
            without_values = self._records.keys() - self._tensors.keys()
            written_for = metadata["spec"]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise error if isinstance(error, BrokenShard) else BrokenShard("its header makes no sense") from error
        if self.size != whole:
            raise BrokenShard(f"it has {self.size} bytes where its header says {whole}")
        if without_values:
            raise BrokenShard(f"{len(without_values)} of its records have no values")
        if written_for != spec_name:
            raise BrokenShard(f"it was written for {written_for}")

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_bytes": None}  # a mapping belongs to one process

    def info(self, key: FeatureKey) -> RecordInfo:
        """What the header says of a record."""
        info = self._records[self.keys[key]]["info"]
        return RecordInfo(**{**info, "times_s": tuple(info["times_s"])})

    def stored(self, key: FeatureKey) -> tuple[Tensor, ...]:
        """A record's values as stored and, for int8, their scales `(..., 1)`: mapped, so never write to them."""
        name = self.keys[key]
        return tuple(self._tensor(part) for part in (name, name + _SCALE) if part in self._tensors)

    def _tensor(self, name: str) -> Tensor:
        if self._bytes is None:
            # unlike Python's mmap, torch's keeps no file descriptor: thousands of shards can be mapped at once
            self._bytes = torch.from_file(str(self.path), shared=False, size=self.size, dtype=torch.uint8)
        entry = self._tensors[name]
        begin, end = entry["data_offsets"]
        raw = self._bytes[self._data_start + begin : self._data_start + end]
        return raw.view(_DTYPES[entry["dtype"]]).view(entry["shape"])

    def intact(self, key: FeatureKey) -> bool:
        """Whether a record's bytes and its entry in the header are what was written."""
        record = self._records[self.keys[key]]
        try:
            return bool(_checksum(self.keys[key], record["info"], self.stored(key)) == record["crc32"])
        except (KeyError, RuntimeError, TypeError, ValueError):
            return False


class PackedRecord:
    """A record ready to be written: its own copy of the values, in the stored dtype."""

    def __init__(self, values: Tensor, dtype: StoredDtype, info: RecordInfo) -> None:
        """Convert `values` to `dtype`.

        Raises:
            UnstorableFeatures: a value is NaN, infinite or beyond the range of `dtype`.
        """
        self.stored = _pack(values, dtype)
        self.info = json.loads(json.dumps(dataclasses.asdict(info)))
        self.num_bytes = sum(_aligned(tensor.nbytes) for tensor in self.stored)

    def move_to(self, block: Tensor) -> None:
        """Copy the values into the first `num_bytes` of a block of bytes and let go of their own memory."""
        moved = []
        for tensor in self.stored:
            place = block[: tensor.nbytes].view(tensor.dtype).view(tensor.shape)
            moved.append(place.copy_(tensor))
            block = block[_aligned(tensor.nbytes) :]
        self.stored = tuple(moved)


def write_shard(path: Path, spec_name: str, records: Mapping[FeatureKey, PackedRecord]) -> None:
    """Write a shard: header first, then each tensor straight from its memory, so that a shard is never held twice.

    Raises:
        InputError: the disk is full.
    """
    described = {
        str(key): {"info": record.info, "crc32": _checksum(str(key), record.info, record.stored)}
        for key, record in records.items()
    }
    tensors = [
        (str(key) + suffix, tensor)
        for key, record in records.items()
        for suffix, tensor in zip(("", _SCALE), record.stored, strict=False)
    ]
    tensors.sort(key=lambda pair: -pair[1].element_size())  # so that each starts at a multiple of its element
    header: dict[str, Any] = {"__metadata__": {"spec": spec_name, "records": _compact(described)}}
    end = 0
    for name, tensor in tensors:
        begin, end = end, end + tensor.nbytes
        header[name] = {
            "dtype": _DTYPE_NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [begin, end],
        }
    encoded = _compact(header).encode()
    encoded += b" " * (-(8 + len(encoded)) % 64)  # the values start on a cache line
    with atomic_path(path) as aside, aside.open("wb") as file:
        file.write(len(encoded).to_bytes(8, "little") + encoded)
        for _, tensor in tensors:
            file.write(_memory(tensor))


def unpack(stored: Sequence[Tensor], out: Tensor) -> None:
    """Write values as stored, with their scales if there are any, into `out` in its dtype."""
    if len(stored) == 1:
        out.copy_(stored[0])
    else:
        out.copy_(stored[0] * stored[1])


def _pack(values: Tensor, dtype: StoredDtype) -> tuple[Tensor, ...]:
    values = values.detach().to("cpu")
    if dtype == "int8":
        values = values.float().contiguous()
        scales = values.abs().amax(-1, keepdim=True) / 127
        rounded = (values / scales.clamp(min=torch.finfo(torch.float32).tiny)).round_()
        stored: tuple[Tensor, ...] = (rounded.clamp_(-127, 127).to(torch.int8), scales)
    else:
        stored = (torch.empty(values.shape, dtype=TORCH_DTYPES[dtype]).copy_(values),)
    if not stored[-1].isfinite().all():
        if values.isfinite().all():
            raise UnstorableFeatures(f"the features are beyond the range of {dtype}; take bf16 or fp32")
        raise UnstorableFeatures("the features are NaN or infinite")
    return stored


def _checksum(name: str, info: Mapping[str, Any], stored: Iterable[Tensor]) -> int:
    crc = zlib.crc32((name + json.dumps(info, sort_keys=True)).encode())
    for tensor in stored:
        crc = zlib.crc32(_memory(tensor), crc)
    return crc


def _aligned(num_bytes: int) -> int:
    return -(-num_bytes // 64) * 64


def _memory(tensor: Tensor) -> memoryview:
    array: Any = tensor.view(-1).view(torch.uint8).numpy()
    return memoryview(array)


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))
