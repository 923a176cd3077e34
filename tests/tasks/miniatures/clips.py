"""What the miniatures of data sets share: short videos, and the damage that annotation files suffer."""

from __future__ import annotations

import zlib
from pathlib import Path

from tests.videos import moving_square, write_video


def write_clip(path: Path, length_s: float = 1.0, fps: int = 16) -> Path:
    """A small H.264 video, drawn from its name, so that no two are alike."""
    seed = zlib.crc32(path.name.encode())
    return write_video(path, moving_square(round(length_s * fps), 64, 64, seed), fps)


def with_windows_ends(file: Path) -> None:
    """The same text with a byte order mark and CRLF, as Excel and Notepad leave it."""
    text = file.read_bytes().decode("utf-8").replace("\r\n", "\n")
    file.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode("utf-8"))


def in_latin1(file: Path) -> int:
    """The same file with a letter that is no UTF-8 in its second line; returns that line."""
    lines = file.read_bytes().split(b"\n")
    lines[1] = b"\xe9" + lines[1]
    file.write_bytes(b"\n".join(lines))
    return 2


def without_column(file: Path, name: str, delimiter: str = ",") -> None:
    """The same table without one of its columns; no cell may hold the delimiter."""
    rows = [line.split(delimiter) for line in file.read_text().splitlines()]
    place = rows[0].index(name)
    file.write_text("\n".join(delimiter.join(row[:place] + row[place + 1 :]) for row in rows) + "\n")


def reordered(file: Path, delimiter: str = ",") -> None:
    """The same table with its columns from last to first; no cell may hold the delimiter."""
    rows = [line.split(delimiter) for line in file.read_text().splitlines()]
    file.write_text("\n".join(delimiter.join(reversed(row)) for row in rows) + "\n")
