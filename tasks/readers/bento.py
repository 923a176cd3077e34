"""Annotation files of BENTO (`.annot`): a header, then by channel and behaviour the bouts with start and stop.

Times are seconds. Files whose header counts frames and whose bouts are whole numbers throughout hold frames instead:
from 1 on, both ends included, as classifiers write them. All channels are read.
"""

from __future__ import annotations

import re
from pathlib import Path

from core_encoder.errors import InputError
from tasks.readers.events import Event, VideoEvents, label_of, time_of

FIRST_LINE = "bento annotation file"
_CHANNEL = re.compile(r"^(.+?)-{5,}\s*$")


def is_bento(text: str) -> bool:
    """Whether a text is an annotation file of BENTO."""
    return text.lstrip().lower().startswith(FIRST_LINE)


def read_bento(file: Path, text: str) -> VideoEvents:
    """The video of an annotation file: its movie file, else one called like the annotation file.

    Raises:
        InputError: one line with file, line and the fix.
    """
    if not is_bento(text):
        raise InputError(f"{file}: line 1: no annotation file of BENTO: it does not begin with 'Bento annotation file'")
    header: dict[str, str] = {}
    bouts: list[tuple[str, str, str, str]] = []  # where, behaviour, start, stop
    behavior: str | None = None
    channel = False
    for line, content in enumerate(text.splitlines(), start=1):
        where, content = f"{file}: line {line}", content.strip()
        if _CHANNEL.match(content):
            channel, behavior = True, None
        elif not channel:
            name, colon, value = content.partition(":")
            if colon:
                header[name.strip().lower()] = value.strip()
        elif content.startswith(">"):
            behavior = label_of(content[1:], where)
        elif content and not content.lower().startswith("start"):
            cells = content.split()
            if behavior is None or len(cells) < 2:
                raise InputError(f"{where}: {content!r} is no bout of a behaviour; give start, stop and duration")
            bouts.append((where, behavior, cells[0], cells[1]))
    movies = header.get("movie file(s)", "").split()
    if len(movies) > 1 and not (file.parent / header["movie file(s)"]).exists():
        movies = movies[:1]  # synchronous cameras: the first one
    counted = "annotation start frame" in header and all(
        start.isdecimal() and stop.isdecimal() for _, _, start, stop in bouts
    )
    frame_s = 0.0
    if counted and bouts:
        rate = time_of(header.get("annotation framerate", ""), str(file), "Annotation framerate")
        if not rate:
            raise InputError(f"{file}: Annotation framerate is 0; give frames a second")
        frame_s = 1 / rate
    events = []
    for where, behavior, start, stop in bouts:
        start_s, end_s = time_of(start, where, "start"), time_of(stop, where, "stop")
        if frame_s:
            start_s, end_s = max(start_s - 1, 0) * frame_s, end_s * frame_s
        events.append(Event(start_s, end_s, behavior, where))
    return VideoEvents(" ".join(movies) or file.stem, str(file), tuple(events))
