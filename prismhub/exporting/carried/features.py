"""Features of a video, a row a view, from the `.npz` file that `prismhub embed` writes: this folder has no encoder."""

import sys
import zipfile

import numpy as np


def opened(path):
    """The file, or one line that says what it should be."""
    try:
        file = np.load(path)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        file = None
    if not isinstance(file, np.lib.npyio.NpzFile) or "values" not in file:
        sys.exit(f"{path}: not a file of features: prismhub embed VIDEO --out features.npz writes one")
    return file


def inputs(path):
    """What the graph takes: features, and which time steps are real where features have time steps."""
    with opened(path) as file:
        values, mask = file["values"].astype(np.float32), file.get("frame_mask")
        steps = file["frame_times"].shape[1] if "frame_times" in file else 0
    if steps and mask is None:
        mask = np.ones((len(values), steps), bool)
    return {"features": values} | ({} if mask is None else {"frame_mask": mask})


def vectors(path):
    """The vectors of a video's windows (W, D), and the start and end of each in seconds (W, 2)."""
    with opened(path) as file:
        return file["values"].astype(np.float32), np.stack([file["start"], file["end"]], -1)


def seen_boxes(boxes, path):
    """Boxes (Q, 4) as they are: they must be fractions of what the encoder saw."""
    return np.asarray(boxes, np.float64)
