"""Videos whose bytes are values of a Parquet file, which is named like a folder of its columns and their rows.

    data/train-00000.parquet/video/000017    hf://datasets/org/name/data/train-00000.parquet/video/000017

The rows of a row group are read together, because that is how they lie in the file: each becomes a copy within the
bound of `core_encoder.files.local_copies`, and its digest is remembered, so that they come once.
"""

from __future__ import annotations

import hashlib
import json
import threading
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path, PurePosixPath
from typing import Any

from core_encoder.errors import InputError, UnreadableVideo
from core_encoder.files.urls import Location, Url
from core_encoder.video.video_bytes import Identity, VideoBytes, copies, open_bytes

SUFFIX = ".parquet"
_FOOTER_BLOCK = 1 << 16  # between what is read of a file lie videos
_VIDEO_BLOCK = 8 << 20
_REMEMBERED = 256


@dataclass(frozen=True)
class VideoTable:
    """What the footer of a Parquet file tells.

    Attributes:
        features: of the Hugging Face data set that it is part of, by column; empty where it is of none.
        videos: the columns that hold the bytes of files.
        others: the columns of text and numbers.
        starts: the number of rows before each row group, and of all.
    """

    identity: Identity | None
    metadata: Any
    features: dict[str, Any]
    videos: tuple[str, ...]
    others: tuple[str, ...]
    starts: tuple[int, ...]

    @property
    def num_rows(self) -> int:
        """How many rows it has."""
        return self.starts[-1]


_tables: dict[str, VideoTable] = {}
_digests: dict[str, str] = {}  # by the name of the copy
_locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)


def row_path(file: Location, column: str, row: int) -> str:
    """What names the video of a row."""
    name = f"{column}/{row:06d}"
    return file / name if isinstance(file, Url) else str(file / name)


def table_of(file: Location) -> VideoTable:
    """What the footer of a Parquet file tells.

    Raises:
        InputError: it cannot be read, or is no Parquet file.
    """
    with open_bytes(file if isinstance(file, Url) else str(file)) as opened:
        return _table(opened)


def video_column(file: Location, table: VideoTable, asked: str | None = None) -> str:
    """The column of the videos: the one asked for, else the only one that can be.

    Raises:
        InputError: there is none, or one of several has to be named.
    """
    if asked in table.videos:
        return str(asked)
    known = ", ".join(table.videos)
    if asked is not None:
        raise InputError(
            f"{file}: no column {asked!r} with the bytes of videos" + (f" (there is {known})" * bool(known))
        )
    typed = [name for name in table.videos if _kind(table.features, name) == "Video"]
    found = typed or table.videos
    if len(found) != 1:
        fix = f"name one of {known} with path_column" if found else "its rows hold no bytes of files"
        raise InputError(f"{file}: {len(found) or 'no'} columns of videos; {fix}")
    return found[0]


