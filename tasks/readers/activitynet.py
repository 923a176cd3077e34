"""ActivityNet's JSON: `{"database": {id: {"duration", "subset", "annotations": [{"segment": [a, b], "label"}]}}}`.

A video may also say which spans were annotated (`annotated`) and which classes (`classes_annotated`). A testing subset
without any annotation is one whose labels are kept secret: it is left out, and said.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

from core_encoder.errors import InputError
from core_encoder.files.storage import nearest, read_json
from tasks.readers.dataset_folder import DatasetFolder
from tasks.readers.events import Event, VideoEvents, classes_of, label_of, sample_of, spans_of, time_of
from tasks.readers.official_json import read_object
from tasks.sample import SegmentSample
from tasks.splits import SPLIT_NAMES, split_name

OFFICIAL = ("activity_net.v1-3.min.json", "activity_net.v1-3.json")

log = logging.getLogger(__name__)


def read_activitynet_subset(data: DatasetFolder, split: str) -> list[SegmentSample]:
    """The videos of the subset `training` or `validation` of the official file; they are called `v_<id>` or `<id>`.

    Segments are taken as they are written, whatever the file says of the video's duration, as the official evaluator
    takes them; those that end before they start are left out, and said.

    Raises:
        InputError: as `read_activitynet`; the subset holds no video.
    """
    file = data.file(*OFFICIAL)
    ours = split_name(split)
    found = [one for one in _official_videos(file) if one.split == ours]
    if not found:
        raise InputError(f"{file}: the subset {split!r} holds no video")
    samples = []
    for one in found:
        kept = tuple(event for event in one.events if (event.end_s or 0.0) > event.start_s)
        for event in (event for event in one.events if event not in kept):
            log.warning("%s: %r ends before it starts; left out", event.where, event.label)
        path = data.video(f"v_{one.video}", one.video)
        samples.append(sample_of(replace(one, events=kept, duration_s=None), path))
    return samples


def activitynet_classes(data: DatasetFolder) -> tuple[str, ...]:
    """The classes that occur, in alphabetical order: 200 of the official file."""
    videos = _official_videos(data.file(*OFFICIAL))
    return tuple(sorted({event.label for one in videos for event in one.events}))


def read_activitynet(file: Path) -> list[VideoEvents]:
    """The videos of an ActivityNet file.

    Raises:
        InputError: one line with file, video, field and the fix.
    """
    videos = _videos(file)
    secret = [one for one in videos if one.split == "test"]
    if secret and len(secret) < len(videos) and not any(one.events for one in secret):
        log.warning("%s: the %d videos of its testing subset have no annotations; left out", file, len(secret))
        return [one for one in videos if one.split != "test"]
    return videos


def _official_videos(file: Path) -> list[VideoEvents]:
    """The videos of the official file, which lacks no field; that of a user may."""
    root = read_object(file)
    if root.values.get("taxonomy") is not None:
        for node in root.entries("taxonomy"):
            node.text("nodeName")
    for name, entry in root.entry("database").values.items():
        for field in ("subset", "annotations") if isinstance(entry, dict) else ():
            if entry.get(field) is None:
                raise InputError(f"{file}: video {name!r}: there is no field {field!r}")
    return _videos(file)


def _videos(file: Path) -> list[VideoEvents]:
    content = read_json(file)
    database = content.get("database") if isinstance(content, dict) else None
    if not isinstance(database, dict):
        raise InputError(f"{file}: not ActivityNet's JSON: it has no object 'database'")
    if not database:
        raise InputError(f"{file}: its database holds no video")
    taxonomy = content.get("taxonomy")
    nodes = taxonomy if isinstance(taxonomy, list) else []
    known = {str(node["nodeName"]) for node in nodes if isinstance(node, dict) and "nodeName" in node}
    return [_video(file, name, entry, known) for name, entry in database.items()]


def _video(file: Path, name: str, entry: Any, known: set[str]) -> VideoEvents:
    where = f"{file}: video {name!r}"
    if not isinstance(entry, dict):
        raise InputError(f"{where}: must be an object with 'annotations', not {entry!r}")
    split = None
    if entry.get("subset") is not None:
        split = split_name(str(entry["subset"]))
        if split is None:
            raise InputError(
                f"{where}: subset {entry['subset']!r} is unknown{nearest(str(entry['subset']), SPLIT_NAMES)}"
            )
    duration = entry.get("duration")
    annotations = entry.get("annotations", [])
    if not isinstance(annotations, list):
        raise InputError(f"{where}: annotations must be a list, not {annotations!r}")
    return VideoEvents(
        name,
        where,
        tuple(_event(f"{where}: annotation {place}", one, known) for place, one in enumerate(annotations, start=1)),
        split,
        None if duration is None else time_of(duration, where, "duration") or None,
        spans_of(entry.get("annotated"), where),
        classes_of(entry.get("classes_annotated"), where),
    )


def _event(where: str, given: Any, known: set[str]) -> Event:
    segment = given.get("segment") if isinstance(given, dict) else None
    if not isinstance(segment, list) or len(segment) != 2:
        raise InputError(f'{where}: must be {{"segment": [start, end], "label": "..."}}, not {given!r}')
    label = label_of(given.get("label"), where)
    if known and label not in known:
        raise InputError(f"{where}: label {label!r} is not in the taxonomy{nearest(label, known)}")
    start_s, end_s = (time_of(one, where, "segment") for one in segment)
    return Event(start_s, end_s, label, where)
