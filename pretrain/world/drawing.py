"""Drawing with numpy: named colours, shapes and textures, moving clouds, and objects painted into a batch of frames.

A picture being drawn is a canvas `(T, 3, S, S)` float32 in [0, 1] whose opposite edges meet: it is a torus.
Shapes and textures are functions of an object's own coordinates `(u, v)`, in which a shape has radius 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]
Field = Callable[[Array, Array], Array]  # a value for each point (u, v)

COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (0.92, 0.10, 0.12),
    "orange": (1.00, 0.52, 0.05),
    "yellow": (0.98, 0.90, 0.10),
    "green": (0.10, 0.78, 0.22),
    "cyan": (0.10, 0.85, 0.90),
    "blue": (0.12, 0.25, 0.95),
    "purple": (0.62, 0.15, 0.85),
    "white": (0.97, 0.97, 0.97),
}


def _length(u: Array, v: Array) -> Array:
    return np.sqrt(u * u + v * v)  # np.hypot, safe from overflow, takes 4x the time


def _circle(u: Array, v: Array) -> Array:
    return _length(u, v) - 1


def _square(u: Array, v: Array) -> Array:
    return np.maximum(np.abs(u), np.abs(v)) - 0.88


def _bar(u: Array, v: Array) -> Array:
    return np.maximum(np.abs(u) - 1.2, np.abs(v) - 0.38)


def _cross(u: Array, v: Array) -> Array:
    a, b = np.abs(u), np.abs(v)
    return np.maximum(np.maximum(a, b) - 1.1, np.minimum(a, b) - 0.34)


def _triangle(u: Array, v: Array) -> Array:
    return np.maximum(0.866 * np.abs(u) - 0.5 * v, v) - 0.62


def _ring(u: Array, v: Array) -> Array:
    return np.abs(_length(u, v) - 0.8) - 0.27


def _crescent(u: Array, v: Array) -> Array:
    return np.maximum(_length(u, v) - 1.1, 0.85 - _length(u - 0.55, v))


def _dome(u: Array, v: Array) -> Array:
    return np.maximum(_length(u, v - 0.5) - 1.2, v - 0.5)


def _heart(u: Array, v: Array) -> Array:
    a, b = 0.7071 * (u + v), 0.7071 * (u - v)
    point = np.maximum(np.abs(a), np.abs(b)) - 0.62
    lobes = _length(np.abs(u) - 0.44, v + 0.44) - 0.62
    return np.minimum(point, lobes)


def _star(u: Array, v: Array) -> Array:
    sector = 2 * math.pi / 5
    angle = np.abs((np.arctan2(u, -v) + sector / 2) % sector - sector / 2)  # 0 at a tip, sector / 2 in a notch
    return _length(u, v) * np.cos(angle - 1.177) - 0.46  # the straight edge from a tip to a notch


def _plain(u: Array, v: Array) -> Array:
    return np.zeros_like(u)


def _striped(u: Array, v: Array) -> Array:
    return np.clip(0.5 + 2 * np.sin(8.5 * u), 0, 1)


def _checkered(u: Array, v: Array) -> Array:
    return np.clip(0.5 + 3 * np.sin(5.5 * u) * np.sin(5.5 * v), 0, 1)


def _dotted(u: Array, v: Array) -> Array:
    return np.clip(3 * (np.cos(7.5 * u) + np.cos(7.5 * v) - 0.8), 0, 1)


def _ringed(u: Array, v: Array) -> Array:
    return np.clip(0.5 + 2 * np.cos(9 * _length(u, v)), 0, 1)


SHAPES: dict[str, Field] = {  # signed distance in object coordinates: negative inside
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "heart": _heart,
    "cross": _cross,
    "ring": _ring,
    "crescent": _crescent,
    "dome": _dome,
    "bar": _bar,
}
TEXTURES: dict[str, Field] = {  # 0: the colour itself, 1: its dark shade
    "plain": _plain,
    "striped": _striped,
    "checkered": _checkered,
    "dotted": _dotted,
    "ringed": _ringed,
}


@dataclass
class Track:
    """Where one object is over time: position, radius (pixels) and angle (radians), each `(T,)`."""

    x: Array
    y: Array
    radius: Array
    angle: Array

    def moved(self, shift: Array) -> Track:
        """The same path seen by a camera whose picture shifts by `(2, T)` pixels."""
        return Track(self.x + shift[0], self.y + shift[1], self.radius, self.angle)

    def __getitem__(self, shown: slice) -> Track:
        """The part of the track in some of the frames."""
        return Track(self.x[shown], self.y[shown], self.radius[shown], self.angle[shown])


_CELLS = np.array((4, 11))  # of the two octaves of clouds, across the torus
_GRIDS = np.ceil(1.4 * _CELLS).astype(int) + 4  # their knots a side: the drift and the spline's reach included
_STRENGTHS = (0.4, 0.25)


def draw_clouds(span: int, u: Array, camera: Array, contrast: float, rng: np.random.Generator) -> Array:
    """Clouds in two octaves that drift as one: `(T, 3, S, S)` in [0, 1], for times `u (T,)` and shakes `(2, T)`."""
    drift = rng.uniform(-0.35, 0.35, 2).astype(np.float32) * span
    base = rng.uniform(0.25, 0.6) + rng.uniform(-0.1, 0.1, 3)  # muted, so that the named colours stand out
    knots = np.zeros((3, _GRIDS.sum(), _GRIDS.sum()), np.float32)  # one block per octave
    for grid, strength, end in zip(_GRIDS, _STRENGTHS, _GRIDS.cumsum(), strict=True):
        grey, tint = rng.uniform(-0.75, 0.75, (1, grid, grid)), rng.uniform(-0.25, 0.25, (3, grid, grid))
        knots[:, end - grid : end, end - grid : end] = contrast * strength * (grey + tint)
    shift = drift[:, None] * u + camera  # (2, T)
    place = (np.arange(span, dtype=np.float32) - shift[..., None])[..., None]  # (2, T, S, 1)
    place = place * (_CELLS / span).astype(np.float32) + (0.2 * _CELLS + 1.5).astype(np.float32)  # (2, T, S, 2)
    across, down = _spline(place)[:, :, None]  # each (T, 1, S, knots)
    clouds = down @ knots @ across.swapaxes(-1, -2)  # (T, 3, S, S)
    clouds += base.astype(np.float32).reshape(3, 1, 1)
    return clouds


def _spline(place: Array) -> Array:
    """Cubic B-spline weights `(..., knots of both octaves)` of places `(..., 2)` in cells, one for each octave."""
    first = np.floor(place)
    f = place - first
    g = 1 - f
    ff, gg = f * f, g * g
    parts = (gg * g, 4 - 6 * ff + 3 * ff * f, 4 - 6 * gg + 3 * gg * g, ff * f)  # on four knots, times 6
    weights = np.zeros((*place.shape[:-1], _GRIDS.sum()), np.float32)
    knot = first.astype(np.int64) + (_GRIDS.cumsum() - _GRIDS - 1)
    where = knot + np.arange(0, weights.size, _GRIDS.sum()).reshape(*place.shape[:-1], 1)
    flat = weights.reshape(-1)
    for number, part in enumerate(parts):
        flat[where + number] = part * np.float32(1 / 6)
    return weights


def paint(canvas: Array, shape: Field, texture: Field, colour: Array, track: Track) -> None:
    """Blend one object into a contiguous `canvas (T, 3, S, S)`, around the torus, touching only the pixels it covers.

    Args:
        shape, texture: fields of `SHAPES` and `TEXTURES`.
        colour: `(3,)` in [0, 1].
    """
    frames, _, span, _ = canvas.shape
    reach = min(span, 2 * math.ceil(1.3 * float(track.radius.max())) + 3)
    centre = np.array((track.x, track.y))[..., None]  # (2, T, 1)
    points = np.floor(centre - np.float32(reach / 2)) + np.arange(reach, dtype=np.float32)  # (2, T, P)
    radius = track.radius[:, None, None]
    away = (points + np.float32(0.5) - centre) / track.radius[:, None]
    dx, dy = away[0][:, None, :], away[1][:, :, None]
    cos, sin = np.cos(track.angle)[:, None, None], np.sin(track.angle)[:, None, None]
    u, v = cos * dx + sin * dy, cos * dy - sin * dx  # (T, P, P)
    cover = (0.5 - shape(u, v) * radius).reshape(-1)  # one pixel of soft edge
    inside = (cover > 0).nonzero()[0]  # (C,) of the pixels of all frames
    cover = np.minimum(cover[inside], 1)
    shade = 1 - np.float32(0.6) * texture(u.reshape(-1)[inside], v.reshape(-1)[inside])
    cols, rows = points.astype(np.int64) % span
    rows += 3 * span * np.arange(frames)[:, None]  # counted over all frames and channels: the first channel's
    where = (span * rows[:, :, None] + cols[:, None, :]).reshape(-1)[inside] + span * span * np.arange(3)[:, None]
    flat = canvas.reshape(-1)
    seen = flat[where]  # (3, C)
    flat[where] = seen + cover * (colour[:, None] * shade - seen)
