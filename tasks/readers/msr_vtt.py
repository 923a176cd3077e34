"""MSR-VTT's JSON: `{"videos": [{"video_id", "split"}], "sentences": [{"video_id", "caption"}]}`.

Source: the file that the data set's authors give out (`MSR_VTT.json`, `train_val_videodatainfo.json`). Each video is
one clip, whatever `start time` and `end time` say: they are of the film that it was cut from.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from core_encoder.clip_plan import Clip
from core_encoder.errors import InputError
from core_encoder.files.storage import nearest, read_json
from tasks.readers.events import Videos
from tasks.readers.manifests import refuse_absent
from tasks.splits import SPLIT_NAMES, split_name


class ToldVideo(NamedTuple):
    """A video with its captions, in the order in which they were written."""

    name: str
    clip: Clip
    split: str | None
    captions: tuple[str, ...]


def is_msr_vtt(source: str | Path) -> bool:
    """Whether a source of captions is a JSON file: then it must be MSR-VTT's."""
    path = Path(source).expanduser()
    return path.suffix.lower() == ".json" and path.is_file()


def read_msr_vtt(source: str | Path, videos: str | Path | None = None) -> list[ToldVideo]:
    """The videos that have captions, in the order of the file; they lie beside it, or in the folder `videos`.

    Raises:
        InputError: one line with file, entry, field and the fix; none of the videos exists.
    """
    file = Path(os.path.normpath(Path(source).expanduser().absolute()))
    finder = Videos(file, videos)
    told = [
        ToldVideo(name, Clip(finder.path_of(name, f"{file}: video {name!r}")), split, tuple(dict.fromkeys(captions)))
        for name, split, captions in told_captions(file)
    ]
    refuse_absent(file, [one.clip for one in told], "say where they are with --videos")
    return told


def told_captions(file: Path) -> list[tuple[str, str | None, tuple[str, ...]]]:
    """Name, split and captions of every video that has captions, one that is written twice as often.

    Raises:
        InputError: one line with file, entry, field and the fix.
    """
    content = read_json(file)
    entries = {name: content.get(name) if isinstance(content, dict) else None for name in ("videos", "sentences")}
    for name, given in entries.items():
        if not isinstance(given, list) or not given:
            raise InputError(
                f"{file}: not MSR-VTT's JSON: it has no list {name!r}; captions are read from CSV or JSONL"
            )
    splits: dict[str, str | None] = {}
    for where, entry in _placed(file, "video", entries["videos"] or ()):
        name = _text(entry, "video_id", where)
        if name in splits:
            raise InputError(f"{where}: video {name!r} is listed twice; remove one")
        splits[name] = _split(entry.get("split"), where)
    captions: dict[str, list[str]] = {name: [] for name in splits}
    for where, entry in _placed(file, "sentence", entries["sentences"] or ()):
        name = _text(entry, "video_id", where)
        if name not in captions:
            raise InputError(f"{where}: video {name!r} is not among 'videos'{nearest(name, captions)}")
        captions[name].append(_text(entry, "caption", where))
    return [(name, splits[name], tuple(several)) for name, several in captions.items() if several]


def _placed(file: Path, what: str, entries: Sequence[Any]) -> list[tuple[str, dict[str, Any]]]:
    """The entries of a list, each with where it is."""
    placed = []
    for place, entry in enumerate(entries, start=1):
        where = f"{file}: {what} {place}"
        if not isinstance(entry, dict):
            raise InputError(f"{where}: must be an object, not {entry!r}")
        placed.append((where, entry))
    return placed


def _text(entry: dict[str, Any], field: str, where: str) -> str:
    value = entry.get(field)
    text = " ".join(value.split()) if isinstance(value, str) else ""
    if not text or "\0" in text:
        raise InputError(f"{where}: {field} {value!r} is empty or no text; give it or remove the entry")
    return text


def _split(given: Any, where: str) -> str | None:
    if given is None:
        return None
    split = split_name(str(given))
    if split is None:
        raise InputError(f"{where}: split {given!r} is unknown{nearest(str(given), SPLIT_NAMES)}")
    return split
