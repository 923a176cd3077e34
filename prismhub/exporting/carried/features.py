"""Features of a video, a row a view, from the `.npz` file that `prismhub embed` writes: this folder has no encoder."""

import numpy as np


def inputs(path):
    """What the graph takes: features, and which time steps are real where features have time steps."""
    with np.load(path) as file:
        values, mask = file["values"].astype(np.float32), file.get("frame_mask")
        steps = file["frame_times"].shape[1] if "frame_times" in file else 0
    if steps and mask is None:
        mask = np.ones((len(values), steps), bool)
    return {"features": values} | ({} if mask is None else {"frame_mask": mask})


def vectors(path):
    """The vectors of a video's windows (W, D), and the start and end of each in seconds (W, 2)."""
    with np.load(path) as file:
        return file["values"].astype(np.float32), np.stack([file["start"], file["end"]], -1)


def seen_boxes(boxes, path):
    """Boxes (Q, 4) as they are: they must be fractions of what the encoder saw."""
    return np.asarray(boxes, np.float64)
