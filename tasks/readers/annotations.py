"""Labelled videos on disk become samples: class-per-folder, CSV, JSON lines, `path label` lines. No torch.

    folder/<class>/x.mp4                    the class is the folder, the split is made later
    folder/train/<class>/x.mp4              so is the split
    folder/metadata.csv or .jsonl           `file_name` and `label`; also one in each of folder/train, folder/val, ...
    folder/train.csv, val.csv, test.csv     or .jsonl, .txt: one manifest per split
    list.csv, list.jsonl, list.txt          one manifest; relative paths are relative to it
    shards-000.tar, a folder of them        as in `tasks.readers.shards`
    train-000.parquet, a folder of them     as in `tasks.readers.parquet_rows`
    s3://bucket/folder/<class>/x.mp4        a folder of an object store, or shards there
    hf://org/name#train                     a data set of the Hub, as in `tasks.readers.hub_data_sets`

Only what is written is read here: a video that is missing or broken is found, and recorded, when it is decoded.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path, PurePath, PurePosixPath
from typing import Any, TypeVar

from core_encoder.clip_plan import Clip
from core_encoder.errors import InputError
from core_encoder.files.storage import nearest, read_json
from core_encoder.files.urls import Location, Url, as_location
from core_encoder.video.video_files import find_videos
from tasks.readers.hub_data_sets import data_set_address, find_splits
from tasks.readers.manifests import SUFFIXES, Columns, Row, read_rows, refuse_absent
from tasks.readers.shards import find_shards
from tasks.sample import Sample
from tasks.splits import SPLIT_NAMES, split_name

AnySample = TypeVar("AnySample", bound=Sample)


def read_samples(
    source: str | Path,
    *,
    path_column: str | None = None,
    label_column: str | None = None,
    split_column: str | None = None,
    start_column: str | None = None,
    end_column: str | None = None,
    id_column: str | None = None,
    label_separator: str | None = None,
) -> list[Sample]:
    """Read a folder or a manifest; the layout is recognized (see the head of this module).

    Args:
        source: a folder or a manifest file.
        path_column: of the videos, where its name is not one of the usual (`tasks.readers.manifests.ALIASES`).
        label_column: of the labels, as above.
        split_column: of the split, as above.
        start_column: of the second at which a clip starts, as above.
        end_column: of the second at which it ends, as above.
        id_column: of a name for the clip, as above.
        label_separator: several labels in one field are separated by this; a column called `labels` is separated by
            `|` or `;` without being asked. A JSON list holds several labels anyway; an empty list means none applies.

    Raises:
        InputError: one line with file, line, field and the fix.
    """
    columns = Columns(path_column, label_column, split_column, start_column, end_column, id_column)
    if label_separator == "":
        raise InputError("label_separator is empty; give the character between two labels, such as '|'")
    manifests, root = find_manifests(source)
    if not manifests:
        if columns != Columns() or label_separator is not None:
            raise InputError(f"{root}: holds no manifest (metadata.csv, train.csv, ...), so there is no column to name")
        return _read_class_folders(root)
    placed = []
    for file, split in manifests:
        rows = read_rows(file, columns)
        placed += [(row, _sample(row, root, split, label_separator)) for row in rows]
    _refuse_duplicates(placed)
    samples = splits_from_folders([sample for _, sample in placed], root)
    refuse_absent(manifests[0][0], [sample.clip for sample in samples])
    return samples


def is_multi_label(samples: Iterable[Sample]) -> bool:
    """Whether any sample has no label or more than one."""
    return any(len(sample.labels) != 1 for sample in samples)


def label_names(samples: Iterable[Sample]) -> tuple[str, ...]:
    """The distinct labels in the order of their indices: by number if all are integers, else alphabetical."""
    names = {label for sample in samples for label in sample.labels}
    if all(_is_integer(name) for name in names):
        return tuple(sorted(names, key=lambda name: (int(name), name)))
    return tuple(sorted(names))


def read_class_list(path: str | Path) -> tuple[str, ...]:
    """Read class names in the order of their indices: a text file with one a line, or a JSON list.

    Raises:
        InputError: unreadable, empty, or a name twice.
    """
    path = Path(path)
    if path.suffix.lower() == ".json":
        names = read_json(path)
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise InputError(f"{path}: must be a JSON list of class names")
    else:
        try:
            names = path.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: cannot be read as a list of class names ({error})") from error
    names = [name.strip() for name in names if name.strip()]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated or not names:
        raise InputError(f"{path}: " + (f"class {repeated[0]!r} is listed twice" if names else "holds no class name"))
    return tuple(names)


def name_labels(samples: Iterable[Sample], classes: Sequence[str]) -> list[Sample]:
    """Replace numbers by the class of that index, unless classes are numbers; other labels must be one of `classes`.

    Raises:
        InputError: a label is neither.
    """
    known = set(classes)
    numbered = any(_is_integer(name) for name in classes)  # then a number is a name, never an index

    def named(sample: Sample, label: str) -> str:
        if label in known:
            return label
        if not numbered and _is_integer(label) and 0 <= int(label) < len(classes):
            return classes[int(label)]
        raise InputError(f"{sample.id}: label {label!r} is not in the class list{nearest(label, classes)}")

    return [replace(sample, labels=tuple(named(sample, label) for label in sample.labels)) for sample in samples]


def find_manifests(source: str | Path) -> tuple[list[tuple[Location, str | None]], Location]:
    """The manifests, shards or splits that `source` names, each with the split that its name says, and where ids begin.

    Raises:
        InputError: there is no such place.
    """
    place = as_location(source)
    if isinstance(place, Url):
        if (address := data_set_address(place)) is not None:
            return list(find_splits(address)), address.files
        found = find_shards(source)
        return ([], place) if found is None else found
    root = Path(os.path.normpath(place.expanduser().absolute()))  # links stay: ids follow the names given
    if root.is_file() and root.suffix.lower() not in (".tar", ".parquet"):
        return [(root, None)], root.parent
    manifests: list[tuple[Location, str | None]] = list(manifests_in(root)) if root.is_dir() else []
    if manifests:
        return manifests, root
    if (found := find_shards(source)) is not None:
        return found
    if not root.exists():
        raise InputError(f"{source}: no such file or folder")
    return [], root


def manifests_in(folder: Path) -> list[tuple[Path, str | None]]:
    """`metadata.*` here or in the split folders, else one manifest per split; at most one for each split."""
    files = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in SUFFIXES and path.is_file()]
    found: list[tuple[Path, str | None]] = [(path, None) for path in files if path.stem.lower() == "metadata"]
    if not found:
        inner = [path for path in sorted(folder.glob("*/metadata.*")) if path.suffix.lower() in SUFFIXES]
        found = [(path, split_name(path.parent.name)) for path in inner if split_name(path.parent.name)]
    if not found:
        found = [(path, split_name(path.stem)) for path in files if split_name(path.stem)]
    by_split: dict[str | None, Path] = {}
    for path, split in found:
        other = by_split.setdefault(split, path)
        if other is not path:
            raise InputError(f"{folder}: holds both {other.name} and {path.name}; remove one or give the file itself")
    return found


def _read_class_folders(root: Location) -> list[Sample]:
    if isinstance(root, Url):
        videos, folders = _remote_videos(root)
        return _class_samples(root, videos, folders)
    try:
        here: list[PurePath] = [path.relative_to(root) for path in find_videos(root)]
    except InputError as error:
        lists = [path.name for path in sorted(root.iterdir()) if path.suffix.lower() in SUFFIXES]
        hint = f"to read a list give the file itself ({', '.join(lists)})" if lists else "expected <class>/<video>"
        raise InputError(f"{error}; {hint}") from error
    return _class_samples(root, here, sorted(path.name for path in root.iterdir() if path.is_dir()))


def _remote_videos(root: Url) -> tuple[list[PurePath], list[str]]:
    from core_encoder.video.remote_folders import videos_at

    videos: list[PurePath] = [PurePosixPath(path[len(str(root / "x")) - 1 :]) for path in videos_at(root)]
    return videos, sorted({path.parts[0] for path in videos if len(path.parts) > 1})


def _class_samples(root: Location, videos: Sequence[PurePath], named_folders: Sequence[str]) -> list[Sample]:
    loose = [path for path in videos if len(path.parts) == 1]
    if loose:
        raise InputError(f"{root / loose[0]}: lies in no class folder; expected {root.name}/<class>/{loose[0].name}")
    tops = {path.parts[0] for path in videos}
    if not any(split_name(path.parts[0]) and len(path.parts) > 2 for path in videos):
        if all(split_name(top) for top in tops):
            raise InputError(f"{root / videos[0]}: lies in no class folder; expected {videos[0].parts[0]}/<class>/...")
        return [_folder_sample(root, path, path.parts[0], None) for path in videos]
    folders: dict[str, str] = {}
    for folder in named_folders:
        split = split_name(folder)
        if split is None:
            if folder in tops:
                raise InputError(f"{root / folder}: lies beside split folders; move it into one of them")
            continue
        if folder not in tops:
            raise InputError(f"{root / folder}: this split holds no videos; fill it or remove it")
        if folders.setdefault(split, folder) != folder:
            raise InputError(f"{root}: holds both {folders[split]}/ and {folder}/; keep one")
    short = [path for path in videos if len(path.parts) == 2]
    if short:
        raise InputError(f"{root / short[0]}: lies in no class folder; expected {short[0].parts[0]}/<class>/...")
    return [_folder_sample(root, path, path.parts[1], split_name(path.parts[0])) for path in videos]


def _folder_sample(root: Location, path: PurePath, label: str, split: str | None) -> Sample:
    place = root / path
    return Sample(path.as_posix(), Clip(place if isinstance(place, Url) else str(place)), (label,), split)


def _sample(row: Row, root: Location, split: str | None, separator: str | None) -> Sample:
    values, clip = row.values, row.clip()
    split = row_split(row, split)
    own_id = "" if values.get("id") is None else str(values["id"]).strip()
    row.check_text(own_id, "id")
    return Sample(own_id or clip_id(clip, values["path"], root), clip, _labels(row, separator), split)


def row_split(row: Row, split: str | None) -> str | None:
    """The split of a row: that of its manifest, or the one written in it.

    Raises:
        InputError: an unknown one is written.
    """
    if "split" not in row.values or split is not None:
        return split
    written = str(row.values["split"] or "").strip()
    found = split_name(written)
    if found is None:
        raise row.error(f"split {written!r} is unknown{nearest(written.lower(), SPLIT_NAMES)}")
    return found


def clip_id(clip: Clip, given: str, root: Location) -> str:
    """`walk/a.mp4#1.5-3`: the same wherever the data's folder lies, unless the manifest has paths outside of it."""
    name = _below(clip.path, root) or clip.path
    if isinstance(name, Url):
        return str(name) + bounds_text(clip)
    if name == clip.path and not os.path.isabs(given.strip()):  # noqa: PTH117 (a Path for each row is slow)
        name = os.path.relpath(clip.path, root)
    return name.replace(os.sep, "/") + bounds_text(clip)


