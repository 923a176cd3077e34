"""Random access to the rows of tables and tar shards that need not fit in memory.

One pass over the file writes an index into `PRISMHUB_HOME/corpus/`: `rows.jsonl`, itself a table that a manifest could
name, the byte offset of each row, and the numbers of the rows that have a caption. Readers memory-map all three. The
index is made again when the file changes.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import mmap
import os
import shutil
import uuid
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from core_encoder.errors import InputError
from core_encoder.files.storage import prismhub_home, read_json, write_json, writing_to
from pretrain.corpus.manifest import Tier
from pretrain.corpus.row_readers import base_folder, read_rows, source_files
from pretrain.corpus.rows import Row

log = logging.getLogger(__name__)

_FORMAT = 3  # of the index; another number makes every index again
_LOOKED_AT = 64  # rows whose files are looked for, to tell wrong folders from a few lost videos


class ClipIndex:
    """The rows of a table or of tar shards: `len(index)`, `index[i]`; picklable, and cheap to open.

    Attributes:
        digest: identity of the rows' content, wherever the files lie.
        captioned: the numbers of the rows that have a caption, memory-mapped int64 `(C,)`.
    """

    def __init__(self, folder: Path, base: Path) -> None:
        self.folder = folder
        self.base = base
        facts = read_json(folder / "index.json")
        self.digest: str = facts["digest"]
        self._open()

    @classmethod
    def of(cls, tier: Tier) -> ClipIndex:
        """The index of a tier with a table or shards, made if it is not there.

        Raises:
            InputError: the file cannot be read, a row does not fit, there is none, or none of the first videos exists.
        """
        files = source_files(tier)
        key = hashlib.sha256(json.dumps(_identity(tier, files), sort_keys=True).encode()).hexdigest()[:32]
        folder = prismhub_home() / "corpus" / key
        base = base_folder(files)
        if not (folder / "index.json").is_file():
            _build(folder, base, read_rows(tier), str(files[0]).encode("utf-8", "backslashreplace").decode())
        return cls(folder, base)

    def _open(self) -> None:
        self._offsets = np.memmap(self.folder / "offsets.i64", dtype=np.int64, mode="r")
        captioned = self.folder / "captioned.i64"
        self.captioned: NDArray[np.int64] = (
            np.memmap(captioned, dtype=np.int64, mode="r") if captioned.stat().st_size else np.empty(0, np.int64)
        )
        with (self.folder / "rows.jsonl").open("rb") as file:
            self._rows = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def __getitem__(self, number: int) -> Row:
        if not 0 <= number < len(self):
            raise IndexError(f"row {number} asked for; the index has {len(self)}")
        line = self._rows[int(self._offsets[number]) : int(self._offsets[number + 1])]
        return Row.from_dict(json.loads(line), self.base)

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder, "base": self.base, "digest": self.digest}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()


def _identity(tier: Tier, files: tuple[Path, ...]) -> dict[str, Any]:
    """What an index depends on: the files as they are now, and how they are read."""
    try:
        states = [(str(file), s.st_size, s.st_mtime_ns, s.st_ctime_ns) for file in files for s in [file.stat()]]
    except OSError as error:
        raise InputError(f"{error.filename}: cannot be opened ({error.strerror})") from error
    read: dict[str, Any] = {"columns": dict(tier.columns), "labels": list(tier.labels)}
    if tier.table is None:
        read["media"] = tier.media  # which members of a shard are its clips
    return {"format": _FORMAT, "files": states} | read


def _build(folder: Path, base: Path, rows: Iterator[Row], source: str) -> None:
    """Write the index aside and rename it; another process may do the same meanwhile."""
    log.info("%s: indexing its clips", source)
    aside = folder.parent / f".{folder.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}.tmp"
    with writing_to(folder):
        aside.mkdir(parents=True)
        try:
            _write(aside, base, rows, source)
            try:
                aside.rename(folder)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):  # another process was faster
                    raise
        finally:
            shutil.rmtree(aside, ignore_errors=True)


def _write(aside: Path, base: Path, rows: Iterator[Row], source: str) -> None:
    content = hashlib.sha256()
    offset = count = 0
    first: str | None = None
    with (
        (aside / "rows.jsonl").open("wb") as lines,
        (aside / "offsets.i64").open("wb") as offsets,
        (aside / "captioned.i64").open("wb") as captioned,
    ):
        _append(offsets, 0)
        found = False
        for count, row in enumerate(rows, start=1):
            first = first or str(base / row.video)
            if not found and count <= _LOOKED_AT:
                found = os.path.exists(base / row.video)  # noqa: PTH110 (a Path raises where a name is too long)
            if not found and count == _LOOKED_AT:
                break
            line = json.dumps(row.to_dict(), ensure_ascii=True).encode() + b"\n"
            content.update(line)
            offset += lines.write(line)
            _append(offsets, offset)
            if row.caption:
                _append(captioned, count - 1)
        for file in (lines, offsets, captioned):
            file.flush()
            os.fsync(file.fileno())
    if not count:
        raise InputError(f"{source}: holds no clips; add rows or remove the tier")
    if not found:
        raise InputError(f"{source}: none of its first {count} files exists, e.g. {first}; paths are relative to it")
    write_json(aside / "index.json", {"digest": content.hexdigest(), "rows": count, "source": source})


def _append(file: BinaryIO, number: int) -> None:
    array("q", [number]).tofile(file)
