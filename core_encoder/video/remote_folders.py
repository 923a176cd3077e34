"""Which videos an address names: one, those below a folder of an object store, or those in tars."""

from __future__ import annotations

from core_encoder.errors import InputError
from core_encoder.files.remote import RemoteError, file_system, list_files, remember_facts
from core_encoder.files.urls import Url
from core_encoder.video.tar_videos import videos_in_tar
from core_encoder.video.video_files import VIDEO_SUFFIXES


def videos_at(url: Url) -> list[str]:
    """The paths of the videos that an address names; one that looks like a video is not asked for yet.

    Raises:
        InputError: what reads such addresses is not installed, there is nothing, or it cannot be listed.
    """
    file_system(url)
    if url.suffix.lower() == ".tar":
        return in_tars([url])
    return [url] if names_one(url) else videos_among(url, files_below(url))


def names_one(url: Url) -> bool:
    """Whether an address looks like that of one video."""
    return url.suffix.lower() in VIDEO_SUFFIXES or (url.is_web and not url.path.endswith("/"))


def videos_among(url: Url, found: list[Url]) -> list[str]:
    """The paths of the videos among the files below an address, and of those in its tars.

    Raises:
        InputError: there is none, or a tar cannot be read.
    """
    videos = [one for one in found if one.suffix.lower() in VIDEO_SUFFIXES]
    tars = [one for one in found if one.suffix.lower() == ".tar"]
    if not videos and not tars:
        raise InputError(
            f"{url}: no video below this address (looked for {', '.join(sorted(VIDEO_SUFFIXES))} and .tar)"
        )
    return [*videos, *in_tars(tars)]


def files_below(url: Url) -> list[Url]:
    """The files below an address as it is now, sorted, hidden ones passed over.

    Raises:
        InputError: it cannot be listed.
    """
    try:
        found = list_files(url)
    except RemoteError as error:
        raise InputError(f"{url}: {error.reason}") from error
    remember_facts(found)
    return list(found)


def in_tars(tars: list[Url]) -> list[str]:
    """The paths of the videos in tars.

    Raises:
        InputError: a tar cannot be read, or holds no video.
    """
    return [tar / name for tar in tars for name in videos_in_tar(tar)]
