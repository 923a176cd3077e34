"""Which videos a command is about: files, folders of videos and manifests, or arrays. No torch."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any

from core_encoder.array_videos import ArrayVideo, array_videos, is_array
from core_encoder.clip_plan import Clip
from core_encoder.errors import InputError
from core_encoder.files.urls import Location, Url, as_location


def find_clips(given: Sequence[str | os.PathLike[str] | Clip]) -> list[Clip]:
    """The clips of videos, folders of videos, tars of videos and manifests, here or elsewhere; no labels are needed.

    Raises:
        InputError: nothing was given, a path does not exist, or a folder holds no video.
    """
    from core_encoder.files.tar_files import shard_names

    if not given:
        raise InputError("no video was given; name videos, folders of videos or manifests")
    clips: list[Clip] = []
    for word in given:
        if isinstance(word, Clip):
            clips.append(word)
        elif isinstance(word, str | os.PathLike):
            for name in shard_names(os.fspath(word)):
                clips += _clips_at(as_location(name))
        else:
            raise InputError(f"a video is a path, a Clip or an array, not {type(word).__name__}")
    return list(dict.fromkeys(clips))


def _clips_at(place: Location) -> list[Clip]:
    from core_encoder.video.parquet_videos import videos_in_parquet
    from core_encoder.video.tar_videos import videos_in_tar
    from core_encoder.video.video_bytes import is_inside
    from core_encoder.video.video_files import VIDEO_SUFFIXES, find_files, find_videos
    from tasks.readers.manifests import SUFFIXES, Columns, read_clips, read_rows
    from tasks.readers.shards import find_shards

    if isinstance(place, Url):
        from core_encoder.video.remote_folders import videos_at
        from tasks.readers.hub_data_sets import data_set_address, named_splits

        if (address := data_set_address(place)) is not None:
            rows = (row for split in named_splits(address) for row in read_rows(split, Columns(), needed=None))
            return [row.clip() for row in rows]
        if place.suffix.lower() in SUFFIXES:
            raise InputError(f"{place}: manifests are read from this machine: download it and name the file")
        return [Clip(path) for path in videos_at(place)]
    path = place.expanduser()
    if not path.exists() and not is_inside(str(path)):
        raise InputError(f"{place}: no such file or folder")
    if path.is_dir():
        tars = sorted(path.glob("*.tar"))
        if not tars and next(path.glob("**/*.parquet"), None) is not None and (found := find_shards(path)) is not None:
            return [clip for shard, _ in found[0] for clip in _clips_at(shard)]
        if tars:
            loose = sorted(file for file in find_files(path) if file.suffix.lower() in VIDEO_SUFFIXES)
            return [*(Clip(str(file)) for file in loose), *(clip for tar in tars for clip in _clips_at(tar))]
        return [Clip(str(video)) for video in find_videos(path)]
    if path.suffix.lower() == ".tar":
        return [Clip(str(path / name)) for name in videos_in_tar(str(path))]
    if path.suffix.lower() == ".parquet" and path.is_file():
        return [Clip(row) for row in videos_in_parquet(path)]
    return read_clips(path) if path.suffix.lower() in SUFFIXES else [Clip(str(path))]


def find_inputs(given: Sequence[Any]) -> list[Clip] | list[ArrayVideo]:
    """The clips that `find_clips` finds, or the videos of arrays and tensors (see `array_videos`).

    Raises:
        InputError: as `find_clips` and `array_videos` say, or paths and arrays are mixed.
    """
    if not any(map(is_array, given)):
        return find_clips(given)
    if not all(map(is_array, given)):
        raise InputError("give paths or arrays, not both in one call")
    if not (videos := array_videos(given)):
        raise InputError("no video was given: the arrays are empty")
    return videos


def sample_names(videos: Sequence[Clip] | Sequence[ArrayVideo]) -> list[str]:
    """What answers call the videos: path and bounds of a clip, the number of an array."""
    from tasks.readers.annotations import bounds_text

    return [one.name if isinstance(one, ArrayVideo) else one.path + bounds_text(one) for one in videos]


def video_paths(videos: Sequence[Clip] | Sequence[ArrayVideo]) -> list[str]:
    """The path of each clip's video; of an array, its number."""
    return [one.name if isinstance(one, ArrayVideo) else one.path for one in videos]


def listed_videos(given: Any) -> Any:
    """The Python argument `videos` as a list, paths as text: one path, `Clip` or array may stand alone."""
    if is_array(given) or isinstance(given, str | os.PathLike | Clip):
        given = [given]
    if not isinstance(given, Iterable):
        return given  # which the options refuse
    return [os.fspath(one) if isinstance(one, os.PathLike) else one for one in given]
