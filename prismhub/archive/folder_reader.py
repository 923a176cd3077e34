"""Reading an archive that lies in a folder: its scenes, and the search in them.

Whoever reads sees one state of it, whatever another process writes meanwhile: SQLite's snapshot names the rows of the
file of vectors that count, and those never change.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from core_encoder.errors import InputError
from prismhub.archive import schema
from prismhub.archive.filters import Filter
from prismhub.archive.scenes import AdapterRecord, ArchivedVideo, ArchiveRecord, Cue, Finding, Scene
from prismhub.archive.vectors import Floats, Rows, VectorFile, VectorSearch
from prismhub.archive.words import WordQuery, frequencies, match_of, quoted, weights_of

Opened = TypeVar("Opened", bound="FolderReader")
FROM = "scenes s JOIN videos v ON v.id = s.video"
VIDEO = f"v.root = {schema.PATH} AND v.path = {schema.PATH}"
_AT_ONCE = 500  # ids in one statement
_SCANNED = 20_000  # scenes with a word are gone through one by one


@dataclass(frozen=True, eq=False)
class SceneQuery:
    """What is asked of an index: a unit vector `(E,)` to be near to, words to hold, a filter; each may be missing.

    `depth` is how many scenes each of the two rankings holds at most.
    """

    vector: Floats | None = None
    words: WordQuery | None = None
    where: Filter | None = None
    depth: int = 200


@dataclass(frozen=True)
class Rankings:
    """The scenes that answer a query, by vectors and by words, each the best first.

    `by_vector` holds cosines, `by_words` BM25 (greater is better); `held` says, for each of the latter, which share of
    the query its words are, rare words weighing more. `allowed` counts the scenes that the filter and the phrases let
    through, None where there are neither.
    """

    by_vector: tuple[tuple[int, float], ...]
    by_words: tuple[tuple[int, float], ...]
    held: tuple[float, ...] = ()
    allowed: int | None = None


@dataclass(frozen=True, eq=False)
class KeptScene:
    """A scene as it is kept: its number in the index, its video, and the scene itself; `place` counts from 0."""

    id: int
    video: ArchivedVideo  # without its scenes
    place: int
    scene: Scene


class FolderReader:
    """An archive in a folder, to read; for one thread, as SQLite's connections are.

    Reading sees one state of the archive within `with index.snapshot():`, and each call by itself sees one, too.
    """

    writes = False

    def __init__(self, folder: Path, database: sqlite3.Connection) -> None:
        self.folder = folder
        self._database = database
        self._search: tuple[tuple[VectorFile, int], VectorSearch] | None = None

    @classmethod
    def open(cls: type[Opened], folder: str | Path, wait: bool = True) -> Opened:
        """Open the archive in `folder`; without `wait`, writing fails at once where another process writes.

        Raises:
            InputError: there is none, or it was written by a newer prismhub.
        """
        folder = Path(folder).expanduser()
        index = cls(folder, schema.open_existing(folder, cls.writes, wait))
        if index._saved("record") is None:
            raise schema.UnfinishedArchive(folder)
        return index

    def close(self) -> None:
        """Let go of the files."""
        self._database.close()
        self._search = None

    def __enter__(self: Opened) -> Opened:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        return self._one("SELECT count(*) FROM scenes")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.folder)!r}: {len(self)} scenes, encoder {self.record.encoder!r})"

    @property
    def identity(self) -> str:
        """A name that no other archive has."""
        return str(self._saved("identity"))

    @property
    def record(self) -> ArchiveRecord:
        """What holds for all scenes."""
        saved = self._saved("record")
        adapters = {name: AdapterRecord(**one) for name, one in saved.pop("adapters").items()}
        return ArchiveRecord(**saved | {"adapters": adapters, "roots": tuple(saved["roots"])})

    def made_of(self) -> Mapping[tuple[str, str], Mapping[str, str]]:
        """What every video was made of, by its root and path."""
        rows = self._all("SELECT root, path, made_of FROM videos ORDER BY root, path")
        return {(root, path): json.loads(made_of) for root, path, made_of in rows}

    def video(self, root: str, path: str) -> ArchivedVideo | None:
        """A video as it was put in."""
        with self.snapshot():
            key = schema.as_stored(root), schema.as_stored(path)
            ids = self._all(f"SELECT s.id FROM {FROM} WHERE {VIDEO} ORDER BY s.place", key)
            kept = self.scenes([row[0] for row in ids], thumbnails=True)
            if kept:
                vectors = self.vectors([one.id for one in kept])
                scenes = [
                    replace(one.scene, vector=vector) if vector.any() else one.scene
                    for one, vector in zip(kept, vectors, strict=True)
                ]
                return replace(kept[0].video, scenes=tuple(scenes))
            rows = self._all(f"SELECT * FROM videos v WHERE {VIDEO}", key)
            return _video(rows[0]) if rows else None

    def search(self, query: SceneQuery) -> Rankings:
        """The scenes that answer a query, by vectors and by words, each ranking the best first.

        Raises:
            InputError: the vector is of another width than the archive's.
        """
        with self.snapshot():
            if query.vector is not None:
                self._searching()
            filtered = query.where is not None or bool(query.words and query.words.phrases)
            allowed = self._fill_allowed(query) if filtered else None
            by_vector = () if query.vector is None else self._by_vector(query.vector, query.depth, filtered)
            counts = {} if query.words is None else frequencies(self._database, query.words.words)
            by_words = self._by_words(counts, query.depth, filtered)
            held = self._held(counts, [scene for scene, _ in by_words])
            return Rankings(tuple(by_vector), tuple(by_words), held, allowed)

    def scenes(self, ids: Sequence[int], thumbnails: bool = False) -> list[KeptScene]:
        """Scenes by their numbers, in this order; without vectors, and with thumbnails only where asked for.

        Numbers that are not there are left out.
        """
        with self.snapshot():
            found: dict[int, KeptScene] = {}
            for some in _chunks(ids):
                found |= {one.id: one for one in self._read_scenes(some, thumbnails)}
            return [found[one] for one in ids if one in found]

    def places(self, ids: Sequence[int]) -> dict[int, tuple[int, int]]:
        """Which video scenes are of, by a number that each video has, and their places in it."""
        found: dict[int, tuple[int, int]] = {}
        with self.snapshot():
            for some in _chunks(ids):
                marks = ", ".join("?" * len(some))
                rows = self._all(f"SELECT id, video, place FROM scenes WHERE id IN ({marks})", some)
                found |= {one: (video, place) for one, video, place in rows}
        return found

    def every_scene(self, where: Filter | None = None) -> list[int]:
        """The numbers of all scenes, or of those that a filter lets through, by video and time."""
        condition, values = ("1", ()) if where is None else (where.sql, where.values)
        rows = self._all(f"SELECT s.id FROM {FROM} WHERE {condition} ORDER BY v.root, v.path, s.place", values)
        return [row[0] for row in rows]

    def videos(self) -> int:
        """How many videos there are."""
        return self._one("SELECT count(*) FROM videos")

    def scenes_beside(self, scene: int) -> list[tuple[int, float, float]]:
        """All scenes of a scene's video, in order: number, start and end in seconds."""
        among = "video = (SELECT video FROM scenes WHERE id = ?)"
        rows = self._all(f"SELECT id, start_s, end_s FROM scenes WHERE {among} ORDER BY place", (scene,))
        return [(number, start_s, end_s) for number, start_s, end_s in rows]

    def pictured(self, ids: Sequence[int]) -> set[int]:
        """Which of these scenes have a thumbnail."""
        found: set[int] = set()
        for some in _chunks(ids):
            marks = ", ".join("?" * len(some))
            found |= {row[0] for row in self._all(f"SELECT scene FROM thumbnails WHERE scene IN ({marks})", some)}
        return found

    def frequent_labels(self, most: int) -> list[str]:
        """The labels that adapters gave to the most scenes, the most frequent first."""
        rows = self._all(
            "SELECT label FROM findings WHERE label != '' GROUP BY label COLLATE NOCASE ORDER BY count(*) DESC, label "
            "LIMIT ?",
            (most,),
        )
        return [row[0] for row in rows]

    def scores_of(self, adapter: str, where: Filter | None = None) -> Iterator[tuple[int, dict[str, float]]]:
        """What an adapter says of every scene it said something of: its labels, or captions, with their scores."""
        condition, values = ("1", ()) if where is None else (where.sql, where.values)
        rows = self._database.execute(
            f"SELECT g.scene, g.label || g.text, max(g.score) FROM {FROM} JOIN findings g ON g.scene = s.id "
            f"WHERE g.adapter = ? AND {condition} GROUP BY g.scene, g.label || g.text ORDER BY g.scene",
            (adapter, *values),
        )
        for scene, several in groupby(rows, key=lambda row: int(row[0])):
            yield scene, {name: score for _, name, score in several}

    def vectors(self, ids: Sequence[int]) -> Floats:
        """The vectors (n, E) of scenes by their numbers; zeros where one has none."""
        with self.snapshot():
            search = self._searching()
            out = np.zeros((len(ids), search.file.width), np.float32)
            rows: dict[int, int] = {}
            for some in _chunks(ids):
                marks = ", ".join("?" * len(some))
                rows |= dict(
                    self._all(f"SELECT id, vector_row FROM scenes WHERE id IN ({marks}) AND vector_row NOT NULL", some)
                )
            places = [place for place, one in enumerate(ids) if one in rows]
            out[places] = search.values[[rows[ids[place]] for place in places]]
            return out

    def background(self) -> tuple[Floats, Floats, int, int] | None:
        """What is kept of unrelated texts (see `Background`): vectors, best scores, number of the file, rows of it."""
        kept = self._all("SELECT texts, best, file, vector_rows FROM background")
        if not kept:
            return None
        texts, best, number, rows = kept[0]
        values = np.frombuffer(best, "<f4").copy()
        return np.frombuffer(texts, "<f4").reshape(len(values), -1).copy(), values, number, rows

    def vector_search(self) -> VectorSearch:
        """Search among the rows of all vectors, of scenes that are gone among them."""
        with self.snapshot():
            return self._searching()

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """One state of the archive while the block runs, whatever others write meanwhile."""
        if self._database.in_transaction:
            yield
            return
        with schema.saying_what_is_wrong(self.folder / schema.DATABASE):
            self._database.execute("BEGIN")
            try:
                yield
            finally:
                self._database.execute("ROLLBACK")

    def _said_of(self, scenes: Sequence[int]) -> dict[int, tuple[list[Finding], list[Cue]]]:
        """What adapters and people say in scenes."""
        said: dict[int, tuple[list[Finding], list[Cue]]] = {scene: ([], []) for scene in scenes}
        marks = ", ".join("?" * len(scenes))
        columns = "scene, adapter, label, score, text, start_s, end_s"
        for scene, *values in self._all(f"SELECT {columns} FROM findings WHERE scene IN ({marks}) ORDER BY id", scenes):
            said[scene][0].append(Finding(*values))
        columns = "scene, start_s, end_s, text"
        for scene, *values in self._all(f"SELECT {columns} FROM cues WHERE scene IN ({marks}) ORDER BY id", scenes):
            said[scene][1].append(Cue(*values))
        return said

    def _read_scenes(self, ids: Sequence[int], thumbnails: bool) -> Iterator[KeptScene]:
        marks = ", ".join("?" * len(ids))
        said = self._said_of(ids)
        pictures = (
            dict(self._all(f"SELECT scene, jpeg FROM thumbnails WHERE scene IN ({marks})", ids)) if thumbnails else {}
        )
        rows = self._all(f"SELECT s.id, s.place, s.start_s, s.end_s, v.* FROM {FROM} WHERE s.id IN ({marks})", ids)
        for number, place, start_s, end_s, *video in rows:
            findings, cues = said[number]
            picture = pictures.get(number, b"")
            scene = Scene(start_s, end_s, findings=tuple(findings), speech=tuple(cues), thumbnail=picture)
            yield KeptScene(number, _video(video), place, scene)

    def _fill_allowed(self, query: SceneQuery) -> int:
        """Write the scenes that filter and phrases let through to the table `allowed`; how many they are."""
        conditions = ["1"]
        values: list[str | float] = []
        if query.where is not None:
            conditions.append(query.where.sql)
            values += query.where.values
        if query.words is not None and query.words.phrases:
            conditions.append("s.id IN (SELECT rowid FROM words WHERE words MATCH ?)")
            values.append(query.words.phrase_match)
        self._run("CREATE TEMP TABLE IF NOT EXISTS allowed (scene INTEGER PRIMARY KEY, vector_row INTEGER)")
        self._run("DELETE FROM temp.allowed")
        done = self._database.execute(
            f"INSERT INTO temp.allowed SELECT s.id, s.vector_row FROM {FROM} WHERE {' AND '.join(conditions)}", values
        )
        return done.rowcount

    def _by_vector(self, vector: Floats, depth: int, filtered: bool) -> list[tuple[int, float]]:
        search = self._searching()
        if vector.shape != (search.file.width,):
            raise InputError(f"{self.folder}: holds vectors of {search.file.width} numbers, not {vector.shape[-1]}")
        allowed: Rows | None = None
        if filtered:
            rows = self._all("SELECT vector_row FROM temp.allowed WHERE vector_row NOT NULL ORDER BY vector_row")
            allowed = np.fromiter((row[0] for row in rows), np.int64, len(rows))
        wanted = depth
        while True:
            found, cosines = search.nearest(vector, wanted, allowed)
            by_row: dict[int, int] = {}
            for some in _chunks(found.tolist()):
                marks = ", ".join("?" * len(some))
                by_row |= dict(self._all(f"SELECT vector_row, id FROM scenes WHERE vector_row IN ({marks})", some))
            pairs = zip(found.tolist(), cosines.tolist(), strict=True)
            hits = [(by_row[row], cosine) for row, cosine in pairs if row in by_row]
            if len(hits) >= depth or len(found) < wanted:  # else rows of scenes that are gone took the places
                return hits[:depth]
            wanted *= 4

    def _by_words(self, counts: Mapping[str, int], depth: int, filtered: bool) -> list[tuple[int, float]]:
        """Scenes and their BM25; `counts` says in how many scenes each word of the query stands."""
        match = match_of(counts, len(self))
        if not match:
            return []
        among = "AND EXISTS (SELECT 1 FROM temp.allowed a WHERE a.scene = words.rowid)" if filtered else ""
        hits = self._all(
            f"SELECT rowid, rank FROM words WHERE words MATCH ? {among} ORDER BY rank, rowid LIMIT ?", (match, depth)
        )
        return [(scene, -rank) for scene, rank in hits]

    def _held(self, counts: Mapping[str, int], scenes: Sequence[int]) -> tuple[float, ...]:
        """Which share of the query each of these scenes holds."""
        held = dict.fromkeys(scenes, 0.0)
        for word, weight in weights_of(counts, len(self)).items() if scenes else ():
            rowid = "rowid" if counts[word] > _SCANNED else "+rowid"  # look each one up, or go through them all
            for some in _chunks(scenes) if counts[word] else ():
                marks = ", ".join("?" * len(some))
                sql = f"SELECT rowid FROM words WHERE words MATCH ? AND {rowid} IN ({marks})"
                for (scene,) in self._all(sql, (quoted(word), *some)):
                    held[scene] += weight
        return tuple(held.values())

    def _searching(self) -> VectorSearch:
        """Search in the rows that count now; to be asked for before anything else is read in a snapshot."""
        file, expansion = self._file(), self._saved("vectors")["expansion"]
        if self._search is None or self._search[0] != (file, expansion):
            try:
                self._search = (file, expansion), VectorSearch(file, expansion)
            except (InputError, FileNotFoundError):  # compacted since the snapshot began; nothing was read of it yet
                if not self._database.in_transaction or self.writes:
                    raise
                self._database.execute("ROLLBACK")
                self._database.execute("BEGIN")
                file, expansion = self._file(), self._saved("vectors")["expansion"]
                self._search = (file, expansion), VectorSearch(file, expansion)
        return self._search[1]

    def _file(self) -> VectorFile:
        saved = self._saved("vectors")
        return VectorFile(self.folder, saved["number"], self.record.width, saved["rows"])

    def _saved(self, name: str) -> Any:
        rows = self._all("SELECT value FROM archive WHERE name = ?", (name,))
        return json.loads(rows[0][0]) if rows else None

    def _one(self, sql: str) -> int:
        return int(self._all(sql)[0][0])

    def _all(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with schema.saying_what_is_wrong(self.folder / schema.DATABASE):
            return self._database.execute(sql, values).fetchall()

    def _run(self, sql: str, values: Sequence[Any] = ()) -> None:
        self._database.execute(sql, values)

    def _many(self, sql: str, rows: Iterable[Sequence[Any]]) -> None:
        self._database.executemany(sql, rows)


def _video(row: Sequence[Any]) -> ArchivedVideo:
    """A row of `videos`."""
    _, root, path, _, made_of, duration_s, width, height, fps, recorded = row
    return ArchivedVideo(root, path, json.loads(made_of), duration_s, width, height, fps, recorded, ())


def _chunks(values: Sequence[int]) -> Iterator[Sequence[int]]:
    for start in range(0, len(values), _AT_ONCE):
        yield values[start : start + _AT_ONCE]
