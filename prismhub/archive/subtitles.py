"""Speech of a video: subtitles beside it (`.srt`, `.vtt`, any language suffix), and those in the file itself.

Files are read as people leave them: UTF-8, UTF-16 or UTF-32 with a byte order mark, UTF-16 without one, else Western
European; numbers, settings and markup are passed over, a cue whose end is not after its start lasts for a moment.
"""

from __future__ import annotations

import codecs
import hashlib
import html
import re
from collections.abc import Iterable, Sequence

from core_encoder.errors import InputError
from core_encoder.files.urls import Location, Url
from prismhub.archive.scenes import Cue

SUFFIXES = (".srt", ".vtt")
_LARGEST = 1 << 25  # bytes of subtitles that are fetched from elsewhere
_MOMENT_S = 0.001  # how long a cue lasts that ends before it starts: it is found where it starts
_TIME = r"(?:(\d+):)?(\d{1,2}):(\d{1,2})(?:[.,](\d{1,3}))?"
_TIMES = re.compile(rf"^\s*{_TIME}\s*-+>\s*{_TIME}(?:\s|$)")
_MARKUP = re.compile(r"<[^>]*>|\{\\[^}]*\}")
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def sidecars(videos: Iterable[Location], files: Iterable[Location]) -> dict[Location, list[Location]]:
    """The subtitle files of every video: in its folder, called like it, with or without suffixes such as `.en`.

    Of two videos `a` and `a.b`, the file `a.b.srt` is of the second alone.
    """
    by_stem: dict[tuple[Location, str], list[Location]] = {}
    for video in videos:
        by_stem.setdefault((video.parent, video.stem), []).append(video)
    found: dict[Location, list[Location]] = {}
    for file in sorted(files, key=str):
        if file.suffix.lower() not in SUFFIXES:
            continue
        stem = file.stem
        while stem and (file.parent, stem) not in by_stem:
            stem = stem.rpartition(".")[0]
        for video in by_stem.get((file.parent, stem), ()) if stem else ():
            found.setdefault(video, []).append(file)
    return found


def speech_digest(files: Sequence[Location]) -> str:
    """Changes with every name and byte of some subtitle files; empty where there are none.

    Raises:
        InputError: one cannot be read.
    """
    digest = hashlib.sha256()
    for file in files:
        data = _bytes(file)
        digest.update(f"{file.name}\n{len(data)}\n".encode(errors="backslashreplace") + data)
    return digest.hexdigest() if files else ""


def read_subtitles(file: Location) -> list[Cue]:
    """The cues of a subtitle file, in the order of time; lines that make no sense are passed over.

    Raises:
        InputError: it cannot be read.
    """
    return parse_subtitles(_decoded(_bytes(file)))


def parse_subtitles(text: str) -> list[Cue]:
    """The cues of an SRT or WebVTT text."""
    cues: list[Cue] = []
    times: tuple[float, float] | None = None
    said: list[str] = []

    def close() -> None:
        spoken = " ".join(html.unescape(_MARKUP.sub("", " ".join(said))).replace("\0", "").split())
        if times is not None and spoken:
            cues.append(cue_of(*times, spoken))

    for line in text.splitlines():
        if match := _TIMES.match(line):
            if times is not None and said and said[-1].strip().isdigit():
                said.pop()  # the number of the next cue, where no empty line stands between them
            close()
            times, said = (_seconds(match.groups()[:4]), _seconds(match.groups()[4:])), []
        elif not line.strip():
            close()
            times, said = None, []
        elif times is not None:
            said.append(line)
    close()
    return sorted(cues, key=lambda cue: (cue.start_s, cue.end_s))


def cue_of(start_s: float, end_s: float, text: str) -> Cue:
    """A cue that lasts for a moment at least."""
    return Cue(start_s, max(end_s, start_s + _MOMENT_S), text)


def spoken_in(cues: Sequence[Cue], start_s: float, end_s: float) -> tuple[Cue, ...]:
    """The cues that are heard between two times, in their order; of equal ones the first."""
    return tuple(dict.fromkeys(cue for cue in cues if cue.start_s < end_s and cue.end_s > start_s))


def _seconds(fields: Sequence[str | None]) -> float:
    hours, minutes, seconds, fraction = fields
    thousandths = int((fraction or "0").ljust(3, "0"))
    return int(hours or 0) * 3600 + int(minutes or 0) * 60 + int(seconds or 0) + thousandths / 1000


def _bytes(file: Location) -> bytes:
    try:
        if isinstance(file, Url):
            from core_encoder.files.remote import RemoteError, read_whole

            try:
                return read_whole(file, _LARGEST)
            except RemoteError as error:
                raise InputError(f"{file}: {error.reason}") from error
        return file.read_bytes()
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror})") from error


def _decoded(data: bytes) -> str:
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return data.decode(encoding, "replace")
    zeros = [data[:2000][place::2].count(0) for place in (0, 1)]
    if sum(zeros) > len(data[:2000]) // 8:  # UTF-16 without a mark: half of what is Western are zeros
        return data.decode("utf-16-be" if zeros[0] > zeros[1] else "utf-16-le", "replace")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace")
