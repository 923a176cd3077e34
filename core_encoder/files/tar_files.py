"""Tar files read where they lie: which files are in one and where their bytes begin; nothing is unpacked.

A sample is a run of files that share a name up to its first dot, as WebDataset writes them:

    0001.mp4  0001.json  0001.txt  0001.cls  0002.mp4 ...
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import BinaryIO

from core_encoder.errors import InputError

TEXTS = (".cls", ".json", ".txt")
"""Endings of the small files of a sample that are read at once."""
_LARGEST_TEXT = 1 << 24
_BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}", re.ASCII)
_MOST_SHARDS = 1_000_000


@dataclass(frozen=True)
class Member:
    """A file inside a tar: its name and where its bytes lie."""

    name: str
    offset: int
    size: int


@dataclass
class TarSample:
    """Files that belong together: `texts` holds the bytes of the small ones by their ending."""

    name: str
    members: list[Member] = field(default_factory=list)
    texts: dict[str, bytes] = field(default_factory=dict)


def tar_samples(archive: BinaryIO, where: str) -> Iterator[TarSample]:
    """The samples of an open tar, in its order; `where` begins the messages.

    Raises:
        InputError: not a whole, uncompressed tar.
    """
    sample = TarSample("")
    try:
        with tarfile.open(fileobj=archive, mode="r:") as tar:
            while (entry := tar.next()) is not None:
                tar.members = []  # type: ignore[attr-defined]  # it would remember every header
                if not entry.isfile():
                    continue
                path = PurePosixPath(entry.name)
                base = str(path.parent / path.name.partition(".")[0])
                if base != sample.name:
                    if sample.members:
                        yield sample
                    sample = TarSample(base)
                sample.members.append(Member(entry.name, entry.offset_data, entry.size))
                if path.suffix.lower() in TEXTS and entry.size <= _LARGEST_TEXT:
                    content = tar.extractfile(entry)
                    sample.texts[path.suffix.lower()] = content.read() if content else b""
            # Where a header is missing or damaged tarfile stops as at the end, which two blocks of zeros mark.
            archive.seek(tar.offset)
            if archive.read(2 * tarfile.BLOCKSIZE) != bytes(2 * tarfile.BLOCKSIZE):
                raise tarfile.ReadError(f"no end of archive at byte {tar.offset}, where its members end")
    except (tarfile.TarError, OSError, EOFError) as error:
        raise InputError(f"{where}: not a whole, uncompressed tar ({error})") from error
    if sample.members:
        yield sample


def shard_names(pattern: str) -> list[str]:
    """`shards-{000..010}.tar` as the eleven names; any other text is one name.

    Raises:
        InputError: the numbers fall, or are too many to be meant.
    """
    found = _BRACES.search(pattern)
    if found is None:
        return [pattern]
    first, last, width = int(found[1]), int(found[2]), len(found[1])
    if not 0 <= last - first < _MOST_SHARDS:
        raise InputError(f"{pattern}: {{{found[1]}..{found[2]}}} must count up, to at most {_MOST_SHARDS:,} names")
    here = [pattern[: found.start()] + f"{number:0{width}d}" for number in range(first, last + 1)]
    return [begin + rest for begin in here for rest in shard_names(pattern[found.end() :])]
