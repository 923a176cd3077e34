"""What a file holds beside its pictures: when it was recorded, and its subtitles."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from core_encoder.errors import UnreadableVideo
from core_encoder.files.urls import Url, named
from core_encoder.video.video_bytes import check_file, is_inside, open_bytes

_ASS_FIELDS = 8  # commas before the text of an event as libav gives it
_ASS_MARKUP = re.compile(r"\{\\[^}]*\}")


@dataclass(frozen=True)
class FileFacts:
    """When a video was recorded, as ISO 8601, and the cues of its subtitle streams, `(start_s, end_s, text)`."""

    recorded: str
    cues: tuple[tuple[float, float, str], ...]


def read_file_facts(path: str | Path) -> FileFacts:
    """Read the header of a file, and its subtitle streams where it has any that are text; no picture is decoded.

    The time of recording is the container's, else that of the file; of one elsewhere or in a tar that is not known, and
    empty. Times of cues count from the first picture. Text that cannot be decoded is passed over.

    Raises:
        UnreadableVideo: the file cannot be opened.
    """
    import av

    path = named(os.fspath(path))
    try:
        with open_bytes(path) as video, av.open(video.opened(), metadata_errors="ignore") as container:
            recorded = _recorded(container) or _changed(path)
            streams = [one for one in container.streams.subtitles if one.codec_context is not None]
            cues = sorted(_cues(container, streams)) if streams else []
    except UnreadableVideo:
        raise
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise UnreadableVideo(path, f"cannot be opened: {getattr(error, 'strerror', None) or error}") from error
    return FileFacts(recorded, tuple(dict.fromkeys(cues)))


def _changed(path: str) -> str:
    """When a file of this machine was changed last; empty for any other."""
    if isinstance(path, Url) or is_inside(path):
        return ""
    return datetime.fromtimestamp(int(check_file(path).st_mtime), UTC).isoformat()


def _recorded(container: Any) -> str:
    """The creation time that the container states; writers that know none state the year 1904 or 1970."""
    said = {name.lower(): value for name, value in container.metadata.items()}.get("creation_time", "")
    try:
        when = datetime.fromisoformat(said.replace("Z", "+00:00"))
    except ValueError:
        return ""
    return when.isoformat() if when.year > 1970 else ""


def _cues(container: Any, streams: list[Any]) -> Iterator[tuple[float, float, str]]:
    """The cues of text streams; a stream of pictures has none."""
    import av

    moving = [one for one in container.streams.video if not one.disposition & av.stream.Disposition.attached_pic]
    begins_s = None
    for other in container.streams:
        if other not in streams and other not in moving[:1]:
            other.discard = av.stream.Discard.all
    found = []
    for packet in container.demux():
        if packet.stream in moving and packet.pts is not None:
            at_s = float(packet.pts * packet.time_base)
            begins_s = at_s if begins_s is None else min(begins_s, at_s)
        elif packet.stream in streams and packet.size and packet.pts is not None:
            start_s = float(packet.pts * packet.time_base)
            end_s = start_s + float((packet.duration or 0) * packet.time_base)
            if text := _text(packet):
                found.append((start_s, end_s, text))
    shift_s = begins_s or 0.0
    for start_s, end_s, text in found:
        yield round(start_s - shift_s, 3), round(end_s - shift_s, 3), text


def _text(packet: Any) -> str:
    import av

    try:
        sets = packet.decode()
    except (av.error.FFmpegError, ValueError, NotImplementedError):
        return ""
    lines = []
    for one in sets:
        for rect in getattr(one, "rects", None) or [one]:
            said = getattr(rect, "ass", b"") or getattr(rect, "text", b"")
            text = said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)
            if getattr(rect, "ass", b""):
                text = text.split(",", _ASS_FIELDS)[-1]
            lines.append(_ASS_MARKUP.sub("", text).replace("\\N", " ").replace("\\n", " ").replace("\\h", " "))
    return " ".join(" ".join(lines).split())
