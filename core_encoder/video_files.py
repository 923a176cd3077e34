"""Video files as files: finding them in folders, and the digest of their bytes."""

from __future__ import annotations

import hashlib
import logging
import os
import sqlite3
from contextlib import closing
from pathlib import Path

from core_encoder.errors import InputError, UnreadableVideo
from core_encoder.storage import prismhub_home

VIDEO_SUFFIXES = frozenset(
    {".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ogv", ".ts", ".webm"}
    | {".wmv"}
)
_DIGESTS = """
CREATE TABLE IF NOT EXISTS digests (path TEXT PRIMARY KEY, size INTEGER, mtime_ns INTEGER, digest TEXT) WITHOUT ROWID
"""

log = logging.getLogger(__name__)


def find_videos(folder: str | Path) -> list[Path]:
    """Every video file under `folder`, by suffix, sorted; hidden files and folders are passed over.

    Raises:
        InputError: there is no such folder, or no video in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: {'not a folder' if folder.exists() else 'no such folder'}")
    found = []
    entered = set()
    for where, folders, files in os.walk(folder, followlinks=True):
        entered.add(os.path.realpath(where))
        folders[:] = [
            name
            for name in folders
            if not name.startswith(".")
            and os.path.realpath(Path(where, name)) not in entered  # a link may lead back up
        ]
        found += [
            Path(where, name)
            for name in files
            if not name.startswith(".") and Path(name).suffix.lower() in VIDEO_SUFFIXES
        ]
    if not found:
        raise InputError(f"{folder}: no video in this folder (looked for {', '.join(sorted(VIDEO_SUFFIXES))})")
    return sorted(found)


def check_file(path: str) -> os.stat_result:
    """The file's size and times.

    Raises:
        UnreadableVideo: missing, a folder, empty or not permitted.
    """
    try:
        with open(path, "rb") as file:  # noqa: PTH123 (a Path would lose a trailing slash)
            status = os.fstat(file.fileno())
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reasons: dict[type, str] = {FileNotFoundError: "no such file", IsADirectoryError: "a folder, not a video file"}
        raise UnreadableVideo(path, reasons.get(type(error), f"cannot be opened: {error}")) from error
    if status.st_size == 0:
        raise UnreadableVideo(path, "the file is empty (0 bytes)")
    return status


def video_digest(path: str | Path) -> str:
    """The sha256 of a video's bytes, in hexadecimal: its address in every feature store.

    Remembered in `PRISMHUB_HOME` by path, size and modification time, so that a second run reads no video. Several
    processes may ask at once; a broken or locked memory only costs the hashing.

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
    if (after.st_size, after.st_mtime_ns) == (status.st_size, status.st_mtime_ns):  # not written to meanwhile
        _remember(path, status, digest)
    return digest


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
                "SELECT digest FROM digests WHERE path = ? AND size = ? AND mtime_ns = ?",
                (path, status.st_size, status.st_mtime_ns),
            ).fetchone()
    except (sqlite3.Error, OSError, UnicodeEncodeError) as error:
        log.debug("digest memory cannot be read: %s", error)
        return None
    return str(row[0]) if row and len(str(row[0])) == 64 else None


def _remember(path: str, status: os.stat_result, digest: str) -> None:
    try:
        with closing(_memory()) as memory, memory:
            memory.execute(
                "INSERT OR REPLACE INTO digests VALUES (?, ?, ?, ?)",
                (path, status.st_size, status.st_mtime_ns, digest),
            )
    except (sqlite3.Error, OSError, UnicodeEncodeError) as error:
        log.warning("video digests are not remembered: %s: %s", prismhub_home() / "video_digests.sqlite", error)
