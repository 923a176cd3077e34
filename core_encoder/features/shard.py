"""One file of records, in the safetensors format: values, and keys and facts as arrays beside them.

    values      (R, ...)   in the stored dtype           digest     (R, 32)  sha256 of the video's bytes
    scales      (R, ..., 1) of int8 alone                bounds_ms  (R, 2)   start and end, -1: to the end
    times_s     (R, T)     when each step is shown       view, num_views, num_real, file  (R,)
    span_s      (R, 2)     start and end                 crc32      (R,)     over all of a record

`file` counts the names in the header's metadata. A shard is its own index: headers and arrays are mapped, nothing is
made for a record until somebody asks for it, so that a store of a million records opens in seconds. Headers are read
here and not through the library, which checks every tensor: opening a store of thousands of shards must be quick.
"""

from __future__ import annotations

import json
import math
import os
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from core_encoder.errors import InputError
from core_encoder.features.dtypes import PRECISIONS, TORCH_DTYPES
from core_encoder.features.feature_spec import FeatureKey, RecordInfo, StoredDtype
from core_encoder.files.storage import atomic_path
from core_encoder.files.urls import Location

_DTYPES = {  # the format's names
    "F32": torch.float32,
    "F64": torch.float64,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "I32": torch.int32,
    "I64": torch.int64,
}
_FACT_DTYPES = {"i8": "I64", "i4": "I32", "f8": "F64"}  # NumPy's names
_DTYPE_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
_FORMAT = "2"  # of the arrays above; files of the first format hold a JSON entry a record
_LARGEST_HEADER = 100_000_000  # the format's limit
_VALUES = ("values", "scales")  # the other arrays are keys and facts


class BrokenShard(ValueError):
    """A shard that is truncated, or whose header makes no sense."""


class UnstorableFeatures(InputError):
    """The features of one clip are NaN, infinite or beyond the range of the stored dtype."""


class ShardFile:
    """The bytes of a shard, here in a file of this machine."""

    def __init__(self, path: Location) -> None:
        self.path = path

    def header(self) -> tuple[int, bytes]:
        """The size of the shard, and its header without the eight bytes that say how long it is.

        Raises:
            BrokenShard: it is cut off.
        """
        with Path(self.path).open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            return size, file.read(header_end(file.read(8), size) - 8)

    def facts(self, tensors: dict[str, Any], start: int) -> tuple[Path, int, dict[str, int]]:
        """A file to map that holds keys and facts: its path, its size, and where each of the arrays in it begins."""
        return self._everything(Path(self.path), tensors, start)

    def whole(self, tensors: dict[str, Any], start: int) -> tuple[Path, int, dict[str, int]]:
        """A file to map that holds all arrays."""
        return self._everything(Path(self.path), tensors, start)

    @staticmethod
    def _everything(path: Path, tensors: dict[str, Any], start: int) -> tuple[Path, int, dict[str, int]]:
        places = {name: start + entry["data_offsets"][0] for name, entry in tensors.items()}
        return path, path.stat().st_size, places

    def forget_copies(self) -> None:
        """Have the bytes read anew from where they are kept."""


def header_end(length: bytes, size: int) -> int:
    """Where the header of a shard ends, by its first eight bytes.

    Raises:
        BrokenShard: after the shard.
    """
    end = 8 + int.from_bytes(length, "little")
    if len(length) < 8 or not 10 <= end <= min(size, 8 + _LARGEST_HEADER):
        raise BrokenShard("its header is cut off")
    return end


def fact_spans(tensors: dict[str, Any]) -> list[tuple[int, int, list[str]]]:
    """The arrays of keys and facts by spans of bytes that follow one another: begin, end, and the arrays in them."""
    spans: list[tuple[int, int, list[str]]] = []
    facts = [(*entry["data_offsets"], name) for name, entry in tensors.items() if name not in _VALUES]
    for begin, end, name in sorted(facts):
        if spans and spans[-1][1] == begin:
            spans[-1] = (spans[-1][0], end, [*spans[-1][2], name])
        else:
            spans.append((begin, end, [name]))
    return spans


