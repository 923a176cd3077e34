"""A second little world, drawn otherwise than that of pretraining: what an encoder sees here it was not taught.

Smooth blobs and polygons of random colours, drawn with Pillow at four times the size, cross a picture that has edges,
over stripes or noise that stand still; the speed, the size and the place vary from clip to clip. Six motions.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

MOTIONS = ("left", "right", "up", "down", "approaching", "receding")
_FINER = 4


def draw_clip(index: int, num_frames: int = 8, size: int = 48, seed: int = 0) -> tuple[NDArray[np.uint8], str]:
    """The clip at `index`: frames `(T, size, size, 3)` and its motion, a function of the arguments alone."""
    rng = np.random.default_rng((seed, index))
    motion = MOTIONS[index % len(MOTIONS)]
    ground = _ground(rng, size)
    colour = tuple(int(part) for part in rng.integers(0, 256, 3))
    corners = int(rng.integers(3, 9))
    turn, wobble = rng.uniform(0, 2 * math.pi), rng.uniform(0.6, 1.0, corners)
    radius = size * rng.uniform(0.12, 0.22)
    way = size * rng.uniform(0.3, 0.7)  # travelled in the clip
    zoom = rng.uniform(1.6, 2.6)
    x, y = size * rng.uniform(0.3, 0.7, 2)
    frames = []
    for u in np.linspace(-0.5, 0.5, num_frames):
        along = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}.get(motion, (0, 0))
        scale = zoom ** (u if motion == "approaching" else -u if motion == "receding" else 0)
        angles = turn + 2 * math.pi * np.arange(corners) / corners
        points = [
            (
                _FINER * (x + along[0] * way * u + scale * radius * r * math.cos(a)),
                _FINER * (y + along[1] * way * u + scale * radius * r * math.sin(a)),
            )
            for a, r in zip(angles, wobble, strict=True)
        ]
        picture = ground.copy()
        ImageDraw.Draw(picture).polygon(points, fill=colour)
        frames.append(np.asarray(picture.resize((size, size), Image.Resampling.BOX)))
    return np.stack(frames), motion


def _ground(rng: np.random.Generator, size: int) -> Image.Image:
    """Stripes in two colours or coarse noise, at the finer size."""
    finer = _FINER * size
    if rng.random() < 0.5:
        low = rng.integers(60, 200, (6, 6, 3)).astype(np.uint8)
        return Image.fromarray(low).resize((finer, finer), Image.Resampling.BICUBIC)
    rows, columns = np.mgrid[:finer, :finer]
    angle, width = rng.uniform(0, math.pi), finer * rng.uniform(0.08, 0.2)
    stripes = ((rows * math.sin(angle) + columns * math.cos(angle)) // width % 2).astype(bool)
    first, second = rng.integers(60, 200, (2, 3))
    return Image.fromarray(np.where(stripes[..., None], first, second).astype(np.uint8))
