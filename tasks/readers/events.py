"""What the readers of event files have in common: events as they are written, and the video that a name stands for."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any

from adapters.predictions import Segment, Timeline
from core_encoder.clip_plan import Clip
from core_encoder.errors import InputError
from core_encoder.fields import seconds_of
from core_encoder.files.urls import Url, named
from core_encoder.video.video_files import VIDEO_SUFFIXES, find_videos
from tasks.sample import SegmentSample

POINT_S = 1.0
"""An event without a duration is learned and found as a segment of so many seconds around it."""
OVERSHOOT_S = 1.0  # annotators and containers round: a segment may end so much after its video


@dataclass(frozen=True)
class Event:
    """Something that happens, in seconds of the video; `end_s` is None where it is a moment. `where` says where it is
    written: file, line or field."""

    start_s: float
    end_s: float | None
    label: str
    where: str


@dataclass(frozen=True)
class VideoEvents:
    """What a file says of one video: the name it gives it, the events, and where anybody looked (see `Timeline`)."""

    video: str
    where: str
    events: tuple[Event, ...]
    split: str | None = None
    duration_s: float | None = None
    annotated: tuple[tuple[float, float], ...] | None = None
    classes: tuple[str, ...] | None = None


def time_of(value: Any, where: str, what: str) -> float:
    """A time in seconds.

    Raises:
        InputError: it is none.
    """
    try:
        return seconds_of(value)
    except ValueError:
        raise InputError(f"{where}: {what} {value!r} is not a time; give seconds, 0 or more, or 00:01:02.5") from None


def label_of(value: Any, where: str) -> str:
    """The name of a class.

    Raises:
        InputError: it is empty or no text.
    """
    text = str(value).strip() if isinstance(value, str | int) and not isinstance(value, bool) else ""
    if not text or text.lower() == "nan" or len(text.splitlines()) > 1:
        raise InputError(f"{where}: label {value!r} is no name of a class; give one line of text")
    return text


def spans_of(value: Any, where: str) -> tuple[tuple[float, float], ...] | None:
    """The field `annotated`: a list of `[start, end]`, or None where it is not given.

    Raises:
        InputError: it is something else.
    """
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(one, list | tuple) and len(one) == 2 for one in value):
        raise InputError(f"{where}: annotated must be a list of [start, end], such as [[0, 120.5]], not {value!r}")
    spans = tuple((time_of(start, where, "annotated"), time_of(end, where, "annotated")) for start, end in value)
    for start_s, end_s in spans:
        if end_s <= start_s:
            raise InputError(f"{where}: annotated: [{start_s:g}, {end_s:g}] ends before it starts")
    return spans


def classes_of(value: Any, where: str) -> tuple[str, ...] | None:
    """The field `classes_annotated`: a list of class names, or None where it is not given.

    Raises:
        InputError: it is something else.
    """
    if value is None:
        return None
    if not isinstance(value, list):
        raise InputError(f"{where}: classes_annotated must be a list of class names, not {value!r}")
    return tuple(label_of(one, where) for one in value)


def sample_of(given: VideoEvents, path: str) -> SegmentSample:
    """One video, whose file lies at `path`, as a sample, its segments checked and in order.

    Raises:
        InputError: a segment that ends before it starts, lies outside of the video or of what was annotated, or has a
            class that was not looked for.
    """
    segments = tuple(sorted((_segment(event, given) for event in given.events), key=lambda s: (s.start_s, s.end_s)))
    labels = tuple(sorted({one.label for one in segments}))
    moments = {one.label for one in given.events if one.end_s is None}
    moments -= {one.label for one in given.events if one.end_s is not None}
    timeline = Timeline(segments, given.annotated, given.classes)
    return SegmentSample(given.video, Clip(path), labels, given.split, timeline, tuple(sorted(moments)))


def outside(start_s: float, end_s: float, length_s: float) -> str:
    """Why a segment cannot be in a video of so many seconds; empty where it can."""
    if start_s >= length_s or end_s > length_s + OVERSHOOT_S:
        hint = "; are its times frames or milliseconds?" if end_s > 10 * length_s else ""
        return f"lies outside the video, which lasts {length_s:g} s{hint}"
    return ""


def _segment(event: Event, of: VideoEvents) -> Segment:
    start_s, end_s = event.start_s, event.end_s
    if end_s is None:
        start_s, end_s = max(event.start_s - POINT_S / 2, 0.0), event.start_s + POINT_S / 2
    elif end_s <= start_s:
        raise InputError(f"{event.where}: {event.label!r} ends at {end_s:g} s, not after its start at {start_s:g} s")
    what = f"{event.where}: segment [{start_s:g}, {end_s:g}] {event.label!r}"
    if of.duration_s is not None:
        if reason := outside(start_s, end_s, of.duration_s):
            raise InputError(f"{what} {reason}")
        end_s = min(end_s, of.duration_s)
    if of.annotated is not None and not any(start_s < b and end_s > a for a, b in of.annotated):
        raise InputError(f"{what} lies outside of what was annotated; widen annotated, or remove it")
    if of.classes is not None and event.label not in of.classes:
        raise InputError(f"{what} has a class that is not among classes_annotated; add it there")
    return Segment(start_s, end_s, event.label, 1.0)


class Videos:
    """Finds the videos that an annotation file names, beside it or in a folder of their own.

    A name is a path, relative to the file, or the name of a file anywhere in the folder, with or without its ending;
    ActivityNet's own files put `v_` before it.
    """

    def __init__(self, file: Path, folder: str | Path | None = None) -> None:
        self.root = file.parent
        self.folder = self.root if folder is None else Path(os.path.normpath(Path(folder).expanduser().absolute()))
        if not self.folder.is_dir():
            raise InputError(f"{self.folder}: no such folder of videos")
        self.found = 0
        self._index: dict[str, list[Path]] | None = None

    def path_of(self, name: str, where: str) -> str:
        """Where the video of this name lies; where it would, if there is none.

        Raises:
            InputError: several files have this name.
        """
        if isinstance(elsewhere := named(name), Url):
            self.found += 1
            return elsewhere
        plain = name.replace("\\", "/") if re.match(r"^[A-Za-z]:\\|.*\\", name) else name
        for base in dict.fromkeys((self.root, self.folder)):
            for written in dict.fromkeys((name, plain)):
                path = os.path.normpath(base / written)
                if os.path.isfile(path):  # noqa: PTH113 (Path raises on names too long)
                    self.found += 1
                    return path
        file = PureWindowsPath(plain).name
        known = self._names()
        for key in (file, f"v_{file}", file.removeprefix("v_"), PureWindowsPath(file).stem):
            if several := known.get(key):
                if len(several) > 1:
                    raise InputError(f"{where}: video {name!r} may be {several[0]} or {several[1]}; give its path")
                self.found += 1
                return str(several[0])
        ending = "" if file.lower().endswith(tuple(VIDEO_SUFFIXES)) else ".mp4"
        return os.path.normpath(self.folder / (plain + ending))

    def _names(self) -> dict[str, list[Path]]:
        """The videos of the folder by file name and by stem."""
        if self._index is None:
            self._index = {}
            try:
                paths: Sequence[Path] = find_videos(self.folder)
            except InputError:  # there is none
                paths = ()
            for path in paths:
                for key in dict.fromkeys((path.name, path.stem)):
                    self._index.setdefault(key, []).append(path)
        return self._index
