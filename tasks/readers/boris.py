"""Event tables of BORIS: its tabular export (a row for each START, STOP, POINT) and the aggregated one (a row a bout).

Columns are found by the names that BORIS has given them over its versions. In front of older tables stand lines about
the observation. States are paired by observation, subject, behaviour and modifiers; their class is the behaviour.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core_encoder.errors import InputError
from tasks.readers.events import Event, VideoEvents, label_of, time_of

_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "observation": ("Observation id",),
    "media": ("Media file name", "Media file path", "Media file", "Source"),
    "duration": ("Media duration (s)", "Total length", "Total duration"),
    "offset": ("Time offset (s)",),
    "subject": ("Subject",),
    "behavior": ("Behavior",),
    "modifiers": ("Modifiers", "Modifier #1"),
    "type": ("Status", "Behavior type"),
    "time": ("Time", "Time (s)"),
    "start": ("Start (s)",),
    "stop": ("Stop (s)",),
}
_PLAYER = re.compile(r"^player #\d+:", re.IGNORECASE)


@dataclass(frozen=True)
class _Row:
    where: str
    cells: Mapping[str, str]

    def __getitem__(self, role: str) -> str:
        return self.cells.get(role, "")


def is_boris(text: str) -> bool:
    """Whether a table is one of BORIS's: it has a row of titles with `Behavior` and a time."""
    return _titles(_table(text)) is not None


def read_boris(file: Path, text: str) -> list[VideoEvents]:
    """The videos of an event table of BORIS.

    Raises:
        InputError: one line with file, line and the fix: a START without STOP, no media file, a time that is none.
    """
    table = _table(text)
    found = _titles(table)
    if found is None:
        raise InputError(f"{file}: no event table of BORIS: no line has the titles Behavior and Time, or Start (s)")
    place, names = found
    about = {cells[0].strip(): cells[1].strip() for _, cells in table[:place] if len(cells) > 1}
    rows = []
    for line, cells in table[place + 1 :]:
        if any(cell.strip() for cell in cells):
            given = {role: cells[column].strip() for role, column in names.items() if column < len(cells)}
            given.setdefault("observation", about.get("Observation id", ""))
            given.setdefault("offset", about.get("Time offset (s)", ""))
            rows.append(_Row(f"{file}: line {line}", given))
    if not rows:
        raise InputError(f"{file}: holds no events; add rows or remove the file")
    return [_video(several) for several in _by_media(rows)]


def _table(text: str) -> list[tuple[int, list[str]]]:
    first = next((line for line in text.splitlines() if "\t" in line or "," in line), "")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter="\t" if "\t" in first else ",")
    rows, before = [], 0
    for cells in reader:
        rows.append((before + 1, cells))
        before = reader.line_num
    return rows


def _titles(table: Sequence[tuple[int, list[str]]]) -> tuple[int, dict[str, int]] | None:
    """Which row has the titles, and the column of each role."""
    for place, (_, cells) in enumerate(table[:200]):
        known = {cell.strip(): column for column, cell in reversed(list(enumerate(cells)))}
        names = {
            role: known[title]
            for role, titles in _COLUMNS.items()
            if (title := next((one for one in titles if one in known), None)) is not None
        }
        if "behavior" in names and "media" in names and ("time" in names or {"start", "stop"} <= names.keys()):
            return place, names
    return None


def _by_media(rows: Sequence[_Row]) -> list[list[_Row]]:
    """The rows of each media file; an observation is of one."""
    files: dict[str, list[_Row]] = {}
    of_observation: dict[str, str] = {}
    for row in rows:
        media = _media(row)
        other = of_observation.setdefault(row["observation"], media)
        if row["observation"] and other != media:
            raise InputError(
                f"{row.where}: observation {row['observation']!r} is of several media files ({other}, {media}), whose "
                "times count from the first; observe each file by itself"
            )
        files.setdefault(media, []).append(row)
    return list(files.values())


def _media(row: _Row) -> str:
    media = _PLAYER.sub("", row["media"])
    if not media or media.lower() in ("na", "n/a", "nan", "live"):
        raise InputError(f"{row.where}: no media file; a live observation has no video to learn from")
    if ";" in media or "|" in media:
        raise InputError(f"{row.where}: several media files ({media}); observe each file by itself")
    offset = row["offset"]
    if offset and offset.lower() not in ("na", "nan") and time_of(offset.lstrip("-"), row.where, "time offset"):
        raise InputError(f"{row.where}: a time offset of {offset} s; set it to 0 and export again")
    return media


def _video(rows: Sequence[_Row]) -> VideoEvents:
    durations = [_number(row["duration"]) for row in rows]
    aggregated = bool(rows[0]["start"] or rows[0]["stop"])
    events = [_bout(row) for row in rows] if aggregated else _paired(rows)
    return VideoEvents(_media(rows[0]), rows[0].where, tuple(events), duration_s=next(filter(None, durations), None))


def _number(text: str) -> float | None:
    try:
        return float(text) or None
    except ValueError:
        return None


def _bout(row: _Row) -> Event:
    label = label_of(row["behavior"], row.where)
    start_s = time_of(row["start"], row.where, "Start (s)")
    if row["type"].upper().startswith("POINT"):
        return Event(start_s, None, label, row.where)
    if not row["stop"] or row["stop"].lower() in ("na", "nan"):
        raise InputError(
            f"{row.where}: {label!r} starts at {start_s:g} s and has no Stop (s); close the state in BORIS"
        )
    return Event(start_s, time_of(row["stop"], row.where, "Stop (s)"), label, row.where)


def _paired(rows: Sequence[_Row]) -> list[Event]:
    """START and STOP rows as events, in the order of their starts."""
    events: list[Event] = []
    open_states: dict[tuple[Any, ...], tuple[float, str]] = {}
    for row in sorted(rows, key=lambda row: time_of(row["time"], row.where, "Time")):
        label, time_s, what = label_of(row["behavior"], row.where), time_of(row["time"], row.where, "Time"), row["type"]
        key = (row["observation"], row["subject"], label, row["modifiers"])
        if what.upper().startswith("POINT"):
            events.append(Event(time_s, None, label, row.where))
        elif what.upper() == "START":
            if key in open_states:
                first_s, where = open_states[key]
                raise InputError(
                    f"{where}: START of {label!r} at {first_s:g} s has no STOP before the next START at {time_s:g} s"
                )
            open_states[key] = time_s, row.where
        elif what.upper() == "STOP":
            if key not in open_states:
                raise InputError(f"{row.where}: STOP of {label!r} at {time_s:g} s has no START")
            start_s, where = open_states.pop(key)
            events.append(Event(start_s, time_s, label, where))
        else:
            raise InputError(f"{row.where}: {what!r} is neither START, STOP nor POINT")
    for (_, subject, label, _), (start_s, where) in open_states.items():
        of = f" of subject {subject!r}" if subject else ""
        raise InputError(f"{where}: START of {label!r}{of} at {start_s:g} s has no STOP; close the state in BORIS")
    return sorted(events, key=lambda event: event.start_s)
