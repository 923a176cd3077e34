"""The videos of an archive as files: below which root each lies, its subtitles, and which are gone."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from core_encoder.errors import InputError
from core_encoder.files.urls import Url, as_location
from core_encoder.video.video_files import VIDEO_SUFFIXES, find_files
from prismhub.archive.subtitles import sidecars


@dataclass(frozen=True)
class FoundVideo:
    """A video file, its place below a root of the archive, and the subtitle files beside it."""

    root: str
    path: str  # with `/`
    file: str
    subtitles: tuple[Path, ...] = ()

    @property
    def key(self) -> tuple[str, str]:
        return self.root, self.path


@dataclass(frozen=True)
class FoundVideos:
    """What some folders hold: `roots` are those of the archive with the new ones, `looked` what was looked through."""

    videos: tuple[FoundVideo, ...]
    roots: tuple[str, ...]
    looked: tuple[str, ...]

    def gone(self, known: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
        """Root and path of the videos that are surely no longer there.

        A file that cannot be looked for, since a folder may not be read, is not gone.
        """
        here = {video.key for video in self.videos}
        return [key for key in known if key not in here and self._was_looked_for(key) and _is_missing(Path(*key))]

    def _was_looked_for(self, key: tuple[str, str]) -> bool:
        return any(_contains(folder, str(Path(*key))) for folder in self.looked)


def find_archived(given: Sequence[str], known_roots: Sequence[str]) -> FoundVideos:
    """The videos in folders, and single ones, in order and each once.

    A file is named below the innermost root that holds it; a folder in none of them becomes a root.

    Raises:
        InputError: a path does not exist, or a folder holds no video.
    """
    roots, looked, files, subtitles = list(known_roots), [], [], []
    for word in given:
        if isinstance(url := as_location(word), Url):
            raise InputError(f"{url}: archives are of folders of this machine: copy the videos here first")
        place = Path(os.path.abspath(Path(word).expanduser()))  # noqa: PTH100 (links stay as they are named)
        if not place.exists():
            raise InputError(f"{word}: no such file or folder")
        folder = place if place.is_dir() else place.parent
        if not any(_contains(root, str(folder)) for root in roots):
            roots.append(str(folder))
        listed = sorted(find_files(folder)) if place.is_dir() else _beside(place)
        videos = [file for file in listed if file.suffix.lower() in VIDEO_SUFFIXES or file == place]
        if not videos:
            raise InputError(f"{word}: no video in this folder (looked for {', '.join(sorted(VIDEO_SUFFIXES))})")
        files += videos if place.is_dir() else [place]
        subtitles += listed
        if place.is_dir():
            looked.append(str(place))
    files = list(dict.fromkeys(files))
    spoken = sidecars(files, dict.fromkeys(subtitles))
    found = []
    for file in files:
        root = max((root for root in roots if _contains(root, str(file))), key=len)
        path = file.relative_to(root).as_posix()
        found.append(FoundVideo(root, path, str(file), tuple(spoken.get(file, ()))))
    return FoundVideos(tuple(found), tuple(roots), tuple(looked))


def _beside(file: Path) -> list[Path]:
    """The files in the folder of one video."""
    return sorted(one for one in file.parent.iterdir() if one.is_file())


def _contains(folder: str, path: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


def _is_missing(path: Path) -> bool:
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False
