"""Tables of segments: CSV `video,start,end,label`, a row a segment, and JSON lines with `segments`, a line a video."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from core_encoder.errors import InputError
from core_encoder.files.storage import nearest
from tasks.readers.events import Event, VideoEvents, classes_of, label_of, spans_of, time_of
from tasks.readers.manifests import Columns, Row, read_rows
from tasks.splits import SPLIT_NAMES, split_name

VIDEO_KEYS = ("video", "file_name", "path", "id")


def read_segment_csv(file: Path, columns: Columns) -> list[VideoEvents]:
    """The videos of a CSV; a row with neither start nor label is a video in which nothing happens.

    Raises:
        InputError: one line with file, line, field and the fix.
    """
    videos: dict[str, list[Row]] = {}
    for row in read_rows(file, columns, needed=None):
        for role in ("start", "end", "label"):
            if role not in row.names:
                raise row.error(f"no {role} column; segments need video, start, end and label")
        videos.setdefault(str(row.values["path"] or "").strip(), []).append(row)
    found = []
    for name, rows in videos.items():
        where = f"{file}: line {rows[0].line}"
        if not name:
            raise InputError(f"{where}: {rows[0].names['path']} is empty; give the video's path")
        splits = {_split(row.values.get("split"), f"{file}: line {row.line}") for row in rows}
        if len(splits) > 1:
            raise InputError(f"{where}: video {name!r} has rows in several splits; give it one")
        events = tuple(event for row in rows if (event := _event(row)) is not None)
        found.append(VideoEvents(name, where, events, splits.pop()))
    return found


def _event(row: Row) -> Event | None:
    where = f"{row.file}: line {row.line}"
    start, end, label = (_text(row.values[role]) for role in ("start", "end", "label"))
    if not (start or end or label):
        return None
    start_s, end_s = time_of(start, where, row.names["start"]), time_of(end, where, row.names["end"])
    return Event(start_s, end_s, label_of(label, where), where)


def _text(value: Any) -> str:
    return "" if value is None else str(value).strip()


def read_segment_lines(file: Path, text: str) -> list[VideoEvents]:
    """The videos of JSON lines: `{"video": "a.mp4", "segments": [[start, end, label], ...]}`.

    `split`, `duration`, `annotated` and `classes_annotated` may stand beside; a segment may be an object, too.

    Raises:
        InputError: one line with file, line, field and the fix.
    """
    found, seen = [], dict[str, str]()
    for line, content in enumerate(text.split("\n"), start=1):
        if not content.strip():
            continue
        where = f"{file}: line {line}"
        try:
            record = json.loads(content)
        except json.JSONDecodeError as error:
            raise InputError(f"{where}: not valid JSON ({error.msg})") from error
        if not isinstance(record, dict) or not isinstance(record.get("segments"), list):
            raise InputError(f'{where}: must be an object such as {{"video": "a.mp4", "segments": [[1.5, 4, "walk"]]}}')
        name = next((record[key] for key in VIDEO_KEYS if isinstance(record.get(key), str) and record[key]), None)
        if name is None:
            raise InputError(f"{where}: names no video; give 'video'")
        if name in seen:
            raise InputError(f"{where}: the same video as {seen[name]} ({name}); put its segments in one line")
        seen[name] = f"line {line}"
        duration = record.get("duration")
        events = tuple(_listed(f"{where}: segment {k}", one) for k, one in enumerate(record["segments"], start=1))
        found.append(
            VideoEvents(
                name,
                where,
                events,
                _split(record.get("split", record.get("subset")), where),
                None if duration is None else time_of(duration, where, "duration"),
                spans_of(record.get("annotated"), where),
                classes_of(record.get("classes_annotated"), where),
            )
        )
    return found


def _listed(where: str, given: Any) -> Event:
    if isinstance(given, dict):
        bounds = given.get("segment") or [given.get("start"), given.get("end")]
        given = [*bounds, given.get("label")] if isinstance(bounds, list) else bounds
    if not isinstance(given, list) or len(given) != 3:
        raise InputError(f"{where}: must be [start, end, label], not {given!r}")
    start_s, end_s = (time_of(one, where, "segment") for one in given[:2])
    return Event(start_s, end_s, label_of(given[2], where), where)


def _split(value: Any, where: str) -> str | None:
    if value is None:
        return None
    split = split_name(str(value))
    if split is None:
        raise InputError(f"{where}: split {value!r} is unknown{nearest(str(value).lower(), SPLIT_NAMES)}")
    return split
