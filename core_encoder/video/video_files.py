"""Video files as files: finding them in folders, and the digest of their bytes."""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from core_encoder.errors import InputError
from core_encoder.files.storage import prismhub_home
from core_encoder.files.urls import Url, named
from core_encoder.video.video_bytes import Identity, check_file, identity_of, is_inside, open_bytes

VIDEO_SUFFIXES = frozenset(
    {".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ogv", ".ts", ".webm"}
    | {".wmv"}
)
_DIGESTS = """
CREATE TABLE IF NOT EXISTS files
(path TEXT PRIMARY KEY, size INTEGER, mtime_ns INTEGER, ctime_ns INTEGER, digest TEXT) WITHOUT ROWID
"""
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


def video_digest(path: str | Path) -> str:
    """The sha256 of a video's bytes, in hexadecimal: its address in every feature store, wherever the video lies.

    Remembered in `PRISMHUB_HOME` by path, size and times, so that a second run reads no video. The time of the last
    change of status counts too: unlike that of modification, nobody can set it back. Several processes may ask at once;
    a broken or locked memory only costs the hashing. Of a remote video what the server says of its bytes stands for
    size and times; where the store keeps such a digest itself, no byte is read.

    Raises:
        UnreadableVideo: the file is missing, a folder or empty, or does not come.
    """
    path = named(os.fspath(path))
    if isinstance(path, Url) or is_inside(path):
        return _digest_elsewhere(path if isinstance(path, Url) else str(Path(path).absolute()))
    path = str(Path(path).absolute())
    status = check_file(path)
    known = _remembered(path, Identity.of_file(status))
    if known:
        return known
    with open(path, "rb") as file:  # noqa: PTH123
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        after = os.fstat(file.fileno())
    if _is_settled(Identity.of_file(status)) and Identity.of_file(after) == Identity.of_file(status):
        _remember(path, Identity.of_file(status), digest)
    return digest


def known_digest(path: str | Path) -> str | None:
    """`video_digest` where nothing has to be read for it but files of this machine; None for other bytes not seen yet.

    Raises:
        UnreadableVideo: the file is missing, a folder or empty, or its server cannot be reached.
    """
    path = named(os.fspath(path))
    if not isinstance(path, Url):
        return video_digest(path)
    return _hashed_here.get(path.whole) or _remembered(path, identity_of(path))


_hashed_here: dict[str, str] = {}  # of remote files whose servers do not say whether they have changed


def _digest_elsewhere(path: str) -> str:
    """The digest of what is no file of its own here, read where it has to be."""
    whole = path.whole if isinstance(path, Url) else path
    if whole in _hashed_here:
        return _hashed_here[whole]
    known = _remembered(path, identity_of(path))
    if known:
        return known
    with open_bytes(path) as video:
        digest = video.digest()
        if video.identity is None:
            _hashed_here[whole] = digest
        elif isinstance(path, Url) or _is_settled(video.identity):
            _remember(path, video.identity, digest)
    return digest


def _is_settled(identity: Identity) -> bool:
    """What was written to a moment ago may be again, unseen, before the file system's clock ticks."""
    return time.time_ns() - identity.mtime_ns > _COARSEST_CLOCK_NS


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


def _remembered(path: str, identity: Identity | None) -> str | None:
    if identity is None:
        return None
    try:
        with closing(_memory()) as memory:
            row = memory.execute(
                "SELECT digest FROM files WHERE path = ? AND size = ? AND mtime_ns = ? AND ctime_ns = ?",
                (_as_text(path), *identity),
            ).fetchone()
    except (sqlite3.Error, OSError) as error:
        log.debug("digest memory cannot be read: %s", error)
        return None
    return str(row[0]) if row and len(str(row[0])) == 64 else None


def _remember(path: str, identity: Identity, digest: str) -> None:
    try:
        with closing(_memory()) as memory, memory:
            memory.execute(
                "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?)",
                (_as_text(path), *identity, digest),
            )
    except (sqlite3.Error, OSError) as error:
        _say_forgetful(prismhub_home() / "video_digests.sqlite", str(error))


@functools.cache  # once, not for every video
def _say_forgetful(file: Path, reason: str) -> None:
    log.warning("video digests are not remembered: %s: %s", file, reason)
