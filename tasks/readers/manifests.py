"""Manifest files: their lines as rows of named fields, whatever the format. No torch.

CSV (`,` `;` or tab; with or without a header of two columns), JSON lines, and lines of `path label` whose label is the
last field; lines of tables that begin with `#` before the first row are comments. UTF-8, with or without a byte order
mark.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from core_encoder.clip_plan import Clip
from core_encoder.errors import InputError
from core_encoder.fields import seconds_of
from core_encoder.files.storage import nearest, read_utf8
from core_encoder.files.urls import Location, Url, named
from core_encoder.video.video_bytes import is_inside
from core_encoder.video.video_files import VIDEO_SUFFIXES

SUFFIXES = (".csv", ".tsv", ".txt", ".list", ".jsonl", ".ndjson")
"""File name endings of manifests."""

ALIASES: Mapping[str, tuple[str, ...]] = {
    "path": ("path", "file_name", "video", "filename", "file", "video_path", "file_path", "filepath"),
    "label": ("label", "labels", "class", "class_name", "category", "action", "target", "cls"),
    "caption": ("caption", "captions", "text", "sentence", "description", "txt"),
    "question": ("question", "questions", "query"),
    "answer": ("answer", "answers"),
    "options": ("options", "choices", "candidates"),
    "kind": ("kind", "type"),
    "split": ("split", "subset"),
    "start": ("start", "start_s", "start_time", "time_start"),
    "end": ("end", "end_s", "end_time", "time_end"),
    "id": ("id", "sample_id"),
}
"""Column names understood without being named, the preferred one first."""


_COMMENTS = re.compile(r"\A(?:[ \t]*(?:#[^\n]*)?\n)+")  # before the first line of a table


@dataclass(frozen=True)
class Columns:
    """The columns to read where they do not carry one of the usual names (`ALIASES`)."""

    path: str | None = None
    label: str | None = None
    split: str | None = None
    start: str | None = None
    end: str | None = None
    id: str | None = None
    caption: str | None = None
    question: str | None = None
    answer: str | None = None
    options: str | None = None
    kind: str | None = None


@dataclass(frozen=True)
class Row:
    """One line of a manifest: the value and the column name of each role it has."""

    file: Location
    line: int
    values: Mapping[str, Any]
    names: Mapping[str, str]
    sample: str | None = None  # its name, in a tar

    @property
    def where(self) -> str:
        """What names it within its file."""
        return f"line {self.line}" if self.sample is None else f"sample {self.sample!r}"

    def error(self, message: str) -> InputError:
        """An error that says where: file and line."""
        return InputError(f"{self.file}: {self.where}: {message}")

    def clip(self) -> Clip:
        """The clip of this row; a relative path is relative to the manifest.

        Raises:
            InputError: no path, a time that is not seconds, or an end that is not after the start.
        """
        given = self.values["path"]
        if not isinstance(given, str) or not given.strip():
            raise self.error(f"{self.names['path']} is empty; give the video's path")
        self.check_text(given, "path")
        start_s, end_s = self._seconds("start") or 0.0, self._seconds("end")
        if end_s is not None and end_s <= start_s:
            raise self.error(f"end {end_s:g} is not after start {start_s:g}; times are seconds")
        return Clip(self._place(given.strip()), start_s, end_s)

    def _place(self, given: str) -> str:
        """Where a path leads; one written on Windows is read with `/` where only that exists."""
        if isinstance(place := named(given), Url):
            return place
        if isinstance(self.file, Url):
            return self.file.parent / given
        path = os.path.normpath(self.file.parent / given)
        if "\\" in given and not os.path.exists(path):  # noqa: PTH110 (Path raises on names too long)
            other = os.path.normpath(self.file.parent / given.replace("\\", "/"))
            return other if os.path.exists(other) else path  # noqa: PTH110
        return path

    def check_text(self, text: str, role: str) -> None:
        """Refuse what would break a line of a table, a log or another manifest.

        Raises:
            InputError: a line break or a NUL.
        """
        if len(text.splitlines()) > 1 or "\0" in text:
            raise self.error(f"{self.names[role]} {text!r} holds a line break; give one line")

    def _seconds(self, role: str) -> float | None:
        value = self.values.get(role)
        if value is None or (isinstance(value, str) and not value.strip()):
            return None
        try:
            return seconds_of(value)
        except ValueError:
            raise self.error(
                f"{self.names[role]} {value!r} is not a time; give seconds, 0 or more, or 00:01:02.5"
            ) from None


def read_clips(file: str | Path, path_column: str | None = None) -> list[Clip]:
    """The distinct clips of a manifest, which needs no labels: also plain lines of one path each.

    Raises:
        InputError: as `read_rows` and `Row.clip`, or none of the videos exists.
    """
    file = Path(os.path.normpath(Path(file).expanduser().absolute()))
    rows = read_rows(file, Columns(path=path_column), needed=None)
    clips = list(dict.fromkeys(row.clip() for row in rows))
    refuse_absent(file, clips)
    return clips


def refuse_absent(
    file: Location, clips: Sequence[Clip], hint: str = "relative paths are relative to the manifest"
) -> None:
    """Raise when not one of the videos a manifest names exists: then its paths are meant relative to elsewhere.

    Raises:
        InputError: none exists.
    """
    if not any(may_exist(clip.path) for clip in clips):
        raise InputError(f"{file}: none of its {len(clips)} videos exists, e.g. {clips[0].path}; {hint}")


def may_exist(path: str) -> bool:
    """Whether a video is there, as far as this machine can tell without asking another."""
    return isinstance(path, Url) or os.path.exists(path) or is_inside(path)  # noqa: PTH110 (Path raises on names too long)


def read_rows(file: Location, columns: Columns, needed: str | None = "label", instead: str | None = None) -> list[Row]:
    """Read every row of a manifest, shard or split of the Hub.

    Beside its path a row needs the role `needed`, if any, or the role `instead`.

    Raises:
        InputError: not a manifest, not UTF-8, no such column, a row that does not fit, or no row at all.
    """
    if (records := _records(file, columns.path)) is not None:
        return _named_rows(file, records, columns, needed, instead)
    if isinstance(file, Url):
        raise InputError(f"{file}: manifests are read from this machine: download it and name the file")
    if file.suffix.lower() not in SUFFIXES:
        raise InputError(f"{file}: not a manifest; take a folder of videos or a file ending in {', '.join(SUFFIXES)}")
    text = read_utf8(file)
    if file.suffix.lower() in (".jsonl", ".ndjson"):
        rows = _json_rows(file, text, columns, needed, instead)
    else:
        rows = _delimited_rows(file, text, columns, needed, instead)
    if not rows:
        raise InputError(f"{file}: holds no samples; add rows or remove the file")
    return rows


def _records(file: Location, path_column: str | None) -> list[tuple[Location, int, str, dict[str, Any]]] | None:
    """The samples of what holds videos itself: file, number and name there, and fields; None for other files."""
    if isinstance(file, Url):
        from tasks.readers.hub_data_sets import data_set_address, split_records

        if (address := data_set_address(file)) is not None:
            return [*split_records(address, path_column)]
    if file.suffix.lower() == ".tar":
        from tasks.readers.shards import shard_records

        return [(file, *record) for record in shard_records(file)]
    if file.suffix.lower() == ".parquet":
        from tasks.readers.parquet_rows import parquet_records

        return [(file, *record) for record in parquet_records(file, path_column)]
    return None


def _named_rows(
    place: Location,
    records: Sequence[tuple[Location, int, str, dict[str, Any]]],
    columns: Columns,
    needed: str | None,
    instead: str | None,
) -> list[Row]:
    if place.suffix.lower() != ".tar":
        columns = replace(columns, path=None)  # found already
    rows = []
    for file, number, sample, record in records:
        names = _names(record, columns, f"{file}: sample {sample!r}", needed, instead)
        rows.append(Row(file, number, {role: record[name] for role, name in names.items()}, names, sample))
    if not rows:
        raise InputError(f"{place}: holds no videos; a sample is a video and what is told of it, such as its label")
    return rows


def _json_rows(file: Path, text: str, columns: Columns, needed: str | None, instead: str | None) -> list[Row]:
    rows: list[Row] = []
    for line, content in enumerate(text.split("\n"), start=1):
        if not content.strip():
            continue
        try:
            record = json.loads(content)
        except json.JSONDecodeError as error:
            raise InputError(f"{file}: line {line}: not valid JSON ({error.msg})") from error
        if not isinstance(record, dict):
            raise InputError(f'{file}: line {line}: must be an object such as {{"video": "a.mp4", "label": "walk"}}')
        names = _names(record, columns, f"{file}: line {line}", needed, instead)
        rows.append(Row(file, line, {role: record[name] for role, name in names.items()}, names))
    return rows


def _delimited_rows(file: Path, text: str, columns: Columns, needed: str | None, instead: str | None) -> list[Row]:
    text = _COMMENTS.sub(lambda comments: "\n" * comments[0].count("\n"), text)  # lines keep their numbers
    first = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = _delimiter(first, file.suffix.lower(), columns)
    lines = _space_separated(file, text, needed) if delimiter == " " else _csv(file, text, delimiter)
    if not lines:
        return []
    start, header = lines[0]
    holds_video = any(cell.lower().endswith(tuple(VIDEO_SUFFIXES)) for cell in header)
    if holds_video or (delimiter == " " and not _is_header(header, columns)):  # the first line is a row already
        if len(header) != 2:
            raise InputError(f"{file}: line {start}: no header line; add one such as path,label")
        header = ["path", needed or "label"]
    else:
        lines = lines[1:]
    repeated = sorted({name for name in header if header.count(name) > 1})
    if repeated:
        raise InputError(f"{file}: line {start}: two columns are called {repeated[0]!r}; rename one")
    names = _names(header, columns, f"{file}: line {start}", needed, instead)
    positions = {role: header.index(name) for role, name in names.items()}
    rows = []
    for line, cells in lines:
        if len(cells) != len(header):
            raise InputError(
                f"{file}: line {line}: {len(cells)} fields where the header has {len(header)}"
                f"; put quotes around a value that holds {delimiter!r}"
            )
        rows.append(Row(file, line, {role: cells[position] for role, position in positions.items()}, names))
    return rows


def _delimiter(first: str, suffix: str, columns: Columns) -> str:
    """The delimiter whose cells hold a known column name, else the most frequent one; a space when there is none."""
    for delimiter in ",;\t":
        if _is_header([cell.strip(' "') for cell in first.split(delimiter)], columns):
            return delimiter
    if suffix in (".txt", ".list"):  # a path may hold commas
        return "\t" if "\t" in first else " "
    best = max(",;\t", key=first.count)
    return best if best in first else " "


def _is_header(cells: list[str], columns: Columns) -> bool:
    known = {columns.path} if columns.path else set(ALIASES["path"])
    return any(cell in known or (columns.path is None and cell.lower() in known) for cell in cells)


def _csv(file: Path, text: str, delimiter: str) -> list[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    lines: list[tuple[int, list[str]]] = []
    try:
        before = 0
        for cells in reader:
            if cells:
                lines.append((before + 1, [cell.strip() for cell in cells]))
            before = reader.line_num
    except csv.Error as error:
        raise InputError(f"{file}: line {before + 1}: not valid CSV ({error})") from error
    return lines


def _space_separated(file: Path, text: str, needed: str | None) -> list[tuple[int, list[str]]]:
    lines: list[tuple[int, list[str]]] = []
    for line, content in enumerate(text.split("\n"), start=1):
        if content.strip():
            bare = needed is None and content.strip().lower().endswith(tuple(VIDEO_SUFFIXES))
            cells = [content.strip(), ""] if bare else content.strip().rsplit(maxsplit=1)
            if len(cells) != 2:
                raise InputError(f"{file}: line {line}: {content.strip()!r} is not `path label`")
            lines.append((line, cells))
    return lines


def _names(
    header: Iterable[str], columns: Columns, where: str, needed: str | None, instead: str | None
) -> dict[str, str]:
    """The column of each role; the path and what is needed must be there, and so must every column asked for."""
    known = list(header)
    by_lower = {name.lower(): name for name in reversed(known)}
    names: dict[str, str] = {}
    for role, aliases in ALIASES.items():
        asked = getattr(columns, role)
        if asked is not None and asked not in known:
            raise InputError(f"{where}: no column {asked!r}{nearest(asked, known)}")
        found = asked or next((by_lower[alias] for alias in aliases if alias in by_lower), None)
        if found is not None:
            names[role] = found
        elif role == "path" or (role == needed and instead is None):
            option = "path_column" if role == "path" else "label_column"
            raise InputError(f"{where}: no {role} column{nearest(role, known)}; name it with {option}")
    if instead is not None and not {needed, instead} & names.keys():
        raise InputError(f"{where}: no {needed} and no {instead} column{nearest(str(needed), known)}")
    return names
