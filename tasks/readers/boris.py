"""Event tables of BORIS: its tabular export (a row for each START, STOP, POINT) and the aggregated one (a row a bout).

Columns are found by the names that BORIS has given them over its versions. In front of older tables stand lines about
the observation. States are paired by observation, subject, behaviour and modifiers; their class is the behaviour.

Times count from the start of the first file of an observation, on through those that the first player showed after it,
and BORIS adds the observation's time offset when it records them: both are taken back here. How long each file lasts
stands in `Media duration (s)` (`60.000;30.000`, players apart by `|`), in the order in which `Source` names them.
"""

from __future__ import annotations

import csv
import io
import logging
import math
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from core_encoder.errors import InputError
from tasks.readers.events import Event, VideoEvents, label_of, time_of

log = logging.getLogger(__name__)

_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "observation": ("Observation id",),
    "media": ("Media file name", "Media file path", "Media file"),
    "source": ("Source",),
    "duration": ("Media duration (s)", "Total length", "Media total length"),
    "offset": ("Time offset (s)",),
    "subject": ("Subject",),
    "behavior": ("Behavior",),
    "type": ("Status", "Behavior type"),
    "time": ("Time", "Time (s)"),
    "start": ("Start (s)",),
    "stop": ("Stop (s)",),
}
_PLAYER = re.compile(r"^player #\d+:", re.IGNORECASE)
_FURTHER_PLAYERS = re.compile(r"[|\s]*player #(?!1:)\d+:.*$", re.IGNORECASE)
_UNKNOWN = ("", "na", "n/a", "nan")
_ROUNDING_S = 0.002  # lengths of files are rounded to milliseconds: what lies so little in a file is not in it


@dataclass(frozen=True)
class _Row:
    where: str
    cells: Mapping[str, str]

    def __getitem__(self, role: str) -> str:
        return self.cells.get(role, "")

    def time(self, role: str, title: str) -> float:
        """A time in seconds from the start of the first file.

        Raises:
            InputError: it is none, or before that start.
        """
        offset_s = 0.0 if self["offset"].lower() in _UNKNOWN else self._signed("offset", "time offset")
        time_s = self._signed(role, title) - offset_s
        if time_s < -_ROUNDING_S:
            raise InputError(f"{self.where}: {title} {self[role]} is before the time offset of {offset_s:g} s")
        return max(time_s, 0.0)

    def _signed(self, role: str, title: str) -> float:
        text = self[role]
        seconds = time_of(text.removeprefix("-"), self.where, title)
        return -seconds if text.startswith("-") else seconds


@dataclass(frozen=True)
class _File:
    """A media file of an observation, and how many seconds it lasts, where the table says so."""

    name: str
    length_s: float | None


def is_boris(text: str) -> bool:
    """Whether a table is one of BORIS's: it has a row of titles with `Behavior` and a time."""
    return _titles(_table(text)) is not None


def read_boris(file: Path, text: str) -> list[VideoEvents]:
    """The videos of an event table of BORIS, also those of an observation in which nothing happens.

    Raises:
        InputError: one line with file, line and the fix: a START without STOP, no media file, several of which it is
            not known how long they last, a time that is none.
    """
    table = _table(text)
    found = _titles(table)
    if found is None:
        raise InputError(f"{file}: no event table of BORIS: no line has the titles Behavior and Time, or Start (s)")
    place, names = found
    about = {cells[0].strip(): cells[1].strip() for _, cells in table[:place] if len(cells) > 1}
    before = [cells[1].strip() for _, cells in table[:place] if len(cells) > 1 and cells[0].strip() == "Player #1"]
    rows = []
    for line, cells in table[place + 1 :]:
        if any(cell.strip() for cell in cells):
            given = {role: "|".join(cells[c].strip() for c in columns if c < len(cells)) for role, columns in names}
            given.setdefault("observation", about.get("Observation id", ""))
            given.setdefault("offset", about.get("Time offset (s)", ""))
            given.setdefault("source", ";".join(before))
            rows.append(_Row(f"{file}: line {line}", given))
    if not rows:
        raise InputError(f"{file}: holds no events; add rows or remove the file")
    return _by_file(rows)


def _table(text: str) -> list[tuple[int, list[str]]]:
    first = next((line for line in text.splitlines() if "\t" in line or "," in line), "")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter="\t" if "\t" in first else ",")
    rows, before = [], 0
    for cells in reader:
        rows.append((before + 1, cells))
        before = reader.line_num
    return rows


def _titles(table: Sequence[tuple[int, list[str]]]) -> tuple[int, list[tuple[str, list[int]]]] | None:
    """Which row has the titles, and the columns of each role: modifiers have one or several, the others one."""
    for place, (_, cells) in enumerate(table[:200]):
        known = {cell.strip(): column for column, cell in reversed(list(enumerate(cells)))}
        names = {
            role: [known[title]]
            for role, titles in _COLUMNS.items()
            if (title := next((one for one in titles if one in known), None)) is not None
        }
        names["modifiers"] = [column for title, column in known.items() if title.startswith("Modifier")]
        timed = "time" in names or {"start", "stop"} <= names.keys()
        if timed and "behavior" in names and names.keys() & {"media", "source"}:
            return place, list(names.items())
    return None


