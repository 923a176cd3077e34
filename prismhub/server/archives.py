"""The archives of a server: a thread of its own searches in each, and what has a number is read by whoever asks."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from core_encoder.config import config_from_dict
from core_encoder.errors import InputError
from core_encoder.files.storage import nearest
from prismhub.archive.filters import COLUMNS, parse_filter
from prismhub.archive.folder_reader import FolderReader, KeptScene
from prismhub.archive.found_scenes import Found, FoundScene
from prismhub.archive.query_settings import QuerySettings
from prismhub.archive.searching import ArchiveSearch
from prismhub.progress import Show
from prismhub.server.questions import SceneQuestion
from prismhub.server.refusal import Refused, public_text
from prismhub.server.tickets import Tickets
from prismhub.settings import RunningSettings

if TYPE_CHECKING:
    from adapters.hub import Hub
    from prismhub.archive.archive_space import ArchiveSpace

PUBLIC_COLUMNS = {name: column for name, column in COLUMNS.items() if name != "root"}
"""What conditions of clients may name; `root` would tell them, guess by guess, where the videos lie."""
Example = tuple[str, NDArray[np.float32]]
"""The name of an example, and its vector (E,)."""
_MOST_LABELS = 100
log = logging.getLogger(__name__)


class ServedArchive:
    """An archive by its name. Each request sees it as it lies there then, also where its folder was made anew."""

    def __init__(self, name: str, folder: Path, hub: Hub, tickets: Tickets, accelerator: Any, show: Show) -> None:
        """Open it, and its encoder where the hub has another one.

        Raises:
            InputError: there is none, or its encoder is not at hand.
        """
        self.name, self.folder = name, folder
        self._hub, self._tickets, self._show = hub, tickets, show
        self._running = RunningSettings(accelerator=accelerator)
        self._thread = ThreadPoolExecutor(1, f"archive {name}")
        self._opened: ArchiveSearch | None = None
        try:
            self._thread.submit(self._start).result()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Finish what runs."""
        self._thread.submit(self._end)
        self._thread.shutdown()

    def describe(self) -> dict[str, Any]:
        """What it holds, and what can be asked of it."""
        with self._reading() as index:
            record = index.record
            return {
                "name": self.name,
                "scenes": len(index),
                "videos": index.videos(),
                "encoder": record.encoder,
                "adapters": list(record.adapters),
                "columns": list(PUBLIC_COLUMNS),
                "labels": index.frequent_labels(_MOST_LABELS),
                "words": bool(record.space),
                "own_encoder": record.fingerprint != self._hub.encoder.fingerprint,
            }

    def space(self) -> Future[ArchiveSpace]:
        """Where its vectors are, with the encoder loaded: what an example needs."""
        return self._thread.submit(self._open_space)

    def search(
        self, question: SceneQuestion, *, like: int | None = None, example: Example | None = None
    ) -> Future[Any]:
        """The scenes that answer a question and are like a scene, by its number, or like an example."""
        return self._thread.submit(self._search, question, like, example)

    def scene(self, number: int) -> dict[str, Any]:
        """All that is known of one scene.

        Raises:
            Refused: there is none of this number.
        """
        with self._reading() as index:
            kept = self._kept(index, number, thumbnail=True)
            scene, video = kept.scene, kept.video
            found = FoundScene(
                kept.id,
                video.place,
                scene.start_s,
                scene.end_s,
                0.0,
                {},
                scene.findings,
                scene.speech,
                root=video.root,
            )
            beside = index.scenes_beside(number)
        return self._described(found, bool(scene.thumbnail)) | {
            "archive": self.name,
            "findings": [
                {
                    "adapter": one.adapter,
                    "label": one.label,
                    "score": one.score,
                    "text": one.text,
                    "start": one.start_s,
                    "end": one.end_s,
                }
                for one in scene.findings
            ],
            "cues": [{"start": one.start_s, "end": one.end_s, "text": one.text} for one in scene.speech],
            "duration": video.duration_s,
            "width": video.width,
            "height": video.height,
            "recorded": video.recorded,
            "neighbours": [{"id": one, "start": start_s, "end": end_s} for one, start_s, end_s in beside],
        }

    def kept(self, number: int, thumbnail: bool = False) -> KeptScene:
        """A scene as the archive keeps it.

        Raises:
            Refused: there is none of this number.
        """
        with self._reading() as index:
            return self._kept(index, number, thumbnail)

    def _kept(self, index: FolderReader, number: int, thumbnail: bool) -> KeptScene:
        kept = index.scenes([number], thumbnail) if number < 1 << 63 else []
        if not kept:
            raise Refused(404, f"the archive {self.name!r} has no scene {number}")
        return kept[0]

    @contextmanager
    def _reading(self) -> Iterator[FolderReader]:
        """The archive as it lies there now, to read in this thread."""
        try:
            index = FolderReader.open(self.folder)
        except InputError as error:
            raise self._unreadable(error) from error
        with index, index.snapshot():
            yield index

    def _unreadable(self, error: InputError) -> Refused:
        log.warning("archive %s: %s", self.name, error)
        return Refused(503, f"the archive {self.name!r} cannot be read now: try again later", {"Retry-After": "5"})

    def _start(self) -> None:
        self._opened = ArchiveSearch(self.folder, self._running, self._show, self._hub, thumbnails=False)
        self._opened.space.open()
        about = f"archive {self.name}: {len(self._opened.index)} scenes"
        own = self._opened.index.record.encoder
        apart = self._opened.space.open() is not self._hub.encoder
        self._show.note(about + (f", with an encoder of its own, {own}" if apart else ""))

    def _end(self) -> None:
        if self._opened is not None:
            self._opened.index.close()

    def _current(self) -> ArchiveSearch:
        assert self._opened is not None
        try:
            self._opened.refresh()
        except InputError as error:
            raise self._unreadable(error) from error
        return self._opened

    def _open_space(self) -> ArchiveSpace:
        space = self._current().space
        try:
            space.open()
        except InputError as error:
            log.warning("archive %s: %s", self.name, error)
            text = f"the encoder of the archive {self.name!r} is not at hand: search in words, with mode=text"
            raise Refused(503, text) from error
        return space

    def _search(self, question: SceneQuestion, like: int | None, example: Example | None) -> dict[str, Any]:
        archive = self._current()
        hidden = {str(archive.index.folder): self.name} | dict.fromkeys(archive.index.record.roots, "")
        try:
            where = None if question.where is None else parse_filter(question.where, PUBLIC_COLUMNS)
            if question.q is not None and question.mode != "text":
                self._open_space()
            with archive.index.snapshot():
                itself: KeptScene | None = None
                if like is not None:
                    itself, vector = self._like(archive.index, like)
                    example = f"{itself.video.path} at {itself.scene.start_s:g} s", vector
                given = question.model_dump(include={"mode", "where", "all", "anyway"}) | {
                    "archive": self.name,
                    "text": question.q,
                    "like": None if example is None else example[0],
                    "top": question.top + (itself is not None),
                }
                settings = config_from_dict(QuerySettings, given, "search")
                found = archive.find(settings, example=None if example is None else example[1], where=where)
                return self._answer(archive.index, found, question.top, itself)
        except InputError as error:
            raise Refused(422, public_text(str(error), hidden)) from error

    def _like(self, index: FolderReader, number: int) -> tuple[KeptScene, NDArray[np.float32]]:
        """A scene as an example, and its vector."""
        vectors = index.vectors([number]) if number < 1 << 63 else None
        kept = self._kept(index, number, thumbnail=False)
        if vectors is None or not vectors.any():
            raise Refused(422, f"scene {number} has no vector, so that nothing can be like it")
        return kept, vectors[0]

    def _answer(self, index: FolderReader, found: Found, top: int, itself: KeptScene | None) -> dict[str, Any]:
        """What was found, ready for JSON; a scene that is the example is no answer to itself."""

        def others(scenes: Sequence[FoundScene]) -> list[FoundScene]:
            return [one for one in scenes if itself is None or not _holds(one, itself)][:top]

        scenes, near = others(found.scenes), others(found.nearest)
        pictured = index.pictured([one.id for one in (*scenes, *near)])
        told = Found(found.asked, tuple(_below_root(one) for one in scenes), tuple(_below_root(one) for one in near))
        return {
            "archive": self.name,
            "asked": found.asked,
            "scenes": [self._described(one, one.id in pictured) for one in scenes],
            "nearest": [self._described(one, one.id in pictured) for one in near],
            "nothing": told.nothing,
            "notes": list(found.notes),
        }

    def _described(self, one: FoundScene, pictured: bool) -> dict[str, Any]:
        path = f"/v1/scenes/{one.id}"
        times = f"#t={one.start_s:.3f},{one.end_s:.3f}"
        return {
            "id": one.id,
            **_below_root(one).describe(),
            "thumbnail": self._tickets.address(f"{path}/thumbnail", self.name) if pictured else None,
            "stream": self._tickets.address(f"{path}/video", self.name) + times,
            "scenes": one.scenes,
            "shares": one.shares(),
        }


