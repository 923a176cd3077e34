"""The vectors of a video's windows, by the encoder of this folder, a few windows at a time."""

import itertools

import numpy as np
from graph import open_graph
from video import HOW, views

AT_ONCE = 8


def vectors(path):
    """The vectors of a video's windows (W, D), and the start and end of each in seconds (W, 2)."""
    encoder, found, spans, several = open_graph("encoder"), [], [], iter(views(path))
    while some := list(itertools.islice(several, AT_ONCE)):
        pixels, masks, times = zip(*some, strict=True)
        given = {"frames": np.stack(pixels)} | ({"frame_mask": np.stack(masks)} if HOW["frame_mask"] else {})
        found.append(encoder(**given)[0])
        spans += times
    return np.concatenate(found), np.array(spans)
