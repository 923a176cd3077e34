"""An archive as one folder: scenes, findings, speech and words in SQLite, vectors in a file beside it.

The file of vectors grows and is fsynced before the transaction that names its new rows commits. So a reader sees a
video with all its scenes or not at all, and a run that is killed leaves nothing but rows that nobody names.
"""

from __future__ import annotations

import json
import logging
import os
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from core_encoder.errors import InputError
from core_encoder.files.storage import half_written
from prismhub.archive import schema
from prismhub.archive.folder_reader import FROM, VIDEO, FolderReader
from prismhub.archive.scenes import ArchivedVideo, ArchiveRecord, Cue, Finding
from prismhub.archive.vectors import APPROXIMATE_FROM, Floats, VectorFile, build_graph, compact, has_usearch
from prismhub.archive.words import name_words, spaced

log = logging.getLogger(__name__)
MOST_BESIDE = 20_000  # rows that the approximate index may lack
_MERGED_PAGES = 2000  # of the full text in one go: as much as a second brings
_NO_VECTORS = {"rows": 0, "expansion": 0, "held": 0}
_AT_ONCE = 5000  # scenes that are in memory
_TRIALS = 64  # scenes whose neighbours tell how well the approximate index finds


class FolderIndex(FolderReader):
    """The `SceneIndex` in a folder, to write and to read."""

    writes = True

    @classmethod
    def create(cls, folder: str | Path, record: ArchiveRecord) -> FolderIndex:
        """Open the archive in `folder` for writing; made if it is not there. Its record becomes `record`.

        Raises:
            InputError: it holds vectors of another encoder or space, or the folder cannot be written to.
        """
        folder = Path(folder).expanduser()
        index = cls(folder, schema.create(folder))
        index.describe(record)
        return index

    def describe(self, record: ArchiveRecord) -> None:
        """Keep another record: other roots, more adapters or fewer; what one that is no more in it said is forgotten.

        Raises:
            InputError: its vectors are others than those of the scenes here.
        """
        with self._writing():
            if self._saved("record") is None:
                self._save("identity", uuid.uuid4().hex)
                self._save("vectors", {"number": 1} | _NO_VECTORS)
            elif len(self):
                self._check_vectors(record)
            else:  # what was left of other vectors may be of another width
                self._save("vectors", {"number": self._saved("vectors")["number"] + 1} | _NO_VECTORS)
                self._run("DELETE FROM background")
            before = set() if self._saved("record") is None else set(self.record.adapters)
            self._save("record", asdict(record))
            for gone in before - set(record.adapters):
                self._forget_adapter(gone)

    def upsert(self, videos: Sequence[ArchivedVideo]) -> None:
        """Put these videos in the place of those of their root and path, all of them at once.

        Raises:
            InputError: a vector is of another width than the archive's, a video comes twice, or the disk is full.
        """
        keys = [(video.root, video.path) for video in videos]
        if len(set(keys)) < len(keys):
            raise InputError("a video comes twice in one upsert")
        with self._writing():
            self._delete(keys)
            file = self._file()
            vectors = [scene.vector for video in videos for scene in video.scenes if len(scene.vector)]
            if vectors:
                self._save_file(file.append(np.stack(vectors).astype(np.float32)))
            row = file.rows
            for video in videos:
                row = self._insert(video, row)

    def add_findings(
        self, root: str, path: str, adapter: str, digest: str, findings: Sequence[Sequence[Finding]]
    ) -> None:
        """Keep what an adapter says of every scene of a video, in order, and its digest in the video's `made_of`.

        What it said before is forgotten; nothing else of the video changes.

        Raises:
            InputError: there is no such video, or it has another number of scenes.
        """
        with self._writing():
            key = schema.as_stored(root), schema.as_stored(path)
            found = self._all(f"SELECT id, made_of FROM videos v WHERE {VIDEO}", key)
            if not found:
                raise InputError(f"{path}: no such video in the archive")
            scenes = [row[0] for row in self._all("SELECT id FROM scenes WHERE video = ? ORDER BY place", found[0][:1])]
            if len(scenes) != len(findings):
                raise InputError(f"{path}: has {len(scenes)} scenes, and {len(findings)} were answered")
            for scene, said in zip(scenes, findings, strict=True):
                self._run("DELETE FROM findings WHERE scene = ? AND adapter = ?", (scene, adapter))
                self._insert_findings(scene, said)
                self._rewrite_words(scene, path)
            made_of = json.loads(found[0][1]) | {f"adapter {adapter}": digest}
            self._run("UPDATE videos SET made_of = ? WHERE id = ?", (json.dumps(made_of), found[0][0]))

    def delete(self, videos: Sequence[tuple[str, str]]) -> int:
        """Take the videos of these roots and paths out; how many there were."""
        with self._writing():
            return self._delete(videos)

    def keep_background(self, texts: Floats, best: Floats, number: int, rows: int) -> None:
        """Keep what is known of unrelated texts, so that no search has to find it out again."""
        with self._writing():
            self._run(
                "INSERT OR REPLACE INTO background VALUES (1, ?, ?, ?, ?)",
                (texts.astype("<f4").tobytes(), best.astype("<f4").tobytes(), number, rows),
            )

    def optimize(self) -> None:
        """Make searching fast again after many changes; to be called when an ingestion ends.

        Rows that nobody names are thrown out once they are the most, and a large archive gets an approximate index.
        """
        with self._writing():
            file = self._file()
            named = self._one("SELECT count(*) FROM scenes WHERE vector_row IS NOT NULL")
            if 2 * named < file.rows:
                kept = np.array(
                    self._all("SELECT vector_row FROM scenes WHERE vector_row NOT NULL ORDER BY 1"), np.int64
                )
                file = compact(file, kept.reshape(-1))
                self._run("CREATE TEMP TABLE moved (old INTEGER PRIMARY KEY, new INTEGER)")
                self._many("INSERT INTO moved VALUES (?, ?)", zip(kept.reshape(-1).tolist(), range(named), strict=True))
                self._run("UPDATE scenes SET vector_row = -1 - vector_row WHERE vector_row NOT NULL")
                self._run(
                    "UPDATE scenes SET vector_row = (SELECT new FROM moved WHERE old = -1 - vector_row) "
                    "WHERE vector_row NOT NULL"
                )
                self._run("DROP TABLE moved")
                self._save_file(file)
        self._throw_out_leftovers(file)
        self._checkpoint()  # what the graph holds must not be taken back by a power cut
        held = self._saved("vectors")["held"]  # what the graph lacks is looked at one by one: a few are fast
        if file.rows >= APPROXIMATE_FROM and file.rows - held > MOST_BESIDE:
            if has_usearch():
                self._approximate()
            else:
                log.warning(
                    "%d scenes are searched one by one, which is slow; an approximate index needs usearch: "
                    "pip install 'prismhub[archive]', then index again",
                    file.rows,
                )
        with self._writing():
            self._run("INSERT INTO words (words, rank) VALUES ('merge', ?)", (_MERGED_PAGES,))
        self._checkpoint()

    def _checkpoint(self) -> None:
        """Bring everything from the log into the database, durably, as far as no reader is in the way."""
        with schema.saying_what_is_wrong(self.folder / schema.DATABASE):
            self._run("PRAGMA busy_timeout = 1000")  # a reader may stay long
            self._run("PRAGMA wal_checkpoint (TRUNCATE)")
            self._run(f"PRAGMA busy_timeout = {round(1000 * schema.BUSY_S)}")

    def _throw_out_leftovers(self, file: VectorFile) -> None:
        """Remove vectors before these, which readers that have them open keep, and what killed runs have left."""
        half = [path for path, writer in half_written(self.folder) if writer != os.getpid()]
        for path in [*self.folder.glob("vectors-*.*"), *half]:
            if path not in (file.path, file.graph_path):
                path.unlink(missing_ok=True)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with schema.saying_what_is_wrong(self.folder / schema.DATABASE):
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._database.execute("COMMIT")
            except BaseException:
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
                raise

    def _check_vectors(self, record: ArchiveRecord) -> None:
        ours = self.record
        if (ours.encoder, ours.fingerprint) != (record.encoder, record.fingerprint):
            raise InputError(
                f"{self.folder}: its vectors are of encoder {ours.encoder!r} ({ours.fingerprint[:12]}), not of "
                f"{record.encoder!r} ({record.fingerprint[:12]}): name that encoder, or another folder"
            )
        spaces = [(one.space, one.width, dict(one.features)) for one in (ours, record)]
        prints = [one.adapters[one.space].fingerprint if one.space in one.adapters else "" for one in (ours, record)]
        if spaces[0] != spaces[1] or prints[0] != prints[1]:
            raise InputError(
                f"{self.folder}: its vectors are of space {ours.space or 'video'!r} and other settings than these: "
                "leave the settings as they were, or name another folder"
            )

    def _delete(self, keys: Iterable[tuple[str, str]]) -> int:
        count = 0
        for root, path in keys:
            key = schema.as_stored(root), schema.as_stored(path)
            scenes = self._all(f"SELECT s.id FROM {FROM} WHERE {VIDEO}", key)
            self._many("DELETE FROM words WHERE rowid = ?", scenes)
            done = self._database.execute(f"DELETE FROM videos AS v WHERE {VIDEO}", key)
            count += done.rowcount
        return count

    def _forget_adapter(self, name: str) -> None:
        last = 0
        while scenes := self._all(
            f"SELECT s.id, v.path FROM {FROM} WHERE s.id > ? AND EXISTS "
            "(SELECT 1 FROM findings f WHERE f.scene = s.id AND f.adapter = ?) ORDER BY s.id LIMIT ?",
            (last, name, _AT_ONCE),
        ):
            for scene, path in scenes:
                self._run("DELETE FROM findings WHERE scene = ? AND adapter = ?", (scene, name))
                self._rewrite_words(scene, path)
            last = scenes[-1][0]
        for one, made_of in self._all("SELECT id, made_of FROM videos"):
            left = {part: digest for part, digest in json.loads(made_of).items() if part != f"adapter {name}"}
            self._run("UPDATE videos SET made_of = ? WHERE id = ?", (json.dumps(left), one))

    def _insert(self, video: ArchivedVideo, row: int) -> int:
        """Put a video in whose first vector is at `row`; the row after its last one."""
        paths = map(schema.as_stored, (video.root, video.path, PurePosixPath(video.path).name))
        facts = (video.duration_s, video.width, video.height, video.fps, video.recorded)
        done = self._database.execute(
            "INSERT INTO videos (root, path, name, made_of, duration_s, width, height, fps, recorded) "
            f"VALUES ({schema.PATH}, {schema.PATH}, {schema.PATH}, ?, ?, ?, ?, ?, ?)",
            (*paths, json.dumps(dict(video.made_of)), *facts),
        )
        number = done.lastrowid
        for place, scene in enumerate(video.scenes):
            own = row if len(scene.vector) else None
            row += own is not None
            done = self._database.execute(
                "INSERT INTO scenes (video, place, start_s, end_s, vector_row) VALUES (?, ?, ?, ?, ?)",
                (number, place, scene.start_s, scene.end_s, own),
            )
            one = done.lastrowid
            assert one is not None
            self._insert_findings(one, scene.findings)
            self._many(
                "INSERT INTO cues (scene, start_s, end_s, text) VALUES (?, ?, ?, ?)",
                [(one, cue.start_s, cue.end_s, cue.text) for cue in scene.speech],
            )
            if scene.thumbnail:
                self._run("INSERT INTO thumbnails VALUES (?, ?)", (one, scene.thumbnail))
            self._insert_words(one, video.path, scene.findings, scene.speech)
        return row

    def _insert_findings(self, scene: int, findings: Sequence[Finding]) -> None:
        self._many(
            "INSERT INTO findings (scene, adapter, label, score, text, start_s, end_s) VALUES (?, ?, ?, ?, ?, ?, ?)",
            [(scene, one.adapter, one.label, one.score, one.text, one.start_s, one.end_s) for one in findings],
        )

    def _insert_words(self, scene: int, path: str, findings: Iterable[Finding], cues: Iterable[Cue]) -> None:
        findings = list(findings)
        captions = "\n".join(spaced(one.text) for one in findings if one.text)
        labels = "\n".join(dict.fromkeys(spaced(one.label) for one in findings if one.label))
        speech = "\n".join(dict.fromkeys(spaced(cue.text) for cue in cues))
        self._run(
            "INSERT INTO words (rowid, captions, labels, speech, names) VALUES (?, ?, ?, ?, ?)",
            (scene, captions, labels, speech, name_words(path)),
        )

    def _rewrite_words(self, scene: int, path: str) -> None:
        self._run("DELETE FROM words WHERE rowid = ?", (scene,))
        self._insert_words(scene, path, *self._said_of([scene])[scene])

    def _approximate(self) -> None:
        """Bring the approximate index up to date; one transaction says how to use it once it is there."""
        with self.snapshot():
            file, background = self._file(), self.background()
        places = np.random.default_rng(0).integers(file.rows, size=_TRIALS)
        trials = [file.mapped()[np.sort(places)].astype(np.float32), *([] if background is None else [background[0]])]
        expansion = build_graph(file, np.concatenate(trials))
        with self._writing():
            saved = self._saved("vectors")
            if saved["number"] == file.number:
                self._save("vectors", saved | {"expansion": expansion, "held": file.rows})

    def _save_file(self, file: VectorFile) -> None:
        saved = self._saved("vectors")
        graph = {} if saved["number"] == file.number else {"expansion": 0, "held": 0}
        self._save("vectors", saved | {"number": file.number, "rows": file.rows} | graph)

    def _save(self, name: str, value: Any) -> None:
        self._run("INSERT OR REPLACE INTO archive VALUES (?, ?)", (name, json.dumps(value)))