def bounds_text(clip: Clip) -> str:
    """`#1.5-3`, what tells the clips of one video apart; empty for a whole video."""
    if clip.start_s == 0.0 and clip.end_s is None:
        return ""
    return f"#{_short(clip.start_s)}-{_short(clip.end_s)}"


def _below(path: str, root: Location) -> str | None:
    """The part of an absolute path below `root`, None when it lies elsewhere."""
    top = os.path.join(root, "")  # noqa: PTH118 (ends in a slash)
    return str(path)[len(top) :] if path.startswith(top) else None


def _short(time_s: float | None) -> str:
    return "" if time_s is None else f"{time_s:.3f}".rstrip("0").rstrip(".")


def _labels(row: Row, separator: str | None) -> tuple[str, ...]:
    value: Any = row.values["label"]
    name = row.names["label"]
    if isinstance(value, str):
        if separator is not None:
            value = value.split(separator)
        elif name.lower() == "labels":
            value = value.replace(";", "|").split("|")
    values = value if isinstance(value, list) else [value]
    labels = []
    for one in values:
        if isinstance(one, float) and math.isnan(one):
            one = None  # an empty cell that went through pandas
        if isinstance(one, bool) or not (one is None or isinstance(one, str | int)):
            raise row.error(f"{name} {one!r} is not a label; give a string or an integer")
        text = "" if one is None else str(one).strip()
        row.check_text(text, "label")
        if not text or text.lower() == "nan":  # what pandas writes for an empty cell
            raise row.error(f"{name} is empty; give a label or remove the row")
        labels.append(text)
    return tuple(dict.fromkeys(labels))


