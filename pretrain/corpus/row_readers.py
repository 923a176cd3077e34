"""Reading the rows of tables (CSV, TSV, JSONL, Parquet) and of tar shards, one after the other."""

from __future__ import annotations

import csv
import json
import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from core_encoder.errors import InputError
from core_encoder.files.tar_files import TarSample, tar_samples
from pretrain.corpus.manifest import Tier
from pretrain.corpus.rows import Row, RowColumns

log = logging.getLogger(__name__)

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp"})
SHARD_VIDEO_SUFFIXES = frozenset({".mp4", ".webm", ".mkv", ".avi", ".mov"})
_LONGEST_CELL = 2**24  # characters of a CSV cell; Python's own limit of 131,072 is below some web pages' text


def source_files(tier: Tier) -> tuple[Path, ...]:
    """The table, or the shards, of a tier."""
    return (tier.table,) if tier.table else tier.shard_files()


def base_folder(files: tuple[Path, ...]) -> Path:
    """The folder that paths of rows are relative to: that of the table, or the deepest one over all shards."""
    return Path(os.path.commonpath([file.parent for file in files]))


def read_rows(tier: Tier) -> Iterator[Row]:
    """The rows of a table or of shards, in order; paths as given, those of shards relative to `base_folder`.

    Raises:
        InputError: a file cannot be read or a row does not fit; the message names file and row.
    """
    if tier.table is None:
        yield from _shard_rows(tier)
        return
    readers = {".csv": _csv, ".tsv": _csv, ".jsonl": _jsonl, ".ndjson": _jsonl, ".parquet": _parquet}
    reader = readers.get(tier.table.suffix.lower())
    if reader is None:
        raise InputError(f"{tier.table}: not a table; take a file ending in {', '.join(readers)}")
    columns: RowColumns | None = None
    try:
        for where, values in reader(tier.table):
            if columns is None or not columns.fits(values):
                columns = RowColumns(tier, values, where)
            yield columns.row(values, where)
    except OSError as error:
        raise InputError(f"{tier.table}: cannot be read ({error.strerror})") from error


def _csv(file: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    csv.field_size_limit(_LONGEST_CELL)
    line = 0
    with file.open(encoding="utf-8-sig", newline="") as lines:
        reader = csv.reader(lines, delimiter="\t" if file.suffix.lower() == ".tsv" else ",", strict=True)
        try:
            header = [name.strip() for name in next(reader, [])]
            repeated = sorted({name for name in header if header.count(name) > 1})
            if repeated:
                raise InputError(f"{file}: line 1: two columns are called {repeated[0]!r}; rename one")
            line = reader.line_num
            for cells in reader:
                where = f"{file}: line {line + 1}"
                line = reader.line_num
                if not cells:
                    continue
                if len(cells) != len(header):
                    raise InputError(
                        f"{where}: {len(cells)} fields where the header has {len(header)}"
                        "; put quotes around a value that holds the delimiter"
                    )
                yield where, dict(zip(header, cells, strict=True))
        except csv.Error as error:
            raise InputError(f"{file}: line {line + 1}: not valid CSV ({error})") from error
        except UnicodeDecodeError as error:
            raise InputError(f"{file}: after line {line}: not UTF-8; save the file as UTF-8") from error


def _jsonl(file: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            where = f"{file}: line {number}"
            if not line.strip():
                continue
            try:
                values = json.loads(line.decode("utf-8-sig"))
            except (ValueError, RecursionError) as error:  # a number of 4,301 digits is a ValueError
                raise InputError(f"{where}: not valid JSON in UTF-8 ({error})") from error
            if not isinstance(values, dict):
                raise InputError(f'{where}: must be an object such as {{"video": "a.mp4", "caption": "a dog runs"}}')
            yield where, values


def _parquet(file: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        with pq.ParquetFile(file) as table:
            for batch in table.iter_batches(batch_size=1024):
                for values in batch.to_pylist():
                    number += 1
                    yield f"{file}: row {number}", values
    except (pa.ArrowException, OSError, OverflowError, ValueError) as error:  # a date that Python has no word for
        raise InputError(f"{file}: after row {number}: not valid Parquet ({error})") from error


def _shard_rows(tier: Tier) -> Iterator[Row]:
    files = source_files(tier)
    base = base_folder(files)
    media = IMAGE_SUFFIXES if tier.media == "image" else SHARD_VIDEO_SUFFIXES
    without = 0
    for file in files:
        for sample in _samples(file):
            clip = next((m for m in sample.members if PurePosixPath(m.name).suffix.lower() in media), None)
            if clip is None:
                without += 1
                continue
            where = f"{file}: sample {sample.name!r}"
            values = _annotation(sample.texts, where)
            columns = RowColumns(tier, values, where, needs_video=False)
            yield replace(columns.row(values, where, video=str(file.relative_to(base))), member=clip)
    if without:
        log.warning("tier %s: %d samples of its shards hold no %s; passed over", tier.name, without, tier.media)


def _annotation(texts: Mapping[str, bytes], where: str) -> dict[str, Any]:
    """The fields of a sample: those of its .json, and the text of its .txt as its caption."""
    values: dict[str, Any] = {}
    try:
        if ".txt" in texts:
            values["caption"] = texts[".txt"].decode("utf-8-sig")
        told = json.loads(texts[".json"].decode("utf-8-sig")) if ".json" in texts else {}
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: its annotation is not valid UTF-8 or JSON ({error})") from error
    if not isinstance(told, dict):
        raise InputError(f'{where}: its .json must be an object such as {{"caption": "a dog runs"}}')
    return values | told


def _samples(file: Path) -> Iterator[TarSample]:
    try:
        with file.open("rb") as archive:
            yield from tar_samples(archive, str(file))
    except OSError as error:
        raise InputError(f"{file}: not a whole, uncompressed tar ({error})") from error
