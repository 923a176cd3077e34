"""Files that say when something happens become samples: ActivityNet, JSON lines, BORIS, BENTO, CSV. No torch.

    activity_net.json                    ActivityNet's own; `subset` is the split
    segments.jsonl                       a line a video: `video`, `segments: [[start, end, label]]`
    events.tsv or .csv                   BORIS's tabular or aggregated export
    mouse1.annot, or a folder of them    BENTO's
    segments.csv                         `video,start,end,label`, a row a segment
    folder/                              one of these; train.csv, val.csv, test.csv (.jsonl); or several of BORIS

Videos lie beside the file, or in the folder `videos`.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from core_encoder.errors import InputError
from tasks.readers.activitynet import read_activitynet
from tasks.readers.bento import is_bento, read_bento
from tasks.readers.boris import is_boris, read_boris
from tasks.readers.events import VideoEvents, Videos, sample_of
from tasks.readers.manifests import Columns, may_exist
from tasks.readers.segment_tables import read_segment_csv, read_segment_lines
from tasks.sample import SegmentSample
from tasks.splits import split_name

SUFFIXES = (".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".annot")


def read_segments(
    source: str | Path, videos: str | Path | None = None, columns: Columns | None = None
) -> list[SegmentSample]:
    """The videos of an annotation file or a folder of them, with what happens in each.

    Raises:
        InputError: one line with file, place and the fix; none of the videos exists.
    """
    root = Path(os.path.normpath(Path(source).expanduser().absolute()))
    if not root.exists():
        raise InputError(f"{source}: no such file or folder")
    files = [(root, None)] if root.is_file() else _files_in(root)
    found: list[SegmentSample] = []
    seen: dict[str, str] = {}
    looked_in = root
    for file, split in files:
        finder = Videos(file, videos)
        looked_in = finder.folder
        for one in _read_file(file, columns or Columns()):
            path = finder.path_of(one.video, one.where)
            sample = sample_of(replace(one, split=split) if split else one, path)
            if (first := seen.setdefault(sample.clip.path, one.where)) != one.where:
                raise InputError(f"{one.where}: the same video as in {first} ({sample.clip.path}); join their events")
            found.append(sample)
    if not any(may_exist(sample.clip.path) for sample in found):
        raise InputError(
            f"{source}: none of its {len(found)} videos is in {looked_in}, e.g. {found[0].clip.path}; say where they "
            "are with --videos"
        )
    return found


def point_classes(samples: Sequence[SegmentSample]) -> tuple[str, ...]:
    """The classes all of whose events are moments."""
    moments = {label for sample in samples for label in sample.moments}
    states = {label for sample in samples for label in sample.labels if label not in sample.moments}
    return tuple(sorted(moments - states))


def _files_in(folder: Path) -> list[tuple[Path, str | None]]:
    """The annotation files of a folder, each with the split that its name says."""
    files = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in SUFFIXES and path.is_file()]
    by_split = [(path, split_name(path.stem)) for path in files]
    if any(split for _, split in by_split):
        chosen: list[tuple[Path, str | None]] = [(path, split) for path, split in by_split if split]
        counts = Counter(split for _, split in chosen)
        if twice := next((split for split, count in counts.items() if count > 1), None):
            raise InputError(f"{folder}: holds several files of the {twice} split; keep one")
        return chosen
    bento = [(path, None) for path in files if path.suffix.lower() == ".annot"]
    if bento:
        return list(bento)
    if len(files) > 1 and all(path.suffix.lower() in (".csv", ".tsv") and is_boris(_text(path)) for path in files):
        return [(path, None) for path in files]
    if len(files) != 1:
        held = ", ".join(path.name for path in files[:3]) or "none"
        raise InputError(
            f"{folder}: needs one file that says when something happens ({', '.join(SUFFIXES)}); it holds {held}"
        )
    return [(files[0], None)]


def _read_file(file: Path, columns: Columns) -> list[VideoEvents]:
    suffix = file.suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError(
            f"{file}: when something happens is read from {', '.join(SUFFIXES)}; see docs/temporal-localization.md"
        )
    if suffix == ".json":
        return read_activitynet(file)
    text = _text(file)
    if suffix == ".annot" or is_bento(text):
        return [read_bento(file, text)]
    if suffix in (".jsonl", ".ndjson"):
        found = read_segment_lines(file, text)
    elif columns == Columns() and is_boris(text):
        found = read_boris(file, text)
    else:
        found = read_segment_csv(file, columns)
    if not found:
        raise InputError(f"{file}: holds no video; add rows or remove the file")
    return found


def _text(file: Path) -> str:
    content = file.read_bytes()
    try:
        return content.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{file}: line {line}: byte 0x{content[error.start]:02x} is not UTF-8; save the file as UTF-8"
        ) from error
