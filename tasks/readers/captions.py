"""Videos with captions on disk become samples: CSV, JSON lines of `video,caption[,split]`, MSR-VTT. No torch.

    list.csv, list.jsonl                    one manifest; relative paths are relative to it
    folder/metadata.csv or .jsonl           `file_name` and `caption`; also one in each of folder/train, folder/val, ...
    folder/train.csv, val.csv, test.csv     or .jsonl: one manifest per split
    MSR_VTT.json                            MSR-VTT's own; its videos lie beside it, or in the folder `videos`

A video may have several captions: a row for each of them, or a JSON list in one row.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from core_encoder.clip_plan import Clip
from core_encoder.errors import InputError
from core_encoder.files.urls import Location
from tasks.readers.annotations import clip_id, find_manifests, row_split, splits_from_folders
from tasks.readers.manifests import Columns, Row, read_rows, refuse_absent
from tasks.readers.msr_vtt import is_msr_vtt, read_msr_vtt
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
    if label_separator is not None:
        raise InputError("label_separator means nothing for captions: give a row for each, or a JSON list")
    if is_msr_vtt(source):
        told = read_msr_vtt(source, videos)
        return [CaptionedSample(one.name, one.clip, (), one.split, one.captions) for one in told]
    if videos is not None:
        raise InputError("videos is for MSR-VTT's JSON; the paths in a manifest are relative to it")
    manifests, folder = text_manifests(source)
    columns = Columns(path_column, None, split_column, start_column, end_column, id_column, label_column)
    placed = [
        (row, _sample(row, folder, split))
        for file, split in manifests
        for row in read_rows(file, columns, needed="caption")
    ]
    samples = splits_from_folders(_joined(placed), folder)
    refuse_absent(manifests[0][0], [sample.clip for sample in samples])
    return samples


def text_manifests(source: str | Path) -> tuple[list[tuple[Location, str | None]], Location]:
    """The manifests of a file or folder, each with the split that its name says, and the folder that ids begin at.

    Raises:
        InputError: there is no such place, or no manifest in it.
    """
    manifests, root = find_manifests(source)
    if not manifests:
        raise InputError(f"{root}: holds no manifest with captions (metadata.csv, metadata.jsonl, train.csv, ...)")
    return manifests, root


def _sample(row: Row, root: Location, split: str | None) -> CaptionedSample:
    clip = row.clip()
    own_id = "" if row.values.get("id") is None else str(row.values["id"]).strip()
    row.check_text(own_id, "id")
    name = own_id or clip_id(clip, row.values["path"], root)
    return CaptionedSample(name, clip, (), row_split(row, split), row_texts(row, "caption"))


def row_texts(row: Row, role: str) -> tuple[str, ...]:
    """The captions, or what else has the role, of a row, each on one line; a JSON list holds several.

    Raises:
        InputError: there is none, or it is no text.
    """
    value: Any = row.values[role]
    texts = []
    for one in value if isinstance(value, list) else [value]:
        if is_empty_text(one):
            raise row.error(f"{row.names[role]} is empty; give {_a(role)} or remove the row")
        counts = role == "answer" and isinstance(one, int | float) and not isinstance(one, bool)  # how many?
        if not (isinstance(one, str) or counts):
            raise row.error(f"{row.names[role]} {one!r} is not {_a(role)}; give a string, or a list of strings")
        texts.append(" ".join(str(one).split()))
    if not texts:
        raise row.error(f"{row.names[role]} is an empty list; give {_a(role)} or remove the row")
    return tuple(texts)


def is_empty_text(value: Any) -> bool:
    """Whether a cell holds no text: an empty one may have gone through pandas and say `nan`."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return True
    return isinstance(value, str) and (not value.strip() or value.strip().lower() == "nan" or "\0" in value)


def _a(role: str) -> str:
    return f"an {role}" if role[0] in "aeiou" else f"a {role}"


def _joined(placed: Sequence[tuple[Row, CaptionedSample]]) -> list[CaptionedSample]:
    """One sample a clip, with the captions of all its rows; a caption that comes twice counts once."""
    found: dict[object, tuple[Row, CaptionedSample]] = {}
    for row, sample in placed:
        place = clip_place(sample.clip)
        first_row, first = found.setdefault(place, (row, sample))
        if sample.split != first.split:
            raise row.error(
                f"split {sample.split or 'none'!r}, but {first.split or 'none'!r} in line {first_row.line}, "
                "of the same clip; give all captions of a clip one split"
            )
        captions = tuple(dict.fromkeys(first.captions + sample.captions))
        found[place] = (first_row, replace(first, captions=captions))
    refuse_same_ids(found.values())
    return [sample for _, sample in found.values()]


def clip_place(clip: Clip) -> tuple[str, int, int | None]:
    """What rows of one clip have in common: the path, and bounds to the millisecond."""
    return clip.path, round(clip.start_s * 1000), None if clip.end_s is None else round(clip.end_s * 1000)


def refuse_same_ids(placed: Iterable[tuple[Row, Sample]]) -> None:
    """Refuse samples that share an id.

    Raises:
        InputError: which row, and the other one.
    """
    names: dict[str, Row] = {}
    for row, sample in placed:
        if names.setdefault(sample.id, row) is not row:
            raise row.error(
                f"the same id as line {names[sample.id].line} ({sample.id}), of another clip; give each its own"
            )
