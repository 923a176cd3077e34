"""The SQLite file of an archive: its tables, the version of its schema, and opening it. `docs/archive.md` explains
both.

SQLite keeps the version and the mark of an archive in fields of its own (`user_version`, `application_id`). The file is
in WAL mode: whoever reads sees what was there when the reading began, and never waits for the one that writes.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from core_encoder.errors import InputError
from core_encoder.files.storage import free_bytes, writing_to

DATABASE = "scenes.sqlite"
VERSION = 1
TOKENIZER = "porter unicode61 remove_diacritics 2"
_MARK = int.from_bytes(b"pris", "big")
PATH = "CAST(? AS TEXT)"  # for a path, given `as_stored`: it need not be UTF-8
_PAGE_BYTES = 1 << 16  # several, and those of the log and its index
BUSY_S = 60.0  # how long one writer waits for another

_TABLES = f"""
CREATE TABLE archive (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE videos (
    id INTEGER PRIMARY KEY, root TEXT NOT NULL, path TEXT NOT NULL, name TEXT NOT NULL, made_of TEXT NOT NULL,
    duration_s REAL NOT NULL, width INTEGER NOT NULL, height INTEGER NOT NULL, fps REAL NOT NULL,
    recorded TEXT NOT NULL, UNIQUE (root, path)
);
CREATE TABLE scenes (
    id INTEGER PRIMARY KEY AUTOINCREMENT, video INTEGER NOT NULL REFERENCES videos ON DELETE CASCADE,
    place INTEGER NOT NULL, start_s REAL NOT NULL, end_s REAL NOT NULL, vector_row INTEGER, UNIQUE (video, place)
);
CREATE UNIQUE INDEX scenes_by_row ON scenes (vector_row) WHERE vector_row IS NOT NULL;
CREATE TABLE findings (
    id INTEGER PRIMARY KEY, scene INTEGER NOT NULL REFERENCES scenes ON DELETE CASCADE, adapter TEXT NOT NULL,
    label TEXT NOT NULL, score REAL NOT NULL, text TEXT NOT NULL, start_s REAL, end_s REAL
);
CREATE INDEX findings_by_scene ON findings (scene);
CREATE INDEX findings_by_label ON findings (label COLLATE NOCASE, score) WHERE label != '';
CREATE TABLE cues (
    id INTEGER PRIMARY KEY, scene INTEGER NOT NULL REFERENCES scenes ON DELETE CASCADE,
    start_s REAL NOT NULL, end_s REAL NOT NULL, text TEXT NOT NULL
);
CREATE INDEX cues_by_scene ON cues (scene);
CREATE TABLE thumbnails (scene INTEGER PRIMARY KEY REFERENCES scenes ON DELETE CASCADE, jpeg BLOB NOT NULL);
CREATE TABLE background (
    id INTEGER PRIMARY KEY CHECK (id = 1), texts BLOB NOT NULL, best BLOB NOT NULL, file INTEGER NOT NULL,
    vector_rows INTEGER NOT NULL
);
CREATE VIRTUAL TABLE words USING fts5 (captions, labels, speech, names, tokenize = '{TOKENIZER}');
CREATE VIRTUAL TABLE word_counts USING fts5vocab (words, row);
PRAGMA application_id = {_MARK};
PRAGMA user_version = {VERSION};
"""


class UnfinishedArchive(InputError):
    """An archive that was begun, and of which nothing is recorded yet: the same command goes on."""

    def __init__(self, place: Path) -> None:
        super().__init__(f"{place}: an archive that was never finished; run prismhub index again")


def database_of(folder: str | Path) -> Path:
    """The SQLite file of the archive in `folder`.

    Raises:
        InputError: there is none.
    """
    folder = Path(folder).expanduser()
    if not (folder / DATABASE).is_file():
        what = "no archive" if folder.is_dir() else "no such folder"
        raise InputError(f"{folder}: {what}; make one with: prismhub index VIDEOS --out {folder}")
    return folder / DATABASE


def create(folder: Path) -> sqlite3.Connection:
    """Make an empty archive in `folder`, or open the one that is there, for reading and writing.

    Raises:
        InputError: the disk is full, the folder cannot be written to, or it holds something else.
    """
    with writing_to(folder):
        folder.mkdir(parents=True, exist_ok=True)
    path = folder / DATABASE
    with saying_what_is_wrong(path):
        database = _connect(path, "rwc")
        _keep_a_log(database)
        database.execute("BEGIN IMMEDIATE")  # two that come at once make it once
        if database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0:
            for statement in _TABLES.split(";"):
                database.execute(statement)
        database.execute("COMMIT")
        check_version(database, path)
    return database


def _keep_a_log(database: sqlite3.Connection) -> None:
    """Have readers see whole changes beside a writer; SQLite itself does not wait here for one who begins to write."""
    until = time.monotonic() + BUSY_S
    while True:
        try:
            database.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > until:
                raise
        time.sleep(0.02)


def open_existing(folder: Path, writing: bool, wait: bool = True) -> sqlite3.Connection:
    """Open the archive in `folder`; one in a place that cannot be written to is read as it lies there.

    Raises:
        InputError: there is none, or it is of a newer version.
    """
    path = database_of(folder)
    with saying_what_is_wrong(path):
        database = _connect(path, "rw" if writing else "ro", BUSY_S if wait else 0.0)
        try:
            check_version(database, path)
        except sqlite3.OperationalError as error:
            if writing or "locked" in str(error):
                raise
            database.close()  # WAL mode writes beside the file even to read it: nobody can be writing here
            database = _connect(path, "ro&immutable=1")
            check_version(database, path)
    return database


def check_version(database: sqlite3.Connection, path: Path) -> None:
    """Refuse what is no archive, and one that a newer prismhub wrote.

    Raises:
        InputError: which of both.
    """
    mark = database.execute("PRAGMA application_id").fetchone()[0]
    version = database.execute("PRAGMA user_version").fetchone()[0]
    if not mark and not version and not database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        raise UnfinishedArchive(path)
    if mark != _MARK:
        raise InputError(f"{path}: a database of something else, no archive of prismhub")
    if version > VERSION:
        raise InputError(
            f"{path}: an archive of schema {version}, and this prismhub knows up to {VERSION}: update prismhub"
        )


def as_stored(path: str) -> bytes:
    """A path as the value of `PATH` in a statement."""
    return path.encode("utf-8", "surrogateescape")


def _is_full(path: Path) -> bool:
    """Whether there is no room for another page: what SQLite maps beside its file fails as an I/O error then."""
    return free_bytes(path.parent) < _PAGE_BYTES


@contextmanager
def saying_what_is_wrong(path: Path) -> Iterator[None]:
    """Say in one line what SQLite cannot do with the file at `path`.

    Raises:
        InputError: the disk is full, it cannot be written or read, another process writes, or it is damaged.
    """
    try:
        yield
    except sqlite3.DatabaseError as error:
        said = str(error)
        if "disk is full" in said or ("disk I/O" in said and _is_full(path)):
            raise InputError(f"{path}: the disk is full; free space and run the same command again") from error
        if "locked" in said:
            raise InputError(f"{path}: another process writes to this archive; try again when it is done") from error
        if "readonly" in said or "unable to open" in said or "disk I/O" in said:
            raise InputError(f"{path}: cannot be opened or written ({said})") from error
        if "not a database" in said or "malformed" in said or "no such table" in said:
            raise InputError(
                f"{path}: damaged ({said}); remove its folder, and make it anew with prismhub index"
            ) from error
        raise


def _connect(path: Path, mode: str, busy_s: float = BUSY_S) -> sqlite3.Connection:
    address = f"{path.absolute().as_uri()}?mode={mode}"
    database = sqlite3.connect(address, uri=True, timeout=busy_s, isolation_level=None)
    database.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")  # names of files need not be UTF-8
    database.execute("PRAGMA foreign_keys = ON")
    database.execute("PRAGMA synchronous = NORMAL")  # in WAL mode a power cut may cost the last videos, never the file
    database.execute("PRAGMA temp_store = MEMORY")
    database.execute("PRAGMA mmap_size = 1073741824")
    return database
