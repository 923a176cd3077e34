"""Videos with captions on disk become samples: CSV, JSON lines of `video,caption[,split]`, MSR-VTT. No torch.

    list.csv, list.jsonl                    one manifest; relative paths are relative to it
    folder/metadata.csv or .jsonl           `file_name` and `caption`; also one in each of folder/train, folder/val, ...
    folder/train.csv, val.csv, test.csv     or .jsonl: one manifest per split
    MSR_VTT.json                            MSR-VTT's own; its videos lie beside it, or in the folder `videos`

A video may have several captions: a row for each of them, or a JSON list in one row.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from core_encoder.clip_plan import Clip
from core_encoder.errors import InputError
from tasks.readers.annotations import clip_id, manifests_in, row_split, splits_from_folders
from tasks.readers.events import Videos
from tasks.readers.manifests import Columns, Row, read_rows, refuse_absent
from tasks.readers.msr_vtt import read_msr_vtt
from tasks.sample import Sample


@dataclass(frozen=True)
class CaptionedSample(Sample):
    """One clip with the captions that belong to it, in the order in which they were written; it has no labels."""

    captions: tuple[str, ...] = ()


def read_captions(
    source: str | Path,
    *,
    path_column: str | None = None,
    label_column: str | None = None,
    split_column: str | None = None,
    start_column: str | None = None,
    end_column: str | None = None,
    id_column: str | None = None,
    label_separator: str | None = None,
    videos: str | Path | None = None,
) -> list[CaptionedSample]:
    """Read a manifest, or a folder that holds one; rows of one clip become one sample with several captions.

    Args:
        path_column, label_column, ...: columns whose name is not one of the usual (`tasks.readers.manifests.ALIASES`);
            `label_column` is that of the caption.
        videos: folder of the videos that MSR-VTT's file names.

    Raises:
        InputError: one line with file, line, field and the fix.
    """
    root = Path(os.path.normpath(Path(source).expanduser().absolute()))
    if label_separator is not None:
        raise InputError("label_separator means nothing for captions: give a row for each, or a JSON list")
    if not root.exists():
        raise InputError(f"{source}: no such file or folder")
    if root.suffix.lower() == ".json" and root.is_file():
        return _from_msr_vtt(root, videos)
    if videos is not None:
        raise InputError("videos is for MSR-VTT's JSON; the paths in a manifest are relative to it")
    manifests = manifests_in(root) if root.is_dir() else [(root, None)]
    if not manifests:
        raise InputError(f"{root}: holds no manifest with captions (metadata.csv, metadata.jsonl, train.csv, ...)")
    folder = root if root.is_dir() else root.parent
    columns = Columns(path_column, None, split_column, start_column, end_column, id_column, label_column)
    placed = [
        (row, _sample(row, folder, split))
        for file, split in manifests
        for row in read_rows(file, columns, needed="caption")
    ]
    samples = splits_from_folders(_joined(placed), folder)
    refuse_absent(manifests[0][0], [sample.clip for sample in samples])
    return samples


def _from_msr_vtt(file: Path, videos: str | Path | None) -> list[CaptionedSample]:
    finder = Videos(file, videos)
    samples = [
        CaptionedSample(name, Clip(finder.path_of(name, f"{file}: video {name!r}")), (), split, captions)
        for name, split, captions in read_msr_vtt(file)
    ]
    refuse_absent(file, [sample.clip for sample in samples], "say where they are with --videos")
    return samples


def _sample(row: Row, root: Path, split: str | None) -> CaptionedSample:
    clip = row.clip()
    own_id = "" if row.values.get("id") is None else str(row.values["id"]).strip()
    row.check_text(own_id, "id")
    name = own_id or clip_id(clip, row.values["path"], root)
    return CaptionedSample(name, clip, (), row_split(row, split), _captions(row))


def _captions(row: Row) -> tuple[str, ...]:
    """The captions of a row, each on one line; a JSON list holds several."""
    value: Any = row.values["caption"]
    captions = []
    for one in value if isinstance(value, list) else [value]:
        if one is None or (isinstance(one, float) and math.isnan(one)):
            one = ""  # an empty cell that went through pandas
        if not isinstance(one, str):
            raise row.error(f"{row.names['caption']} {one!r} is not a caption; give a string, or a list of strings")
        text = " ".join(one.split())
        if not text or text.lower() == "nan" or "\0" in text:
            raise row.error(f"{row.names['caption']} is empty; give a caption or remove the row")
        captions.append(text)
    if not captions:
        raise row.error(f"{row.names['caption']} is an empty list; give a caption or remove the row")
    return tuple(captions)


def _joined(placed: Sequence[tuple[Row, CaptionedSample]]) -> list[CaptionedSample]:
    """One sample a clip, with the captions of all its rows; a caption that comes twice counts once."""
    found: dict[object, tuple[Row, CaptionedSample]] = {}
    for row, sample in placed:
        clip = sample.clip
        place = (clip.path, round(clip.start_s * 1000), None if clip.end_s is None else round(clip.end_s * 1000))
        first_row, first = found.setdefault(place, (row, sample))
        if sample.split != first.split:
            raise row.error(
                f"split {sample.split or 'none'!r}, but {first.split or 'none'!r} in line {first_row.line}, "
                "of the same clip; give all captions of a clip one split"
            )
        captions = tuple(dict.fromkeys(first.captions + sample.captions))
        found[place] = (first_row, replace(first, captions=captions))
    names: dict[str, Row] = {}
    for row, sample in found.values():
        if names.setdefault(sample.id, row) is not row:
            raise row.error(
                f"the same id as line {names[sample.id].line} ({sample.id}), of another clip; give each its own"
            )
    return [sample for _, sample in found.values()]
