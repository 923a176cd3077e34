"""Shards as data: a tar is a manifest whose rows are its samples, and a folder of the videos that they name.

    shards-000.tar        0001.mp4  0001.cls | 0001.txt | 0001.json  0002.mp4 ...
    train-{000..010}.tar  also several by their numbers, a folder of them, and folder/train/*.tar

The columns of a sample are the keys of its `.json`, with `cls` and `txt` for what those files hold. Names of shards
that begin with a split (`val-000.tar`) say the split. Parquet files are found in the same way, and read in
`tasks.readers.parquet_rows`. No torch.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from core_encoder.errors import InputError
from core_encoder.files.tar_files import TarSample, shard_names
from core_encoder.files.urls import Location, Url, as_location
from core_encoder.video.tar_videos import inner_name, is_video, samples_of
from tasks.splits import split_name

log = logging.getLogger(__name__)
_FIRST_WORD = re.compile(r"[A-Za-z]+")


def find_shards(source: str | Path) -> tuple[list[tuple[Location, str | None]], Location] | None:
    """The shards that `source` names, each with the split that its name says, and the folder that ids begin at.

    None where it names no shards.

    Raises:
        InputError: an object store cannot be listed.
    """
    names = shard_names(str(source))
    shards = [shard for name in names for shard in _shards_at(as_location(name))]
    if not shards:
        return None
    folder = as_location(str(source))
    if not isinstance(folder, Url):
        folder = folder.expanduser().absolute()
    return [(shard, _split_of(shard)) for shard in shards], folder if len(names) == 1 and not _is_shard(
        folder
    ) else folder.parent


def _shards_at(location: Location) -> Sequence[Location]:
    if _is_shard(location):
        return [location if isinstance(location, Url) else location.expanduser().absolute()]
    if not isinstance(location, Url):
        folder = location.expanduser().absolute()
        found = [*sorted(folder.glob("*")), *sorted(folder.glob("*/*"))] if folder.is_dir() else []
        tars = [path for path in found if path.suffix.lower() == ".tar"]
        return tars or [path for path in found if path.suffix.lower() == ".parquet" and _holds_videos(path)]
    if location.is_web:
        return []
    from core_encoder.video.remote_folders import files_below

    below = files_below(location)
    return [file for file in below if file.suffix.lower() == ".tar"] or [
        file for file in below if file.suffix.lower() == ".parquet"
    ]


def _is_shard(location: Location) -> bool:
    return location.suffix.lower() in (".tar", ".parquet")


def _holds_videos(file: Path) -> bool:
    """Whether a Parquet file that lies in a folder is a shard: it may be a table of anything."""
    from core_encoder.video.parquet_videos import table_of

    try:
        return bool(table_of(file).videos)
    except InputError as error:
        log.warning("%s; passed over", error)
        return False


def _split_of(shard: Location) -> str | None:
    word = _FIRST_WORD.match(shard.name)
    return (split_name(word[0]) if word else None) or split_name(shard.parent.name)


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
