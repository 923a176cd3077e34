"""Colour histograms: what a video says without any encoder, and without the order of its frames."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

LEVELS = 4  # of each of red, green and blue


def colour_histogram(frames: NDArray[np.uint8], levels: int = LEVELS) -> Tensor:
    """How often each colour occurs in frames `(T, H, W, 3)` uint8: shares `(levels**3,)` that sum to 1.

    Red, green and blue are cut into `levels` equal steps each; a colour's place is `(red * levels + green) * levels +
    blue`.

    Raises:
        ValueError: `levels` is not 1 to 256, or the frames are no such array.
    """
    if not 1 <= levels <= 256 or frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3:
        raise ValueError(f"a colour histogram wants uint8 frames (T, H, W, 3) and 1 to 256 levels, not {levels}")
    steps = frames.reshape(-1, 3).astype(np.int64) * levels // 256  # (T H W, 3)
    places = (steps[:, 0] * levels + steps[:, 1]) * levels + steps[:, 2]
    counts = np.bincount(places, minlength=levels**3)
    return torch.from_numpy(counts / max(len(places), 1)).float()
