"""Which clips a command is about: videos, folders of videos and manifests. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from core_encoder.clip_plan import Clip
from core_encoder.errors import InputError


def find_clips(given: Sequence[str]) -> list[Clip]:
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
