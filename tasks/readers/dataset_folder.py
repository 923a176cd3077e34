"""The folder of a public data set, as people have it: official annotation files and videos, in whatever subfolders."""

from __future__ import annotations

import functools
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from core_encoder.errors import InputError
from core_encoder.video.video_files import VIDEO_SUFFIXES, find_files

_ENDINGS = tuple(VIDEO_SUFFIXES)


class MissingData(InputError):
    """The folder of a data set, or an annotation file in it, is not there: nothing is wrong but that it is lacking."""


class DatasetFolder:
    """Finds annotation files and videos by their names, anywhere below a folder, which is walked once.

    Args:
        path: the folder.
        annotations: where one gets the annotation files, said when one is missing.

    Raises:
        MissingData: there is no such folder.
    """

    def __init__(self, path: str | Path, annotations: str = "") -> None:
        self.path = Path(os.path.normpath(Path(path).expanduser().absolute()))
        self._annotations = annotations
        if not self.path.is_dir():
            raise MissingData(f"{path}: no such folder; put the annotation files and videos of the data set there")

    def file(self, *names: str) -> Path:
        """The annotation file of one of these names, the first that is there: in the folder itself, else below it.

        Raises:
            MissingData: there is none.
            InputError: two of one name lie equally deep.
        """
        for name in names:
            if found := self._nearest(self._by_file_name.get(_last(name), ()), name, "keep one"):
                return self.path / found
        source = f"; get it from {self._annotations}" if self._annotations else ""
        raise MissingData(f"{self.path}: there is no {' or '.join(names)} in it or below it{source}")

    def has_file(self, *names: str) -> bool:
        """Whether one of these annotation files is there."""
        return any(_ends_in(path, name) for name in names for path in self._by_file_name.get(_last(name), ()))

    def video(self, *names: str, under: str = "") -> str:
        """The path of the video of one of these names, with or without its ending, the first that is there.

        Args:
            names: as its authors and its mirrors call it, without a folder, or with one that tells it from others. A
                mirror may have changed the ending.
            under: of several files of one name that one counts which has a folder of this name above it.

        Returns:
            where it lies; where it would lie, if there is none: it is then a video that cannot be read.

        Raises:
            InputError: several files have the name.
        """
        for name in (*names, *(_without_ending(name) for name in names if _is_video(name))):
            several = self._by_video_name.get(_last(name), ())
            if len(several) > 1 and under:
                several = [path for path in several if under in path.split("/")] or several
            if found := self._nearest(several, name, "one video has one file: remove the other"):
                return f"{self.path}/{found}"
        return f"{self.path}/{names[0]}{'' if _is_video(names[0]) else '.mp4'}"

    def files(self, ending: str, under: str = "") -> list[Path]:
        """The files whose names end so, sorted; with `under` those that have a folder of this name above them."""
        found = [path for path in self._all if path.endswith(ending) and not _is_video(path)]
        return sorted(self.path / path for path in found if not under or under in path.split("/")[:-1])

    @property
    def videos(self) -> list[str]:
        """The paths of all videos that are there."""
        return [f"{self.path}/{path}" for path in self._all if _is_video(path)]

    def _nearest(self, several: Sequence[str], name: str, fix: str) -> str | None:
        """Of paths with the same last part the one that ends in `name`, the least deep."""
        several = [path for path in several if _ends_in(path, name)]
        if not several:
            return None
        depths = sorted((path.count("/"), path) for path in several)
        if len(depths) > 1 and depths[0][0] == depths[1][0]:
            raise InputError(f"{self.path}: both {depths[0][1]} and {depths[1][1]} may be {name}; {fix}")
        return depths[0][1]

    @functools.cached_property
    def _all(self) -> list[str]:
        """Every file below, relative and with `/`; hidden ones are passed over."""
        return [path.relative_to(self.path).as_posix() for path in find_files(self.path)]

    @functools.cached_property
    def _by_file_name(self) -> Mapping[str, Sequence[str]]:
        """The files that are no videos, by name."""
        return _by_name((path for path in self._all if not _is_video(path)), _last)

    @functools.cached_property
    def _by_video_name(self) -> Mapping[str, Sequence[str]]:
        """The videos, by name with and without ending."""
        videos = [path for path in self._all if _is_video(path)]
        return _by_name(videos, _last) | _by_name(videos, lambda path: _without_ending(_last(path)))


# Names are compared as text, not as paths: a data set has up to a million of them.


def _last(path: str) -> str:
    return path.rpartition("/")[2]


def _without_ending(path: str) -> str:
    return path[: path.rindex(".")]


def _is_video(path: str) -> bool:
    return path.lower().endswith(_ENDINGS)


def _by_name(paths: Iterable[str], name: Callable[[str], str]) -> dict[str, list[str]]:
    found = defaultdict(list)
    for path in paths:
        found[name(path)].append(path)
    return dict(found)


def _ends_in(path: str, name: str) -> bool:
    """Whether the last parts of a path are those of a name, which may lack the ending of a video."""
    if _is_video(path) and not _is_video(name):
        path = _without_ending(path)
    return path == name or path.endswith(f"/{name}")
