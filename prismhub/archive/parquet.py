"""An archive as one Parquet file, a row a scene, for tools of your own."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core_encoder.errors import InputError
from core_encoder.files.storage import atomic_path
from prismhub.exporting.export_settings import ArchiveExportSettings

if TYPE_CHECKING:
    from prismhub.archive.folder_reader import FolderReader

_AT_ONCE = 5000  # scenes of a row group


def write_parquet(archive: Path, out: Path, options: ArchiveExportSettings) -> int:
    """Write every scene of an archive to a Parquet file, whole or not at all; how many they are.

    Raises:
        InputError: no such archive, a file of another suffix, a filter that cannot be read, pyarrow is not installed,
            or the disk is full.
    """
    if out.suffix.lower() != ".parquet":
        raise InputError(f"{out}: an archive is exported to a .parquet file")
    if importlib.util.find_spec("pyarrow") is None:
        raise InputError(f"{out}: .parquet needs pyarrow, which is not installed: pip install pyarrow")
    from pyarrow import parquet

    from prismhub.archive.filters import parse_filter
    from prismhub.archive.folder_reader import FolderReader

    where = None if options.where is None else parse_filter(options.where)

    with FolderReader.open(archive) as index, index.snapshot(), atomic_path(out) as aside:
        schema = _schema(options, index.record.width).with_metadata({"archive": repr(index.record)})
        ids = index.every_scene(where)
        with parquet.ParquetWriter(aside, schema) as writer:
            for table in _tables(options, index, ids, schema):
                writer.write_table(table)
    return len(ids)


def _schema(options: ArchiveExportSettings, width: int) -> Any:
    import pyarrow as pa

    said = [("adapter", pa.string()), ("label", pa.string()), ("score", pa.float32()), ("text", pa.string())]
    finding = pa.struct([*said, ("start", pa.float64()), ("end", pa.float64())])
    cue = pa.struct([("start", pa.float64()), ("end", pa.float64()), ("text", pa.string())])
    columns = [(name, pa.string()) for name in ("root", "video", "recorded")]
    columns += [(name, pa.float64()) for name in ("start", "end", "video_duration", "fps")]
    columns += [(name, pa.int32()) for name in ("place", "width", "height")]
    columns += [("findings", pa.list_(finding)), ("speech", pa.list_(cue))]
    columns += [("vector", pa.list_(pa.float32(), width))] if options.vectors else []
    columns += [("thumbnail", pa.binary())] if options.thumbnails else []
    return pa.schema(columns)


def _tables(options: ArchiveExportSettings, index: FolderReader, ids: list[int], schema: Any) -> Iterator[Any]:
    import pyarrow as pa

    for start in range(0, len(ids), _AT_ONCE):
        some = ids[start : start + _AT_ONCE]
        rows: list[dict[str, Any]] = []
        for one in index.scenes(some, options.thumbnails):
            video, scene = one.video, one.scene
            findings = [
                {"adapter": said.adapter, "label": said.label, "score": said.score, "text": said.text}
                | {"start": said.start_s, "end": said.end_s}
                for said in scene.findings
            ]
            cues = [{"start": cue.start_s, "end": cue.end_s, "text": cue.text} for cue in scene.speech]
            rows.append(
                {"root": _as_utf8(video.root), "video": _as_utf8(video.path), "recorded": video.recorded}
                | {"start": scene.start_s, "end": scene.end_s, "video_duration": video.duration_s, "fps": video.fps}
                | {"place": one.place, "width": video.width, "height": video.height}
                | {"findings": findings, "speech": cues, "thumbnail": scene.thumbnail or None}
            )
        columns = {name: [row.get(name) for row in rows] for name in schema.names if name != "vector"}
        arrays = {name: pa.array(values, schema.field(name).type) for name, values in columns.items()}
        if options.vectors:
            values = pa.array(index.vectors(some).reshape(-1))
            arrays["vector"] = pa.FixedSizeListArray.from_arrays(values, index.record.width)
        yield pa.table([arrays[name] for name in schema.names], schema=schema)


def _as_utf8(path: str) -> str:
    """A path that is no UTF-8 with `\\xff` for each such byte, as `prismhub embed` writes it."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
