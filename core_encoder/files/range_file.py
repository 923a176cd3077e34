"""A file of which parts are read when they are asked for, wherever its bytes are."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fsspec.caching import BlockCache

BLOCK_BYTES = 1 << 20
_BLOCKS = 32  # in memory: those used last


class RangeFile(io.RawIOBase):
    """A file to read and seek in; `read_range(begin, end)` brings its bytes, a block at a time."""

    def __init__(self, name: str, blocks: BlockCache) -> None:
        super().__init__()
        self.name = name  # by its ending a container may be told
        self._blocks = blocks
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._blocks.size}[whence]
        self._at = max(0, start + offset)
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        end = self._blocks.size if size is None or size < 0 else self._at + size
        found = self._blocks._fetch(self._at, end)  # fsspec's own files read so, too
        self._at += len(found)
        return found

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        found = self.read(len(buffer))
        buffer[: len(found)] = found
        return len(found)


def blocks_of(size: int, read_range: Callable[[int, int], bytes], block_bytes: int = BLOCK_BYTES) -> BlockCache:
    """The blocks of a file of `size` bytes, a few of them kept; several `RangeFile`s may share them."""
    from fsspec.caching import BlockCache

    return BlockCache(block_bytes, read_range, size, maxblocks=_BLOCKS)