class ServedArchives(Sequence[ServedArchive]):
    """All archives of a server, in the order they were given."""

    def __init__(self, archives: Sequence[ServedArchive] = ()) -> None:
        self._archives = tuple(archives)

    def __len__(self) -> int:
        return len(self._archives)

    def __getitem__(self, place: Any) -> Any:
        return self._archives[place]

    def find(self, name: str | None) -> ServedArchive:
        """The archive of this name, the first one where none is named.

        Raises:
            Refused: there is none.
        """
        if not self._archives:
            raise Refused(404, "this server has no archive: start it with --archive")
        known = {one.name: one for one in self._archives}
        if name is not None and name not in known:
            raise Refused(404, f"the server has no archive {name!r}{nearest(name, known)}")
        return self._archives[0] if name is None else known[name]


def archive_names(folders: Sequence[str | Path]) -> list[str]:
    """What archives are called: as their folders, the second of one name with `-2`."""
    names: list[str] = []
    for folder in folders:
        name = PurePath(os.path.abspath(Path(folder).expanduser())).name or "archive"  # noqa: PTH100
        several = (name, *(f"{name}-{number}" for number in range(2, len(folders) + 2)))
        names.append(next(one for one in several if one not in names))
    return names


def _holds(found: FoundScene, scene: KeptScene) -> bool:
    """Whether a scene is one of those that an answer is made of."""
    same = found.video == scene.video.place
    return same and found.start_s <= scene.scene.start_s and scene.scene.end_s <= found.end_s


def _below_root(one: FoundScene) -> FoundScene:
    """A scene whose video is named below the folder that was indexed."""
    return replace(one, video=PurePath(one.video).relative_to(one.root).as_posix())
