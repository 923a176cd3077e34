"""The videos of an archive as files: below which root each lies, its subtitles, and which are gone.

A root is a folder of this machine or of an object store, or what an address lies in. Tars are like folders of their
members where they are named, and wherever an object store lists them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from core_encoder.errors import InputError
from core_encoder.files.tar_files import shard_names
from core_encoder.files.urls import Location, Url, as_location, named
from core_encoder.video.remote_folders import files_below, names_one, videos_among, videos_at
from core_encoder.video.tar_videos import videos_in_tar
from core_encoder.video.video_bytes import is_inside
from core_encoder.video.video_files import VIDEO_SUFFIXES, find_files
from prismhub.archive.subtitles import sidecars


@dataclass(frozen=True)
class FoundVideo:
    """A video file, here or elsewhere, its place below a root of the archive, and the subtitle files beside it."""

    root: str
    path: str  # with `/`
    file: str
    subtitles: tuple[Location, ...] = ()

    @property
    def key(self) -> tuple[str, str]:
        return self.root, self.path


@dataclass(frozen=True)
class FoundVideos:
    """What some folders hold: `roots` are those of the archive with the new ones, `looked` what was looked through.

    `listed` are the addresses and tars of which all that lies below them was listed.
    """

    videos: tuple[FoundVideo, ...]
    roots: tuple[str, ...]
    looked: tuple[str, ...]
    listed: tuple[str, ...] = ()

    def gone(self, known: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
        """Root and path of the videos that are surely no longer there.

        A file that cannot be looked for, since a folder may not be read, is not gone.
        """
        here = {video.key for video in self.videos}
        return [key for key in known if key not in here and self._is_gone(str(as_location(key[0]) / key[1]))]

    def _is_gone(self, place: str) -> bool:
        if any(_contains(one, place) for one in self.listed):
            return True
        return any(_contains(folder, place) for folder in self.looked) and is_missing(place)


def find_archived(given: Sequence[str], known_roots: Sequence[str]) -> FoundVideos:
    """The videos in folders, tars and at addresses, and single ones, in order and each once.

    A file is named below the innermost root that holds it; a folder in none of them becomes a root.

    Raises:
        InputError: a path does not exist, an address cannot be listed, or there is no video in one of them.
    """
    roots, looked, listed = list(known_roots), [], []
    files: list[Location] = []
    beside: list[Location] = []
    others: Sequence[Location]
    for called in (name for word in given for name in shard_names(word)):
        place = as_location(called)
        if not isinstance(place, Url):
            place = Path(os.path.abspath(place.expanduser()))  # noqa: PTH100 (links stay as they are named)
        if isinstance(place, Url) or (place.suffix.lower() == ".tar" and place.is_file()):
            videos, others, is_whole = _listed(place)
            folder = place if is_whole and place.suffix.lower() != ".tar" else place.parent
            listed += [str(place)] if is_whole else []
        else:
            videos, others = _in_folder(place, called)
            folder = place if place.is_dir() else place.parent
            looked += [str(place)] if place.is_dir() else []
        if not any(_contains(root, str(folder)) for root in roots):
            roots.append(str(folder).rstrip("/") if isinstance(folder, Url) else str(folder))
        files += videos
        beside += others
    spoken = sidecars(dict.fromkeys(files), dict.fromkeys(beside))
    found = []
    for file in dict.fromkeys(files):
        root = max((root for root in roots if _contains(root, str(file))), key=len, default="")
        if not root:  # a store that lists its files under another name than it was asked by
            roots.append(root := str(file.parent))
        subtitles = tuple(spoken.get(file, ()))
        if isinstance(file, Url):
            found.append(FoundVideo(root, str(file).removeprefix(f"{root}/"), file, subtitles))
        else:
            found.append(FoundVideo(root, file.relative_to(root).as_posix(), str(file), subtitles))
    return FoundVideos(tuple(found), tuple(roots), tuple(looked), tuple(listed))


def _in_folder(place: Path, called: str) -> tuple[list[Location], list[Path]]:
    """The videos in a folder of this machine, or the one video, and all files there."""
    if not place.exists():
        raise InputError(f"{called}: no such file or folder")
    files = sorted(find_files(place)) if place.is_dir() else _beside(place)
    if not place.is_dir():
        return [place], files
    videos: list[Location] = [file for file in files if file.suffix.lower() in VIDEO_SUFFIXES]
    if not videos:
        raise InputError(f"{called}: no video in this folder (looked for {', '.join(sorted(VIDEO_SUFFIXES))})")
    return videos, files


def _listed(place: Location) -> tuple[list[Location], list[Url], bool]:
    """The videos in a tar or at an address, all files there, and whether these are all that lie below it."""
    from tasks.readers.hub_data_sets import data_set_address

    if not isinstance(place, Url):
        return [place / name for name in videos_in_tar(str(place))], [], True
    if data_set_address(place) is not None:
        raise InputError(f"{place}: data sets of the Hub are not indexed: name files of it, hf://datasets/org/name/...")
    is_tar = place.suffix.lower() == ".tar"
    if is_tar or names_one(place):
        return list(map(as_location, videos_at(place))), [], is_tar
    files = files_below(place)
    return list(map(as_location, videos_among(place, files))), files, True


def _beside(file: Path) -> list[Path]:
    """The files in the folder of one video."""
    return sorted(one for one in file.parent.iterdir() if one.is_file())


def _contains(folder: str, path: str) -> bool:
    between = "/" if isinstance(named(folder), Url) else os.sep
    return path.rstrip(between) == folder or path.startswith(folder.rstrip(between) + between)


def is_missing(place: str) -> bool:
    """Whether a file of this machine is surely no longer there; of others, and those in tars, that is not known."""
    if isinstance(named(place), Url) or is_inside(place):
        return False
    try:
        Path(place).lstat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False