def _by_file(rows: Sequence[_Row]) -> list[VideoEvents]:
    """The videos of all observations, in their order; what several say of one file is joined."""
    observations: dict[str, list[_Row]] = {}
    for row in rows:
        observations.setdefault(row["observation"] or row["media"], []).append(row)
    videos: dict[str, VideoEvents] = {}
    events: dict[str, list[Event]] = defaultdict(list)
    for several in observations.values():
        files = _files(several)
        for one in files:
            videos.setdefault(one.name, VideoEvents(one.name, several[0].where, (), duration_s=one.length_s))
        aggregated = bool(several[0]["start"] or several[0]["stop"])
        for event in [_bout(row) for row in several] if aggregated else _paired(several):
            for name, part in _parts(event, files):
                events[name].append(part)
    return [replace(video, events=tuple(events[name])) for name, video in videos.items()]


def _files(rows: Sequence[_Row]) -> tuple[_File, ...]:
    """The files that the first player showed in an observation, one after another.

    Raises:
        InputError: there is none, or there are several and it is not known how long they last.
    """
    first = rows[0]
    shown = _PLAYER.sub("", _FURTHER_PLAYERS.sub("", first["source"])).split(";")
    names = [name.strip() for name in shown if name.strip().lower() not in _UNKNOWN]
    lengths = [_number(length) for length in first["duration"].partition("|")[0].split(";")]
    if "player #2:" in first["source"].lower():
        log.warning("%s: watched in several players; the video of the first one is taken", first.where)
    if len(names) > 1 and len(names) == len(lengths) and all(lengths):
        return tuple(_File(name, length_s) for name, length_s in zip(names, lengths, strict=True))
    media = [_media(row, names) for row in rows]
    if len({*media}) > 1 or len(names) > 1:
        row = next((row for row, name in zip(rows, media, strict=True) if name != media[0]), first)
        several = ", ".join(" ".join(name.split()) for name in (names if len(names) > 1 else dict.fromkeys(media)))
        raise InputError(
            f"{row.where}: observation {first['observation']!r} is of several media files ({several}), and nothing "
            "says how long each lasts: export again with BORIS 8.10 or later, whose tables do"
        )
    return (_File(media[0], lengths[0] if len(lengths) == 1 else None),)


def _media(row: _Row, names: Sequence[str]) -> str:
    """The media file of a row; where that is not said, the one of its observation."""
    media = _PLAYER.sub("", row["media"])
    if media.lower() in ("", "not found") and len(names) == 1:
        media = names[0]
    if media.lower() in (*_UNKNOWN, "live", "not found"):
        raise InputError(f"{row.where}: no media file; a live observation has no video to learn from")
    if ";" in media or "|" in media:
        raise InputError(f"{row.where}: several media files ({media}); observe each file by itself")
    return media


def _parts(event: Event, files: Sequence[_File]) -> Iterator[tuple[str, Event]]:
    """What of an event lies in which file, in seconds of that file."""
    begins_s = 0.0
    for one in files:
        ends_s = math.inf if one is files[-1] or one.length_s is None else begins_s + one.length_s
        if event.end_s is None or event.end_s <= event.start_s:  # a moment, or what is refused later
            if begins_s <= event.start_s < ends_s:
                end_s = None if event.end_s is None else event.end_s - begins_s
                yield one.name, replace(event, start_s=event.start_s - begins_s, end_s=end_s)
        else:
            start_s, end_s = max(event.start_s, begins_s), min(event.end_s, ends_s)
            if (start_s, end_s) == (event.start_s, event.end_s) or end_s - start_s > _ROUNDING_S:
                yield one.name, replace(event, start_s=start_s - begins_s, end_s=end_s - begins_s)
        begins_s = ends_s


def _number(text: str) -> float | None:
    try:
        return float(text) or None
    except ValueError:
        return None


def _bout(row: _Row) -> Event:
    label = label_of(row["behavior"], row.where)
    start_s = row.time("start", "Start (s)")
    if row["type"].upper().startswith("POINT"):
        return Event(start_s, None, label, row.where)
    if row["stop"].lower() in _UNKNOWN:
        raise InputError(
            f"{row.where}: {label!r} starts at {start_s:g} s and has no Stop (s); close the state in BORIS"
        )
    return Event(start_s, row.time("stop", "Stop (s)"), label, row.where)


def _paired(rows: Sequence[_Row]) -> list[Event]:
    """START and STOP rows as events, in the order of their starts."""
    events: list[Event] = []
    open_states: dict[tuple[Any, ...], tuple[float, str]] = {}
    for row in sorted(rows, key=lambda row: row.time("time", "Time")):
        label, time_s, what = label_of(row["behavior"], row.where), row.time("time", "Time"), row["type"]
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
