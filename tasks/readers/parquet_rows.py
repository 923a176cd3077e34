"""Parquet files as data: their rows are samples, of which all columns are read but those of the videos' bytes.

The columns of a sample are those of text and numbers, `path`, which names the video in the row, and, where no column
has a name of labels but one is of classes, `label`. Where no column holds bytes, one of paths is read as in manifests.
No torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from core_encoder.files.urls import Location
from core_encoder.video.parquet_videos import read_columns, row_path, table_of, video_column
from tasks.readers.manifests import ALIASES


def parquet_records(
    file: Location, path_column: str | None = None, features: Mapping[str, Any] | None = None
) -> list[tuple[int, str, dict[str, Any]]]:
    """The rows of a file: number, name, and fields, of which `path` names the video in the row.

    `features` are those that the data set tells of its columns, in the form in which `datasets` writes them, where the
    file itself tells none.

    Raises:
        InputError: no Parquet file, or no column of videos, or several of which none is named.
    """
    table = table_of(file)
    told = {**(features or {}), **table.features}
    rows = enumerate(read_columns(file, table.others))
    if names_files(file, path_column):
        return [
            (
                row + 1,
                f"{row + 1}",
                named_classes(values, told) | ({"path": values[path_column]} if path_column else {}),
            )
            for row, values in rows
        ]
    column = video_column(file, table, path_column)
    return [
        (row + 1, f"{column}/{row:06d}", named_classes(values, told) | {"path": row_path(file, column, row)})
        for row, values in rows
    ]


def names_files(file: Location, path_column: str | None = None) -> bool:
    """Whether the videos of a Parquet file are files that it names, in place of bytes in it.

    Raises:
        InputError: it is no Parquet file.
    """
    table = table_of(file)
    return path_column in table.others if path_column else not table.videos


def named_classes(values: Mapping[str, Any], features: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a row with classes by their names instead of their numbers; -1, which is none, becomes None."""
    classes = {name: names for name in values if (names := _class_names(features.get(name)))}
    found = dict(values) | {name: _named(values[name], names) for name, names in classes.items()}
    if len(classes) == 1 and not {name.lower() for name in values} & set(ALIASES["label"]):
        found["label"] = found[next(iter(classes))]
    return found


def _class_names(feature: Any) -> list[str]:
    """The names of a column of classes, or of lists of them; empty for any other."""
    if isinstance(feature, list) and len(feature) == 1:
        feature = feature[0]
    if not isinstance(feature, dict):
        return []
    if "feature" in feature:
        return _class_names(feature["feature"])
    names = feature.get("names") if feature.get("_type") == "ClassLabel" else None
    return [str(name) for name in names] if isinstance(names, list) else []


def _named(value: Any, names: list[str]) -> Any:
    if isinstance(value, list):
        return [_named(one, names) for one in value]
    if not isinstance(value, int):
        return value
    return names[value] if 0 <= value < len(names) else None
