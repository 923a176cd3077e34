"""Parquet files of videos as `datasets` writes them, without importing it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

CLASSES = ("run", "walk")
FEATURES = {"video": {"_type": "Video"}, "activity": {"names": list(CLASSES), "_type": "ClassLabel"}}


def write_parquet(
    path: Path,
    videos: Sequence[bytes | None],
    *,
    features: dict[str, Any] | None = FEATURES,
    group: int = 2,
    **more: Any,
) -> Path:
    """A file of videos whose classes take turns, `group` rows in a row group; `more` are other columns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    columns: dict[str, Any] = {
        "video": pa.array(
            [{"bytes": content, "path": f"{number}.mp4"} for number, content in enumerate(videos)],
            pa.struct({"bytes": pa.binary(), "path": pa.string()}),
        ),
        "activity": [number % 2 for number in range(len(videos))],
    }
    table = pa.table(columns | more)
    if features is not None:
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, path, row_group_size=group)
    return path
