"""Fly-vs-Fly in miniature, with the names that two folders share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tests.tasks.miniatures.clips import write_clip

FRAMES = 32
NAMES = {
    "Aggression": ["wing threat", "charge", "lunge", "hold", "tussle"],
    "Courtship": ["touch", "wing extension", "circle", "copulation"],
}


def cells(rows: list[list[Any]]) -> np.ndarray:
    """MATLAB's cell array."""
    made = np.empty((len(rows), len(rows[0])), dtype=object)
    for place in np.ndindex(made.shape):
        made[place] = rows[place[0]][place[1]]
    return made


def write(folder: Path, lost: tuple[int, ...] = (31,)) -> Path:
    """Two movies in train, two in test; the flies of the first have no position in the frames `lost`."""
    from scipy.io import savemat

    for split in ("train", "test"):
        for kind, names in NAMES.items():
            place = folder / split / kind / "movie1"
            write_clip(place / "movie1.mp4", FRAMES / 30, fps=30)
            nothing = np.zeros((0, 3))
            first = [np.array([[1 + k * 4, 6 + k * 4, 0]]) for k in range(len(names))]
            second = [nothing] * (len(names) - 1) + [np.array([[20, 24, 1], [26, 27, 0]])]
            savemat(place / "movie1_actions.mat", {"behs": cells([names]), "bouts": cells([first, second])})
            if kind == "Aggression":
                data = np.ones((2, FRAMES, 5))
                data[1, list(lost), :2] = np.nan
                savemat(place / "movie1_track.mat", {"trk": {"names": cells([["x", "y"]]), "data": data}})
    return folder
