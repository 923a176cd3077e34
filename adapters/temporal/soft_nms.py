"""Soft non-maximum suppression: what overlaps a surer segment of its class loses score, and is not removed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def soft_nms(spans: Floats, scores: Floats, sigma: float, least: float, most: int) -> tuple[NDArray[np.int64], Floats]:
    """Which of the spans `(N, 2)` of one class are kept, the surest first, and their scores (Bodla et al., ICCV 2017).

    The score of what overlaps a kept span with tIoU t is multiplied by `exp(-t^2 / sigma)`. It ends after `most` spans,
    or with the last one whose score is at least `least`.
    """
    scores = scores.copy()
    kept: list[int] = []
    final: list[float] = []
    lengths = spans[:, 1] - spans[:, 0]
    while len(kept) < min(most, len(spans)):
        best = int(scores.argmax())
        if scores[best] < least:
            break
        kept.append(best)
        final.append(float(scores[best]))
        shared = np.minimum(spans[:, 1], spans[best, 1]) - np.maximum(spans[:, 0], spans[best, 0])
        shared = shared.clip(min=0)
        overlap = shared / np.maximum(lengths + lengths[best] - shared, 1e-12)
        scores *= np.exp(-(overlap**2) / sigma)
        scores[best] = -1.0  # below any `least`: never again
        scores[kept] = -1.0
    return np.array(kept, dtype=np.int64), np.array(final)