def _refuse_duplicates(placed: Sequence[tuple[Row, Sample]]) -> None:
    seen: dict[object, Row] = {}
    for row, sample in placed:
        clip = sample.clip
        bounds = (clip.path, round(clip.start_s * 1000), None if clip.end_s is None else round(clip.end_s * 1000))
        for key, what in ((bounds, "clip"), (sample.id, "id")):
            first = seen.setdefault(key, row)
            if first is not row:
                where = first.where if first.file == row.file else f"{first.where} of {first.file.name}"
                fix = "remove one, or join its labels in one row" if what == "clip" else "give each row its own"
                raise row.error(f"the same {what} as {where} ({sample.id}); {fix}")


def splits_from_folders(samples: list[AnySample], root: Location) -> list[AnySample]:
    """Where no split is written but every path starts with a split folder, that is the split."""
    if any(sample.split for sample in samples):
        return samples
    splits = []
    for sample in samples:
        folder, slash, _ = (_below(sample.clip.path, root) or "").replace(os.sep, "/").partition("/")
        splits.append(split_name(folder) if slash else None)
        if splits[-1] is None:
            return samples
    return [replace(sample, split=split) for sample, split in zip(samples, splits, strict=True)]


def _is_integer(text: str) -> bool:
    return text.isascii() and text.removeprefix("-").isdigit()
