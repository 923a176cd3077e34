"""Fly-vs-Fly: `movieN_actions.mat` with names `behs` and spans `bouts[fly, behaviour]`, `[start, end, ...]` a row.

Source: Caltech record zrznw-w7386, folders such as `Aggression/movie1/`. Frames are counted from 1, both ends belong to
the span. A video lies beside its annotations, or in folders of the same names, and is called `movieN`; all of it is to
be put in folders `train` and `test`. Where `movieN_track.mat` lies beside them, too, frames in which a fly has no
position do not count.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core_encoder.errors import InputError
from tasks.readers.dataset_folder import DatasetFolder
from tasks.readers.labelled_frames import Labels, Windows, frame_samples
from tasks.sample import Sample

BEHAVIOURS = ("lunging", "wing_threat", "tussling", "wing_extension", "circling", "copulation")
_WRITTEN: Mapping[str, str] = {
    **{name: name for name in BEHAVIOURS},
    **{"lunge": "lunging", "tussle": "tussling", "circle": "circling"},
}
_ENDING = "_actions.mat"


def read_fly_vs_fly(data: DatasetFolder, split: str) -> list[Sample]:
    """A clip of 16 frames around every frame of `train` or `test`, with what either fly does.

    Raises:
        InputError: one line with file, field and the fix; SciPy, which reads these files, is not installed.
    """
    files = data.files(_ENDING, under=split)
    if not files:
        raise InputError(f"{data.path}: no *{_ENDING} lies in a folder {split!r}; put the movies of the split there")
    samples: list[Sample] = []
    for file in files:
        movie = file.name.removesuffix(_ENDING)
        place = file.parent.relative_to(data.path) / movie
        name = "/".join(place.parts[place.parts.index(split) :])  # whatever lies above the folder of the split
        labels = _labels(file, file.with_name(f"{movie}_track.mat"))
        samples += frame_samples(name, data.video(place.as_posix(), name), labels, str(file), Windows(), split=split)
    return samples


def _labels(file: Path, track: Path) -> list[Labels | None]:
    content = _read_mat(file)
    for field in ("behs", "bouts"):
        if field not in content:
            raise InputError(f"{file}: there is no field {field!r}")
    names = [_plain(one) for one in np.ravel(content["behs"])]
    bouts = np.atleast_2d(content["bouts"])
    if bouts.shape[1] != len(names):
        raise InputError(f"{file}: bouts has {bouts.shape[1]} columns, behs {len(names)} names")
    spans: list[tuple[int, int, str]] = []
    for column, name in enumerate(names):
        for cell in bouts[:, column] if name in _WRITTEN else ():
            for row in np.reshape(cell, (-1, np.shape(cell)[-1])) if np.size(cell) else ():
                if len(row) < 2 or not 1 <= row[0] <= row[1]:
                    raise InputError(f"{file}: bouts of {name!r}: {row.tolist()} is no [start, end] of frames from 1")
                spans.append((int(row[0]) - 1, int(row[1]), _WRITTEN[name]))
    lost = _lost(track) if track.is_file() else np.zeros(0, dtype=bool)
    last = max((end for _, end, _ in spans), default=0)
    if track.is_file() and last > 1.02 * len(lost) + 2:
        raise InputError(f"{file}: bouts end with frame {last}, but {track.name} has {len(lost)} frames")
    found: list[list[str]] = [[] for _ in range(max(len(lost), last))]
    for start, end, name in spans:
        for frame in range(start, end):
            if name not in found[frame]:
                found[frame].append(name)
    return [None if frame < len(lost) and lost[frame] else tuple(one) for frame, one in enumerate(found)]


def _lost(track: Path) -> NDArray[np.bool_]:
    """In which frames a fly has no position."""
    try:
        positions = np.asarray(_read_mat(track)["trk"][0, 0]["data"], dtype=np.float64)[:, :, :2]  # (flies, frames, xy)
    except (KeyError, IndexError, ValueError) as error:
        raise InputError(f"{track}: there are no positions trk.data of (flies, frames, features)") from error
    return np.asarray(np.isnan(positions).any(axis=(0, 2)))


def _read_mat(file: Path) -> Any:
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise InputError(f"{file}: files of MATLAB are read by SciPy: pip install scipy") from error
    try:
        return loadmat(file)
    except Exception as error:  # it raises whatever the bytes lead it to
        raise InputError(f"{file}: cannot be read as a file of MATLAB ({error})") from error


def _plain(name: Any) -> str:
    """`array(['Wing threat'])` -> `wing_threat`."""
    return "_".join(str(np.ravel(name)[0]).lower().replace("_", " ").split()) if np.size(name) else ""
