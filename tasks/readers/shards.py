"""Tar shards as data: a tar is a manifest whose rows are its samples, and a folder of the videos that they name.

    shards-000.tar        0001.mp4  0001.cls | 0001.txt | 0001.json  0002.mp4 ...
    train-{000..010}.tar  also several by their numbers, a folder of them, and folder/train/*.tar

The columns of a sample are the keys of its `.json`, with `cls` and `txt` for what those files hold. Names of shards
that begin with a split (`val-000.tar`) say the split. No torch.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from core_encoder.errors import InputError
from core_encoder.files.tar_files import TarSample, shard_names
from core_encoder.files.urls import Location, Url, as_location
from core_encoder.video.tar_videos import inner_name, is_video, samples_of
from tasks.splits import split_name

_FIRST_WORD = re.compile(r"[A-Za-z]+")


def find_shards(source: str | Path) -> tuple[list[tuple[Location, str | None]], Location] | None:
    """The shards that `source` names, each with the split that its name says, and the folder that ids begin at.

    None where it names no shards.

    Raises:
        InputError: an object store cannot be listed.
    """
    names = shard_names(str(source))
    tars = [tar for name in names for tar in _tars_at(as_location(name))]
    if not tars:
        return None
    folder = as_location(str(source))
    if not isinstance(folder, Url):
        folder = folder.expanduser().absolute()
    return [(tar, _split_of(tar)) for tar in tars], folder if len(names) == 1 and _is_folder(folder) else folder.parent


def _tars_at(location: Location) -> Sequence[Location]:
    if location.suffix.lower() == ".tar":
        return [location if isinstance(location, Url) else location.expanduser().absolute()]
    if not isinstance(location, Url):
        folder = location.expanduser().absolute()
        return [*sorted(folder.glob("*.tar")), *sorted(folder.glob("*/*.tar"))] if folder.is_dir() else []
    if location.is_web:
        return []
    from core_encoder.video.remote_folders import files_below

    return [file for file in files_below(location) if file.suffix.lower() == ".tar"]


def _is_folder(location: Location) -> bool:
    return location.suffix.lower() != ".tar"


def _split_of(tar: Location) -> str | None:
    word = _FIRST_WORD.match(tar.name)
    return (split_name(word[0]) if word else None) or split_name(tar.parent.name)


def shard_records(tar: Location) -> list[tuple[int, str, dict[str, Any]]]:
    """The samples of a shard that hold a video: number, name, and fields, of which `path` names the video.

    Raises:
        InputError: not a whole tar, or what is told of a sample is no JSON object in UTF-8.
    """
    records = []
    for number, sample in enumerate(samples_of(tar if isinstance(tar, Url) else str(tar)), start=1):
        video = next((name for one in sample.members if is_video(one.name) and (name := inner_name(one.name))), None)
        if video is not None:
            records.append((number, sample.name, _told(sample, tar) | {"path": f"{tar.name}/{video}"}))
    return records


def _told(sample: TarSample, tar: Location) -> dict[str, Any]:
    where = f"{tar}: sample {sample.name!r}"
    try:
        told = json.loads(sample.texts[".json"].decode("utf-8-sig")) if ".json" in sample.texts else {}
        plain = {
            ending[1:]: sample.texts[ending].decode("utf-8-sig").strip()
            for ending in (".cls", ".txt")
            if ending in sample.texts
        }
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: what is told of it is not valid UTF-8 or JSON ({error})") from error
    if not isinstance(told, dict):
        raise InputError(f'{where}: its .json must be an object such as {{"label": "walk"}}')
    return plain | {str(name): value for name, value in told.items()}