class Shard:
    """A whole shard, mapped."""

    def __init__(self, path: Location, spec_name: str, file: ShardFile | None = None) -> None:
        """Read the header of a shard that must have been written for the store named `spec_name`.

        Raises:
            BrokenShard: the file is not whole, or is of another store.
        """
        self.path = path
        self.file = file or ShardFile(path)
        self._mapped: dict[str, Tensor] = {}
        self._arrays: dict[str, NDArray[Any]] = {}
        try:
            self.size, header = self.file.header()
            self._tensors: dict[str, dict[str, Any]] = json.loads(header)
            metadata = self._tensors.pop("__metadata__")
            written_for, form = metadata["spec"], metadata.get("format", "1")
            self._files: list[str] = json.loads(metadata.get("files", "[]"))
            self._start = 8 + len(header)
            whole = self._start + max((entry["data_offsets"][1] for entry in self._tensors.values()), default=0)
            if form == _FORMAT:
                self._check_arrays()
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise error if isinstance(error, BrokenShard) else BrokenShard("its header makes no sense") from error
        if form != _FORMAT:
            raise BrokenShard(f"it is of format {form}, this version reads {_FORMAT}")
        if self.size != whole:
            raise BrokenShard(f"it has {self.size} bytes where its header says {whole}")
        if written_for != spec_name:
            raise BrokenShard(f"it was written for {written_for}")

    def _check_arrays(self) -> None:
        """Refuse arrays that are not all there, equally long, of the right types and as large as they say."""
        count, (_, num_frames) = len(self), self._tensors["times_s"]["shape"]
        wanted: dict[str, tuple[str, tuple[int, ...]]] = {"digest": ("U8", (32,)), "crc32": ("I64", ())}
        facts = _facts(num_frames)
        for name in set(facts.names or ()) - wanted.keys():
            wanted[name] = (_FACT_DTYPES[facts[name].base.str[1:]], facts[name].shape)
        for name, (dtype, shape) in wanted.items():
            entry = self._tensors[name]
            if (entry["dtype"], entry["shape"]) != (dtype, [count, *shape]):
                raise BrokenShard(f"its array {name!r} is not what it should be")
        for name in ("values", *(("scales",) if "scales" in self._tensors else ())):
            if self._tensors[name]["shape"][0] != count:
                raise BrokenShard("its arrays are not equally long")
        for name, entry in self._tensors.items():
            begin, end = entry["data_offsets"]
            if not (0 <= begin <= end and end - begin == math.prod(entry["shape"]) * _DTYPES[entry["dtype"]].itemsize):
                raise BrokenShard(f"its array {name!r} is not as large as it says")

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_mapped": {}, "_arrays": {}}  # a mapping belongs to one process

    def __len__(self) -> int:
        return int(self._tensors["view"]["shape"][0])

    def column(self, name: str) -> NDArray[Any]:
        """One of the arrays of keys and facts, mapped: never write to it."""
        if name not in self._arrays:
            self._arrays[name] = self._tensor(name).numpy()
        return self._arrays[name]

    def key(self, row: int) -> FeatureKey:
        """The key of a record."""
        start, end = self.column("bounds_ms")[row].tolist()
        return FeatureKey(self.column("digest")[row].tobytes().hex(), start, end, int(self.column("view")[row]))

    def holds(self, row: int, key: FeatureKey) -> bool:
        """Whether a row is the record of `key`."""
        return (
            self.column("digest")[row].tobytes().hex() == key.digest
            and self.column("bounds_ms")[row].tolist() == [key.start_ms, key.end_ms]
            and int(self.column("view")[row]) == key.view
        )

    @property
    def keys(self) -> list[FeatureKey]:
        """The keys of all records, in their order."""
        digests = self.column("digest").tobytes().hex()
        rows = zip(self.column("bounds_ms").tolist(), self.column("view").tolist(), strict=True)
        return [
            FeatureKey(digests[64 * i : 64 * i + 64], start_ms, end_ms, view)
            for i, ((start_ms, end_ms), view) in enumerate(rows)
        ]

    def info(self, row: int) -> RecordInfo:
        """What a record knows beside its values."""
        start_s, end_s = self.column("span_s")[row].tolist()
        return RecordInfo(
            num_views=int(self.column("num_views")[row]),
            num_real=int(self.column("num_real")[row]),
            start_s=start_s,
            end_s=end_s,
            times_s=tuple(self.column("times_s")[row].tolist()),
            file_name=self._file_name(row),
        )

    def _file_name(self, row: int) -> str:
        """The video's name when it was encoded, for people alone; empty where the number of it is damaged."""
        number = int(self.column("file")[row])
        return self._files[number] if 0 <= number < len(self._files) else ""

    def stored(self, row: int) -> tuple[Tensor, ...]:
        """A record's values as stored and, for int8, their scales `(..., 1)`: mapped, so never write to them."""
        return tuple(self._tensor(name)[row] for name in self._stored_names)

    def stored_rows(self, rows: Tensor) -> tuple[Tensor, ...]:
        """`stored` of several records, copied out: `(B, ...)`."""
        return tuple(self._tensor(name).index_select(0, rows) for name in self._stored_names)

    def intact(self, row: int) -> bool:
        """Whether a record's bytes and facts are what was written."""
        try:
            facts = np.zeros((), _facts(self.column("times_s").shape[1]))
            for name in facts.dtype.names or ():
                facts[name] = self.column(name)[row].tobytes() if name == "digest" else self.column(name)[row]
            file_name = self._files[int(facts["file"])]
            values = [self._tensor(name)[row].reshape(-1).view(torch.uint8).numpy() for name in self._stored_names]
        except (IndexError, RuntimeError, ValueError):
            return False
        return _checksum(facts.tobytes(), file_name, values) == int(self.column("crc32")[row])

    @property
    def _stored_names(self) -> list[str]:
        return [name for name in _VALUES if name in self._tensors]

    def _tensor(self, name: str) -> Tensor:
        if (found := self._mapped.get(name)) is not None:
            return found
        find = self.file.whole if name in _VALUES else self.file.facts
        path, size, places = find(self._tensors, self._start)
        # unlike Python's mmap, torch's keeps no file descriptor: thousands of shards can be mapped at once
        mapped = torch.from_file(str(path), shared=False, size=size, dtype=torch.uint8)
        for each, begin in places.items():
            entry = self._tensors[each]
            raw = mapped[begin : begin + entry["data_offsets"][1] - entry["data_offsets"][0]]
            self._mapped[each] = raw.view(_DTYPES[entry["dtype"]]).view(entry["shape"])
        return self._mapped[name]

    def forget_mapped(self) -> None:
        """Let go of what is mapped; it is mapped again when it is asked for."""
        self._mapped, self._arrays = {}, {}


