"""Segments of what the graph says at the places of all levels, as `prismhub predict` makes them, by `segments.json`."""

import json
from pathlib import Path

import numpy as np

HOW = json.loads((Path(__file__).parent / "segments.json").read_text(encoding="utf-8"))


def padded(vectors):
    """Vectors (W, D) as the graph takes them: one sample, padded to a length of whole levels, and which are real."""
    unit = 2 ** (HOW["levels"] - 1)
    length = max(-(-len(vectors) // unit), 2) * unit
    mask = np.arange(length) < len(vectors)
    return {"features": np.pad(vectors, ((0, length - len(vectors)), (0, 0)))[None], "mask": mask[None]}


def segments(logits, distances, spans, labels):
    """What happens when: (start, end, label, score) in seconds, the surest first.

    `logits` (P, K) and `distances` (P, 2), in strides of their level, are the graph's; `spans` (W, 2) the windows'.
    """
    count, length_s = len(spans), (spans[:, 1] - spans[:, 0]).max()
    stride_s = float(np.median(np.diff(spans[:, 0]))) if count > 1 else HOW["stride_s"]
    top = len(logits) // (2 ** HOW["levels"] - 1)
    steps = np.concatenate([np.full(top * 2 ** (HOW["levels"] - 1 - n), 2.0**n) for n in range(HOW["levels"])])
    at = np.concatenate(
        [np.arange(len(level)) * level[0] for level in np.split(steps, np.flatnonzero(np.diff(steps)) + 1)]
    )
    scores = 1 / (1 + np.exp(-logits.astype(np.float64))) * (at < count)[:, None]
    surest = np.argsort(-scores, axis=None, kind="stable")[: HOW["candidates"]]
    place, label = surest // scores.shape[1], surest % scores.shape[1]
    reached = distances[place] * steps[place, None]
    times = np.stack([at[place] - reached[:, 0], at[place] + reached[:, 1]], -1) * stride_s + spans[0, 0] + length_s / 2
    times, scores = np.clip(times, spans[0, 0], spans[:, 1].max()), scores.flatten()[surest]
    worth = (scores > 0) & (scores >= HOW["min_score"]) & (times[:, 1] - times[:, 0] > 1e-3)
    found = []
    for one in np.unique(label[worth]):
        found += [
            (*time, labels[one], score)
            for time, score in soft_nms(times[worth & (label == one)], scores[worth & (label == one)])
        ]
    return sorted(found, key=lambda one: (-one[3], *one[:3]))[: HOW["max_segments"]]


def soft_nms(times, scores):
    """Soft non-maximum suppression of one class: what overlaps a surer segment loses score."""
    times, scores, length = times.tolist(), scores.copy(), times[:, 1] - times[:, 0]
    starts, ends = np.array(times).T
    for _ in range(min(HOW["max_segments"], len(times))):
        best = int(scores.argmax())
        if scores[best] < HOW["min_score"]:
            return
        yield times[best], float(scores[best])
        shared = (np.minimum(ends, ends[best]) - np.maximum(starts, starts[best])).clip(min=0)
        overlap = shared / np.maximum(length + length[best] - shared, 1e-12)
        scores *= np.exp(-(overlap**2) / HOW["nms_sigma"])
        scores[best] = -1.0
        scores[scores < 0] = -1.0
