"""A search: words or an example become a query, the index ranks scenes, and those above the background are answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from core_encoder.clip_plan import Clip
from core_encoder.errors import InputError
from core_encoder.files.storage import is_file
from prismhub.archive.archive_space import ArchiveSpace
from prismhub.archive.background import Background
from prismhub.archive.filters import Filter, parse_filter
from prismhub.archive.folder_reader import FolderReader, Rankings, SceneQuery
from prismhub.archive.found_scenes import Found, FoundScene
from prismhub.archive.query_settings import QuerySettings
from prismhub.archive.ranking import Answer, Ranked, fold, fuse
from prismhub.archive.schema import database_of
from prismhub.archive.words import WordQuery
from prismhub.progress import SILENT, Show
from prismhub.settings import RunningSettings

if TYPE_CHECKING:
    from adapters.hub import Hub

_DEPTH = 200  # scenes of a ranking that are fused
_HELD = 0.5  # share of a text that a scene's words must be where its looks count, too


class ArchiveSearch:
    """An archive that is open for searching; its encoder is loaded when a query first needs it.

        with ArchiveSearch("archive") as archive:
            archive.find(QuerySettings(archive="archive", text="a red circle moving left"))

    For one thread.
    """

    def __init__(
        self,
        folder: str | Path,
        running: RunningSettings | None = None,
        show: Show = SILENT,
        hub: Hub | None = None,
        thumbnails: bool = True,
    ) -> None:
        """Open the archive in `folder`; what `hub` has loaded is not loaded again.

        Raises:
            InputError: there is none, or it was written by a newer prismhub.
        """
        self._file = _file_of(folder)
        self.index = FolderReader.open(folder)
        self._running, self._hub = running, hub
        self.space = ArchiveSpace(folder, self.index.record, running, hub)
        self._show, self._thumbnails = show, thumbnails
        self._background: Background | None = None

    def __enter__(self) -> ArchiveSearch:
        return self

    def __exit__(self, *_: object) -> None:
        self.index.close()

    def refresh(self) -> None:
        """See the archive as it lies there now, also where its folder was made anew since it was opened.

        Raises:
            InputError: there is none any more.
        """
        file = _file_of(self.index.folder)
        if file != self._file:
            fresh = FolderReader.open(self.index.folder)
            if fresh.identity != self.index.identity:
                self._background = None
            self.index.close()
            self.index, self._file = fresh, file
        if not self.space.is_of(self.index.record):
            self.space = ArchiveSpace(self.index.folder, self.index.record, self._running, self._hub)
            self._background = None

    def find(
        self, settings: QuerySettings, *, example: NDArray[np.float32] | None = None, where: Filter | None = None
    ) -> Found:
        """The scenes that answer a query, the best first; none where nothing matches.

        `example` is the vector of what the query calls `like`, and `where` its filter, where the caller has them.

        Raises:
            InputError: a filter that cannot be read, an example that cannot, another encoder than the archive's, or a
                text that its text tower does not know, in mode vector.
        """
        if where is None and settings.where is not None:
            where = parse_filter(settings.where)
        words = None if settings.text is None else WordQuery.parse(settings.text)
        if not len(self.index):
            return Found(settings.asked, (), notes=(f"{settings.archive}: the archive holds no scene",))
        vector, notes = self._vector_of(settings, words) if example is None else (example, [])
        if vector is None and words is None:
            return self._listed(settings, where)
        with self.index.snapshot():
            asked = None if settings.mode == "vector" and not (words and words.phrases) else words
            found = self.index.search(SceneQuery(vector, asked, where, max(_DEPTH, 4 * settings.top)))
            if settings.mode == "vector":
                found = replace(found, by_words=(), held=())
            background = self._open_background() if vector is not None and settings.like is None else None
            kept = found if background is None else self._above(found, vector, background)
            rankings = self._rankings(settings, kept, vector is not None, words is not None)
            answers = self._answers(settings, rankings, found)
            if answers or found.allowed == 0:
                return Found(settings.asked, tuple(answers), notes=tuple(notes))
            anyway = self._rankings(settings, found, vector is not None, words is not None)
            nearest = tuple(self._answers(settings, anyway, found))
            return Found(settings.asked, nearest if settings.anyway else (), nearest, tuple(notes))

    def _vector_of(self, settings: QuerySettings, words: WordQuery | None) -> tuple[Any, list[str]]:
        """The vector of the query, None where it has none, and what is to be said of that."""
        if settings.like is not None:
            if not is_file(settings.like):
                raise InputError(f"{settings.like}: no such file")
            clip = Clip(str(settings.like), settings.start or 0.0, settings.end)
            return self.space.example(clip, settings.reading), []
        if words is None or settings.mode == "text" or not words.text:
            return None, []
        encoder = self.index.record.encoder
        if not self.space.knows_words:
            why = f"encoder {encoder!r} knows no words, and the archive has no adapter of videos and texts"
        elif not self.space.knows(words.text):
            why = f"the text tower of {encoder!r} knows none of these words"
        else:
            return self.space.texts([words.text])[0], []
        if settings.mode == "vector":
            raise InputError(f"{why}: search with --mode text, or by example with --like")
        return None, [f"{why}: searching in speech, captions, labels and names"]

    def _open_background(self) -> Background:
        """What unrelated texts reach in the archive as it is now; kept in it, where it can be written to."""
        before = self._background or Background.of(self.index, self.space.texts, self._show)
        self._background = before.up_to_date(self.index)
        if self._background is not before:
            self._background.keep(self.index.folder)
        return self._background

    def _above(self, found: Rankings, vector: Any, background: Background) -> Rankings:
        """Only the scenes that look or read like the text: nearer than unrelated texts, or with half of its words."""
        vectors = self.index.vectors([scene for scene, _ in found.by_vector])
        above = background.matches(vector, vectors)
        kept = tuple(one for one, is_above in zip(found.by_vector, above, strict=True) if is_above)
        worded = [one for one, held in zip(found.by_words, found.held, strict=True) if held >= _HELD]
        return replace(found, by_vector=kept, by_words=tuple(worded))

    def _rankings(
        self, settings: QuerySettings, found: Rankings, by_vector: bool, by_words: bool
    ) -> dict[str, Sequence[int]]:
        rankings: dict[str, Sequence[int]] = {}
        if by_words and settings.mode != "vector":  # first: of two equal scores the one by words stands higher
            rankings["text"] = [scene for scene, _ in found.by_words]
        if by_vector:
            rankings["vector"] = [scene for scene, _ in found.by_vector]
        return rankings

    def _answers(
        self, settings: QuerySettings, rankings: dict[str, Sequence[int]], found: Rankings
    ) -> list[FoundScene]:
        ranked = fuse(rankings)
        if settings.all:
            answers = [Answer.of(one) for one in ranked[: settings.top]]
        else:
            answers = fold(ranked, self.index.places([one.scene for one in ranked]), settings.top)
        return self._shown(answers, dict(found.by_vector))

    def _listed(self, settings: QuerySettings, where: Filter | None) -> Found:
        """Without anything to look for: the scenes that the filter lets through, by video and time."""
        if where is None:
            raise InputError("say what to look for: a text, an example with --like, or a condition with --where")
        ids = self.index.every_scene(where)[: settings.top]
        return Found(settings.asked, tuple(self.show(ids, [0.0] * len(ids))))

    def show(self, ids: Sequence[int], scores: Sequence[float]) -> list[FoundScene]:
        """Scenes by their numbers, with scores that are not those of a search."""
        ranked = [Ranked(one, {"": score}) for one, score in zip(ids, scores, strict=True)]
        return [replace(one, parts={}) for one in self._shown(list(map(Answer.of, ranked)), {})]

    def _shown(self, answers: Sequence[Answer], cosines: dict[int, float]) -> list[FoundScene]:
        kept = {one.id: one for one in self.index.scenes([one for each in answers for one in each.scenes])}
        best_ones = [answer.best.scene for answer in answers] if self._thumbnails else []
        pictures = {one.id: one.scene.thumbnail for one in self.index.scenes(best_ones, True)}
        shown = []
        for answer in answers:
            several, best = [kept[one].scene for one in answer.scenes], kept[answer.best.scene]
            shown.append(
                FoundScene(
                    best.id,
                    best.video.place,
                    min(one.start_s for one in several),
                    max(one.end_s for one in several),
                    answer.best.score,
                    answer.best.parts,
                    best.scene.findings,
                    best.scene.speech,
                    pictures.get(best.id, b""),
                    len(several),
                    cosines.get(best.id),
                    best.video.root,
                )
            )
        return shown


def _file_of(folder: str | Path) -> tuple[int, int, int, int]:
    """What tells whether the archive in `folder` is the file that was opened, and as it was where WAL is not used."""
    status = database_of(folder).stat()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
