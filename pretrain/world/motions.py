"""Sixteen named motions: paths through a clip that no single frame gives away.

Time `u (T,)` runs from -1/2 to 1/2. Five pairs of opposites and the two orders of the same two events are each other's
time reversal: of a pair only one is written down and the other is played backwards. The rest are their own reversals.

Two motions are meetings of two objects. In both, the distance of the two is the same function of time and its direction
is random, so a frame of a collision and a frame of a passing are drawn from one distribution:

    passing     apart = (far * u, gap)              rotated by a random angle, the same in every frame
    colliding   apart = (sqrt((far * u)^2 + gap^2), 0)
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from core_encoder.errors import InputError
from core_encoder.files.storage import nearest
from pretrain.world.drawing import Array, Track

# A motion bends a track that stands still; the middle of a clip knows no motion.
Bend = Callable[[Track, Array, float, np.random.Generator], None]


def _move_right(track: Track, u: Array, size: float, rng: np.random.Generator) -> None:
    track.x += size * rng.uniform(0.5, 0.8) * u
    track.y += size * rng.uniform(-0.08, 0.08) * u


def _move_down(track: Track, u: Array, size: float, rng: np.random.Generator) -> None:
    track.x += size * rng.uniform(-0.08, 0.08) * u
    track.y += size * rng.uniform(0.5, 0.8) * u


def _approach(track: Track, u: Array, size: float, rng: np.random.Generator) -> None:
    track.radius *= np.exp(rng.uniform(0.58, 0.72) * u)  # about twice as large at the end as at the start


def _spin(track: Track, u: Array, size: float, rng: np.random.Generator) -> None:
    track.angle += rng.uniform(1.4, 2.2) * u  # at most 18 degrees a frame at 8 frames: below half a star's symmetry


def _jump_then_spin(track: Track, u: Array, size: float, rng: np.random.Generator) -> None:
    leap, turn = np.clip(2 * u + 1, 0, 1), np.clip(2 * u, 0, 1)  # each from 0 to 1 in its half of the clip
    track.y -= size * rng.uniform(0.24, 0.34) * 4 * leap * (1 - leap)
    track.angle += rng.choice((-1.0, 1.0)) * rng.uniform(1.3, 1.9) * turn


def _circle_around(track: Track, u: Array, size: float, rng: np.random.Generator) -> None:
    radius, phase = size * rng.uniform(0.16, 0.22), rng.uniform(0, 2 * math.pi)
    turn = phase + rng.uniform(4.5, 6.0) * u
    track.x += radius * np.cos(turn)
    track.y += radius * np.sin(turn)


def _swing(u: Array, size: float, rng: np.random.Generator) -> Array:
    return size * rng.uniform(0.10, 0.15) * np.sin(2 * math.pi * (rng.uniform(1.6, 2.4) * u + rng.uniform()))


def _shake(track: Track, u: Array, size: float, rng: np.random.Generator) -> None:
    track.x += _swing(u, size, rng)


def _bob(track: Track, u: Array, size: float, rng: np.random.Generator) -> None:
    track.y += _swing(u, size, rng)


def _stay(track: Track, u: Array, size: float, rng: np.random.Generator) -> None:
    """Nothing but the meeting itself moves the object."""


FORWARD: dict[str, Bend] = {
    "moving right": _move_right,
    "moving down": _move_down,
    "approaching": _approach,
    "spinning clockwise": _spin,
    "circling clockwise": _circle_around,
    "jumping then spinning": _jump_then_spin,
    "shaking": _shake,
    "bobbing": _bob,
    "colliding": _stay,
    "passing": _stay,
}
BACKWARD: dict[str, str] = {  # a motion played backwards -> the motion that is written down
    "moving left": "moving right",
    "moving up": "moving down",
    "receding": "approaching",
    "spinning counterclockwise": "spinning clockwise",
    "circling counterclockwise": "circling clockwise",
    "spinning then jumping": "jumping then spinning",
}
MEETINGS: tuple[str, ...] = ("colliding", "passing")
MOTIONS: tuple[str, ...] = tuple(sorted((*FORWARD, *BACKWARD)))
OPPOSITE: dict[str, str] = {motion: motion for motion in FORWARD}  # of a motion that is its own reversal: itself
OPPOSITE |= BACKWARD | {forward: backward for backward, forward in BACKWARD.items()}


def check_motion(motion: str) -> str:
    """The motion itself.

    Raises:
        InputError: not one of `MOTIONS`; the line names the nearest.
    """
    if motion not in OPPOSITE:
        raise InputError(f"unknown motion {motion!r}{nearest(motion, MOTIONS)}")
    return motion


def turns(motion: str) -> bool:
    """Whether the motion is, or contains, a spin: it cannot be seen on an object that looks the same at every angle."""
    return "spinning" in motion


def place_neighbour(
    track: Track, neighbour: Track, motion: str, u: Array, size: float, rng: np.random.Generator
) -> None:
    """Put an object and its neighbour, two tracks at one place, where a meeting has them at times `u`.

    In every other motion the neighbour lingers as at some moment of a meeting, so that neither its presence nor its
    distance from the object says that there is one.
    """
    gap = 0.6 * (track.radius + neighbour.radius)  # shapes overlap a little when closest: few fill their circle
    stretch, part, moment, turn = rng.random(4)
    far = size * (0.95 + 0.2 * stretch)
    share = 0.55 + 0.15 * part if motion in MEETINGS else 0.0  # of the way from each other that the object makes
    along, aside = far * (u if motion in MEETINGS else moment - 0.5 + 0.15 * u), gap
    if motion == "colliding":
        along, aside = np.sqrt(along * along + gap * gap), np.zeros_like(gap)
    cos, sin = math.cos(2 * math.pi * turn), math.sin(2 * math.pi * turn)
    x, y = cos * along - sin * aside, sin * along + cos * aside  # each (T,)
    track.x += share * x
    track.y += share * y
    neighbour.x -= (1 - share) * x
    neighbour.y -= (1 - share) * y
