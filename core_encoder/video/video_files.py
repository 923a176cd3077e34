"""Video files as files: finding them in folders, and the digest of their bytes."""

from __future__ import annotations

import errno
import functools
import hashlib
import logging
import os
import sqlite3
import stat
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from core_encoder.errors import InputError, UnreadableVideo
from core_encoder.files.storage import prismhub_home

VIDEO_SUFFIXES = frozenset(
    {".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ogv", ".ts", ".webm"}
    | {".wmv"}
)
_DIGESTS = """
CREATE TABLE IF NOT EXISTS files
(path TEXT PRIMARY KEY, size INTEGER, mtime_ns INTEGER, ctime_ns INTEGER, digest TEXT) WITHOUT ROWID
"""
_PLAYLISTS = (b"#EXTM3U", b"ffconcat version")
_COARSEST_CLOCK_NS = 2_000_000_000  # of all file systems' times (FAT)

log = logging.getLogger(__name__)


def find_videos(folder: str | Path) -> list[Path]:
    """Every video file under `folder`, by suffix, sorted; hidden files and folders are passed over.

    Raises:
        InputError: there is no such folder, or no video in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: {'not a folder' if folder.exists() else 'no such folder'}")
    found = [path for path in find_files(folder) if path.suffix.lower() in VIDEO_SUFFIXES]
    if not found:
        raise InputError(f"{folder}: no video in this folder (looked for {', '.join(sorted(VIDEO_SUFFIXES))})")
    return sorted(found)


def find_files(folder: Path, above: tuple[str, ...] = ()) -> Iterator[Path]:
    """Every file under `folder`, hidden ones passed over; a link back to one of the folders `above` is not followed."""
    here = os.path.realpath(folder)
    if here in above:
        return
    try:
        with os.scandir(folder) as entries:
            listed = [(Path(entry.path), _is_folder(entry)) for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        log.warning("%s: passed over: %s", folder, error.strerror)
        return
    for path, is_folder in listed:
        if is_folder:
            yield from find_files(path, (*above, here))
        else:
            yield path


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself: named as a file, it is refused by its name
        return False


def check_file(path: str) -> os.stat_result:
    """The file's size and times.

    Raises:
        UnreadableVideo: missing, a folder, a pipe, empty or not permitted.
    """
    try:
        status = os.stat(path)  # noqa: PTH116 (a Path would lose a trailing slash)
        openable = stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)
        if openable:  # a pipe might keep us waiting for ever
            with open(path, "rb"):  # noqa: PTH123
                pass
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reasons: dict[type, str] = {FileNotFoundError: "no such file", IsADirectoryError: "a folder, not a video file"}
        reason = "a link that leads back to itself" if getattr(error, "errno", 0) == errno.ELOOP else None
        reason = reason or reasons.get(type(error), f"cannot be opened: {error}")
        raise UnreadableVideo(path, reason) from error
    if not openable:
        raise UnreadableVideo(path, "a pipe, socket or device, not a video file")
    if status.st_size == 0:
        raise UnreadableVideo(path, "the file is empty (0 bytes)")
    return status


def not_a_video(path: str) -> str | None:
    """What a file that no decoder opens is instead, by how it begins; None where that does not tell."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            begins = file.read(512)
    except OSError:
        return None
    if begins.startswith(b"version https://git-lfs"):
        return "a pointer of Git LFS, not the video: fetch that with `git lfs pull`"
    if begins.lstrip().lower().startswith((b"<!doctype html", b"<html")):
        return "a web page, not a video: what was downloaded is an error page or a link"
    if not begins.strip(b"\0"):
        return "it begins with zeros, no video: a download or copy that was never finished"
    if begins.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(_PLAYLISTS) or b"<MPD" in begins:
        return "a playlist: it names other files, name those"
    try:
        begins.decode()
    except UnicodeDecodeError:
        return None
    return None if b"\0" in begins else "text, not a video"


def video_digest(path: str | Path) -> str:
    """The sha256 of a video's bytes, in hexadecimal: its address in every feature store.

    Remembered in `PRISMHUB_HOME` by path, size and times, so that a second run reads no video. The time of the last
    change of status counts too: unlike that of modification, nobody can set it back. Several processes may ask at once;
    a broken or locked memory only costs the hashing.

    Raises:
        UnreadableVideo: the file is missing, a folder or empty.
    """
    path = str(Path(path).absolute())
    status = check_file(path)
    known = _remembered(path, status)
    if known:
        return known
    with open(path, "rb") as file:  # noqa: PTH123
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        after = os.fstat(file.fileno())
    # What was written to a moment ago may be again, unseen, before the file system's clock ticks.
    settled = time.time_ns() - status.st_mtime_ns > _COARSEST_CLOCK_NS
    if settled and _identity(after) == _identity(status):
        _remember(path, status, digest)
    return digest


def _identity(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _as_text(path: str) -> str:
    """A path as a database takes it: file names need not be UTF-8."""
    return path.encode(errors="backslashreplace").decode()


def _memory() -> sqlite3.Connection:
    file = prismhub_home() / "video_digests.sqlite"
    file.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(file, timeout=10)
    try:
        connection.execute(_DIGESTS)
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _remembered(path: str, status: os.stat_result) -> str | None:
    try:
        with closing(_memory()) as memory:
            row = memory.execute(
                "SELECT digest FROM files WHERE path = ? AND size = ? AND mtime_ns = ? AND ctime_ns = ?",
                (_as_text(path), *_identity(status)),
            ).fetchone()
    except (sqlite3.Error, OSError) as error:
        log.debug("digest memory cannot be read: %s", error)
        return None
    return str(row[0]) if row and len(str(row[0])) == 64 else None


def _remember(path: str, status: os.stat_result, digest: str) -> None:
    try:
        with closing(_memory()) as memory, memory:
            memory.execute(
                "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?)",
                (_as_text(path), *_identity(status), digest),
            )
    except (sqlite3.Error, OSError) as error:
        _say_forgetful(prismhub_home() / "video_digests.sqlite", str(error))


@functools.cache  # once, not for every video
def _say_forgetful(file: Path, reason: str) -> None:
    log.warning("video digests are not remembered: %s: %s", file, reason)
