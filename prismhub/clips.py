"""Which videos a command is about: files, folders of videos and manifests, or arrays. No torch."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from core_encoder.array_videos import ArrayVideo, array_videos, is_array
from core_encoder.clip_plan import Clip
from core_encoder.errors import InputError


def find_clips(given: Sequence[str | os.PathLike[str] | Clip]) -> list[Clip]:
    """The clips of videos, folders of videos and manifests; a manifest needs no labels here.

    Raises:
        InputError: nothing was given, a path does not exist, or a folder holds no video.
    """
    from core_encoder.video.video_files import find_videos
    from tasks.readers.manifests import SUFFIXES, read_clips

    if not given:
        raise InputError("no video was given; name videos, folders of videos or manifests")
    clips: list[Clip] = []
    for word in given:
        if isinstance(word, Clip):
            clips.append(word)
            continue
        if not isinstance(word, str | os.PathLike):
            raise InputError(f"a video is a path, a Clip or an array, not {type(word).__name__}")
        path = Path(word).expanduser()
        if not path.exists():
            raise InputError(f"{word}: no such file or folder")
        if path.is_dir():
            clips += [Clip(str(video)) for video in find_videos(path)]
        elif path.suffix.lower() in SUFFIXES:
            clips += read_clips(path)
        else:
            clips.append(Clip(str(path)))
    return list(dict.fromkeys(clips))


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