class RecordBlock:
    """Records gathered for one shard, in arrays that are used again for the next: memory is taken once."""

    def __init__(self, dtype: StoredDtype, num_bytes: int) -> None:
        self.dtype = dtype
        self.count = 0
        self._num_bytes = num_bytes
        self._values: tuple[Tensor, ...] = ()
        self._memory: list[NDArray[np.uint8]] = []  # the same bytes
        self._facts: NDArray[np.void] = np.empty(0, _facts(1))
        self._crc32: NDArray[np.int64] = np.empty(0, np.int64)
        self._keys: set[FeatureKey] = set()
        self._files: dict[str, int] = {}

    @property
    def is_full(self) -> bool:
        """Whether no further record fits."""
        return self.count > 0 and self.count == len(self._values[0])

    def __contains__(self, key: FeatureKey) -> bool:
        return key in self._keys

    def add(self, key: FeatureKey, values: Tensor, info: RecordInfo, scales: Tensor | None = None) -> None:
        """Add a record, its values converted to the stored dtype; int8 values with their `scales` are as stored.

        Raises:
            UnstorableFeatures: a value is NaN, infinite or beyond the range of the dtype; nothing is added.
            ValueError: values or times of another shape than those before.
        """
        if not self._values:
            self._allocate(values, len(info.times_s))
        row = self.count
        own = tuple(part[row] for part in self._values)
        if values.shape != own[0].shape:
            raise ValueError(f"values of shape {tuple(values.shape)} in a block of {tuple(own[0].shape)}")
        if scales is None:
            _store(values, own)
        else:
            own[0].copy_(values)
            own[1].copy_(scales)
        self._facts[row] = (
            bytes.fromhex(key.digest),
            key[1:3],
            key.view,
            info.num_views,
            info.num_real,
            self._files.setdefault(info.file_name, len(self._files)),
            (info.start_s, info.end_s),
            info.times_s,
        )
        memory = [part[row] for part in self._memory]
        self._crc32[row] = _checksum(self._facts[row].tobytes(), info.file_name, memory)
        self._keys.add(key)
        self.count += 1

    def _allocate(self, values: Tensor, num_frames: int) -> None:
        dtypes = (torch.int8, torch.float32) if self.dtype == "int8" else (TORCH_DTYPES[self.dtype],)
        shapes = (tuple(values.shape), (*values.shape[:-1], 1))[: len(dtypes)]
        each = sum(torch.Size(shape).numel() * dtype.itemsize for shape, dtype in zip(shapes, dtypes, strict=True))
        rows = max(1, self._num_bytes // max(each, 1))
        self._values = tuple(
            torch.empty((rows, *shape), dtype=dtype) for shape, dtype in zip(shapes, dtypes, strict=True)
        )
        self._memory = [part.view(rows, -1).view(torch.uint8).numpy() for part in self._values]
        self._facts = np.empty(rows, _facts(num_frames))
        self._crc32 = np.empty(rows, np.int64)

    def write(self, path: Path, spec_name: str) -> None:
        """Write the records as a shard, each array straight from its memory.

        Raises:
            InputError: the disk is full.
        """
        parts: dict[str, Tensor] = dict(
            zip(("values", "scales"), (v[: self.count] for v in self._values), strict=False)
        )
        parts |= {name: torch.from_numpy(column) for name, column in self._columns().items()}
        metadata = {"spec": spec_name, "format": _FORMAT, "files": _compact(list(self._files))}
        header: dict[str, Any] = {"__metadata__": metadata}
        ordered = sorted(parts.items(), key=lambda item: -item[1].element_size())  # each starts at its own multiple
        end = 0
        for name, tensor in ordered:
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
            for _, tensor in ordered:
                file.write(_memory(tensor))

    def _columns(self) -> dict[str, NDArray[Any]]:
        facts = self._facts[: self.count]
        columns = {name: facts[name].copy() for name in facts.dtype.names or ()}
        columns["digest"] = columns["digest"].view(np.uint8).reshape(self.count, 32)
        return columns | {"crc32": self._crc32[: self.count]}

    def clear(self) -> None:
        """Forget the records, keep the memory."""
        self.count = 0
        self._keys.clear()
        self._files.clear()


def unpack(stored: Sequence[Tensor], out: Tensor) -> None:
    """Write values as stored, with their scales if there are any, into `out` in its dtype."""
    if len(stored) == 1:
        out.copy_(stored[0])
    else:
        out.copy_(stored[0] * stored[1])


def as_stored(values: Tensor, dtype: StoredDtype) -> tuple[Tensor, ...]:
    """Values as a store keeps them: in its dtype, with scales `(..., 1)` for int8.

    Raises:
        UnstorableFeatures: a value is NaN, infinite or beyond the range of `dtype`.
    """
    if dtype == "int8":
        own: tuple[Tensor, ...] = (
            torch.empty(values.shape, dtype=torch.int8),
            torch.empty((*values.shape[:-1], 1), dtype=torch.float32),
        )
    else:
        own = (torch.empty(values.shape, dtype=TORCH_DTYPES[dtype]),)
    _store(values, own)
    return own


def _store(values: Tensor, own: Sequence[Tensor]) -> None:
    """Write values into their places in the stored dtype."""
    values = values.detach()
    if len(own) == 2:
        values = values.to("cpu", torch.float32)
        scales = values.abs().amax(-1, keepdim=True) / 127
        rounded = (values / scales.clamp(min=torch.finfo(torch.float32).tiny)).round_()
        own[0].copy_(rounded.clamp_(-127, 127))
        own[1].copy_(scales)
    else:
        own[0].copy_(values)
    if not math.isfinite(own[-1].sum(dtype=torch.float32)) and not bool(own[-1].isfinite().all()):
        if values.isfinite().all():
            name = PRECISIONS.get(own[-1].dtype, "int8")
            raise UnstorableFeatures(f"the features are beyond the range of {name}; take bf16 or fp32")
        raise UnstorableFeatures("the features are NaN or infinite")


def _facts(num_frames: int) -> np.dtype[np.void]:
    """Key and facts of one record, in the order in which they are summed up."""
    return np.dtype(
        [
            ("digest", "V32"),
            ("bounds_ms", "<i8", (2,)),
            ("view", "<i4"),
            ("num_views", "<i4"),
            ("num_real", "<i4"),
            ("file", "<i4"),
            ("span_s", "<f8", (2,)),
            ("times_s", "<f8", (num_frames,)),
        ]
    )


def _checksum(facts: bytes, file_name: str, values: Sequence[NDArray[np.uint8]]) -> int:
    crc = zlib.crc32(facts + file_name.encode())
    for part in values:
        crc = zlib.crc32(part.data, crc)
    return crc


def _memory(tensor: Tensor) -> memoryview:
    array: Any = tensor.reshape(-1).view(torch.uint8).numpy()
    return memoryview(array)


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))
