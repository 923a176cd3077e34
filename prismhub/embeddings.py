"""Features of videos as arrays, a row a view, and the files they are written to: NumPy, Parquet, safetensors.

    values        (n, E), (n, D), (n, T, D) or (n, T, N, D), by kind; layers come before T
    path          (n,)     of the video
    start, end    (n,)     of the view in its video, in seconds
    frame_times   (n, T)   when each time step is shown, in seconds; of frames and tokens alone
    frame_mask    (n, T)   False where a frame is padding; only where any is

A file also holds what the features are made with, as JSON: the array `meta` of an `.npz` file, the metadata `meta` of
the two others. Paths are the metadata `path` of a safetensors file, a JSON list.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from core_encoder.errors import InputError
from core_encoder.files.storage import atomic_path, write_tensors

if TYPE_CHECKING:
    from core_encoder.features.failures import Failure

_ROW_GROUP_BYTES = 64 << 20


@dataclass(frozen=True, eq=False)
class Embeddings:
    """What `prismhub.embed` gives: `values` float32 with a row a view, and what each row is of.

    Times are seconds in the video; of videos given as arrays, which know no seconds, they count frames.
    """

    values: NDArray[np.float32]
    times: NDArray[np.float64]  # (n, 2): start and end
    paths: tuple[str, ...]
    about: Mapping[str, Any]  # encoder, fingerprint, clip plan, ...: ready for JSON
    frame_times: NDArray[np.float64] | None = None
    frame_mask: NDArray[np.bool_] | None = None
    failures: tuple[Failure, ...] = ()

    def __len__(self) -> int:
        return len(self.values)

    def __repr__(self) -> str:
        return f"Embeddings({self.about['kind']} {self.values.shape} of encoder {self.about['encoder']!r})"

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Every array of numbers by its name in the files."""
        found: dict[str, NDArray[Any] | None] = {
            "values": self.values,
            "start": self.times[:, 0],
            "end": self.times[:, 1],
            "frame_times": self.frame_times,
            "frame_mask": self.frame_mask,
        }
        return {name: array for name, array in found.items() if array is not None}

    def to_pandas(self) -> Any:
        """A `DataFrame` with a row a view: `path`, `start`, `end`, and an array in every cell of `values`.

        Raises:
            InputError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise InputError("to_pandas needs pandas, which is not installed: pip install pandas") from error
        arrays = self.arrays()
        columns = {"path": list(self.paths), "start": arrays.pop("start"), "end": arrays.pop("end")}
        return pandas.DataFrame(columns | {name: list(array) for name, array in arrays.items()})

    def save(self, path: str | Path) -> Path:
        """Write all of it to a `.npz`, `.parquet` or `.safetensors` file, which appears whole or not at all.

        Raises:
            InputError: another suffix, no such folder, the disk is full, or pyarrow is not installed.
        """
        path = check_target(path)
        _WRITERS[path.suffix.lower()](self, path)
        return path


def check_target(path: str | Path) -> Path:
    """Whether embeddings can be written to `path`, said before anything is computed.

    Raises:
        InputError: another suffix, a folder that is missing or may not be written to, or pyarrow is not installed.
    """
    path = Path(path).expanduser()
    if path.suffix.lower() not in _WRITERS:
        raise InputError(f"{path}: the suffix says which file it becomes, one of {', '.join(_WRITERS)}")
    if path.is_dir():
        raise InputError(f"{path}: is a folder, not a file")
    if not path.parent.is_dir():
        raise InputError(f"{path}: there is no folder {path.parent}")
    try:
        TemporaryFile(dir=path.parent).close()
    except OSError as error:
        raise InputError(f"{path}: nothing can be written to {path.parent} ({error.strerror})") from error
    if path.suffix.lower() == ".parquet" and importlib.util.find_spec("pyarrow") is None:
        raise InputError(f"{path}: .parquet needs pyarrow, which is not installed: pip install pyarrow")
    return path


def _write_npz(embeddings: Embeddings, path: Path) -> None:
    arrays = embeddings.arrays()
    arrays |= {"path": np.array(embeddings.paths, dtype=str), "meta": np.array(_meta(embeddings), dtype=str)}
    with atomic_path(path) as aside, aside.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def _write_parquet(embeddings: Embeddings, path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    columns = {"path": pyarrow.array([_as_utf8(one) for one in embeddings.paths], pyarrow.string())}
    for name, array in embeddings.arrays().items():
        column = pyarrow.array(np.ascontiguousarray(array).reshape(-1))
        for size in reversed(array.shape[1:]):  # (n, T, D): lists of T lists of D
            column = pyarrow.FixedSizeListArray.from_arrays(column, size)
        columns[name] = column
    table = pyarrow.table({name: columns.pop(name) for name in ("path", "start", "end")} | columns)
    table = table.replace_schema_metadata({"meta": _meta(embeddings)})
    row_bytes = max(embeddings.values.nbytes // max(len(embeddings), 1), 1)
    with atomic_path(path) as aside:
        parquet.write_table(table, aside, row_group_size=max(_ROW_GROUP_BYTES // row_bytes, 1))


def _write_safetensors(embeddings: Embeddings, path: Path) -> None:
    from torch import from_numpy

    tensors = {name: from_numpy(np.ascontiguousarray(array)) for name, array in embeddings.arrays().items()}
    write_tensors(path, tensors, {"path": json.dumps(embeddings.paths), "meta": _meta(embeddings)})


def _meta(embeddings: Embeddings) -> str:
    return json.dumps(embeddings.about)


def _as_utf8(path: str) -> str:
    """A path that is no UTF-8 with `\\xff` for each such byte, for files that hold nothing else."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


_WRITERS: dict[str, Callable[[Embeddings, Path], None]] = {
    ".npz": _write_npz,
    ".parquet": _write_parquet,
    ".safetensors": _write_safetensors,
}