def read_columns(file: Location, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The values of some columns, row by row.

    Raises:
        InputError: the file cannot be read.
    """
    with open_bytes(file if isinstance(file, Url) else str(file)) as opened, _problems(opened.path):
        table = _table(opened)
        if not names:
            yield from ({} for _ in range(table.num_rows))
            return
        with _parquet(opened, table.metadata, _FOOTER_BLOCK) as parquet:
            for batch in parquet.iter_batches(columns=list(names)):
                yield from batch.to_pylist()


def videos_in_parquet(file: Location) -> list[str]:
    """The paths of the videos of a Parquet file.

    Raises:
        InputError: it cannot be read, or holds no videos.
    """
    table = table_of(file)
    column = video_column(file, table)
    return [row_path(file, column, row) for row in range(table.num_rows)]


def open_row(path: str, file: str, column: str, row: int) -> VideoBytes:
    """The bytes of the video in a row, as a copy.

    Raises:
        UnreadableVideo: there is no such row, it holds no video, or the file does not come.
    """
    with open_bytes(file) as opened:
        try:
            table = _table(opened)
            if column not in table.videos:
                raise UnreadableVideo(path, f"{PurePosixPath(file).name} has no column {column!r} of videos")
            if row >= table.num_rows:
                raise UnreadableVideo(path, f"there is no such row: it has {table.num_rows:,}")
            return _Row(path, opened, table, column, row)
        except UnreadableVideo:
            raise
        except InputError as error:
            raise UnreadableVideo(path, str(error).removeprefix(f"{file}: ")) from error


class _Row(VideoBytes):
    """The video of a row: a copy of this machine, held while it is open."""

    local: str

    def __init__(self, path: str, opened: VideoBytes, table: VideoTable, column: str, row: int) -> None:
        self.path, self.identity = path, table.identity
        group = bisect_right(table.starts, row) - 1
        about = f"{opened.path}\0{table.identity}\0{column}\0"
        self._name = _copy_name(about, row)
        copy = copies().hold(self._name)
        if copy is None:
            with _locks[f"{about}{group}"]:
                copy = copies().hold(self._name) or _take(path, opened, table, group, column, row, about)
        self.local, self.size = str(copy), copy.stat().st_size

    def read(self, begin: int, end: int) -> bytes:
        with Path(self.local).open("rb") as file:
            file.seek(begin)
            return file.read(end - begin)

    def digest(self) -> str:
        return _digests.get(self._name) or super().digest()

    def close(self) -> None:
        copies().let_go(self._name)


def _copy_name(about: str, row: int) -> str:
    return hashlib.sha256(f"{about}{row}".encode(errors="backslashreplace")).hexdigest()


def _take(path: str, opened: VideoBytes, table: VideoTable, group: int, column: str, row: int, about: str) -> Path:
    """Copy the videos of a row group, and hold that of `row`."""
    wanted, trouble = None, "the row holds no video"
    with _parquet(opened, table.metadata, _VIDEO_BLOCK) as parquet, _problems(opened.path):
        batches = parquet.iter_batches(batch_size=1, row_groups=[group], columns=[column])
        for number, batch in enumerate(batches, start=table.starts[group]):
            value = batch.column(0)[0].as_py()
            content = value.get("bytes") if isinstance(value, dict) else value
            if number == row and not content and isinstance(value, dict) and value.get("path"):
                trouble = f"the row names a file, {PurePosixPath(str(value['path'])).name}, and holds no bytes"
            name = _copy_name(about, number)
            if not content or copies().find(name) is not None:
                wanted = copies().hold(name) if content and number == row else wanted
                continue
            copying = copies().begin(name)
            copying.write(content)
            copying.finish()
            if number == row:
                wanted, trouble = copies().hold(name), copying.trouble
            if len(_digests) >= 1 << 20:
                _digests.clear()
            _digests[name] = hashlib.sha256(content).hexdigest()
    if wanted is None:
        raise UnreadableVideo(path, trouble)
    return wanted


def _table(opened: VideoBytes) -> VideoTable:
    known = _tables.get(opened.path)
    if known is None or known.identity != opened.identity or known.identity is None:
        with _parquet(opened, None, _FOOTER_BLOCK) as parquet, _problems(opened.path):
            schema, metadata = parquet.schema_arrow, parquet.metadata
            rows = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
            features = _features(schema.metadata or {})
            known = VideoTable(
                opened.identity,
                metadata,
                features,
                tuple(field.name for field in schema if _is_bytes(field.type, _kind(features, field.name))),
                tuple(field.name for field in schema if _is_plain(field.type)),
                tuple(accumulate(rows, initial=0)),
            )
        if len(_tables) >= _REMEMBERED:
            _tables.clear()
        _tables[opened.path] = known
    return known


def _features(metadata: dict[bytes, bytes]) -> dict[str, Any]:
    """What `datasets` writes of the columns beside the schema."""
    try:
        features = json.loads(metadata.get(b"huggingface", b"{}")).get("info", {}).get("features", {})
    except (ValueError, AttributeError, RecursionError):
        return {}
    return features if isinstance(features, dict) else {}


def _kind(features: dict[str, Any], column: str) -> str:
    feature = features.get(column)
    return str(feature.get("_type", "")) if isinstance(feature, dict) else ""


def _is_bytes(kind: Any, feature: str) -> bool:
    import pyarrow.types as types

    if feature in ("Image", "Audio"):
        return False
    if types.is_struct(kind):
        kind = next(
            (kind.field(place).type for place in range(kind.num_fields) if kind.field(place).name == "bytes"), None
        )
    return kind is not None and (types.is_binary(kind) or types.is_large_binary(kind))


def _is_plain(kind: Any) -> bool:
    import pyarrow.types as types

    if types.is_list(kind) or types.is_large_list(kind):
        kind = kind.value_type
    text = types.is_string(kind) or types.is_large_string(kind)
    return text or types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind) or types.is_null(kind)


@contextmanager
def _parquet(opened: VideoBytes, metadata: Any, block_bytes: int) -> Iterator[Any]:
    import pyarrow.parquet as pq

    with _problems(opened.path):
        source = opened.local or opened.as_file(block_bytes)
        parquet = pq.ParquetFile(source, metadata=metadata, buffer_size=block_bytes, pre_buffer=False)
    try:
        yield parquet
    finally:
        parquet.close()


@contextmanager
def _problems(where: str) -> Iterator[None]:
    """What pyarrow raises as one line."""
    import pyarrow as pa

    try:
        yield
    except InputError:
        raise
    except (pa.ArrowException, OSError, OverflowError, ValueError) as error:
        raise InputError(f"{where}: not a whole Parquet file ({' '.join(str(error).split())[:200]})") from error
