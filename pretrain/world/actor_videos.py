"""Videos of two actors that do different things at once, with AVA's annotation files beside them: all real files.

An actor is a named object. It does one motion after another, each for `SCENE_S` seconds, and stays inside the picture;
the other one does other motions meanwhile. Who is who and does what is annotated in the middle of every scene, as AVA
does it (`ava_train.csv`, `ava_val.csv`, `ava_test.csv`, `labels.pbtxt`): one row a box and label, the label a motion, a
colour or a texture. The whole paths are MOT text, `tracks/<video>.txt`, without labels.
"""

from __future__ import annotations

import functools
import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from core_encoder.errors import InputError
from core_encoder.files.storage import check_name, write_text
from pretrain.world.drawing import COLOURS, SHAPES, TEXTURES, Array, Track, draw_clouds, paint
from pretrain.world.motions import BACKWARD, FORWARD, check_motion, turns
from pretrain.world.synthetic_world import write_video
from pretrain.world.world_objects import HELD_OUT_OBJECTS, SEEN_OBJECTS, WorldObject

ACTOR_MOTIONS = ("moving left", "moving right", "moving up", "moving down", "approaching", "receding", "shaking")
ACTOR_VIDEOS: dict[str, int] = {"train": 100, "val": 20, "test": 40}
ACTOR_OBJECTS = {"train": SEEN_OBJECTS, "val": SEEN_OBJECTS, "test": HELD_OUT_OBJECTS}
SCENE_S = 2.0
_RADIUS = (0.10, 0.17)  # of an actor where it begins, as a fraction of the picture
_SHRUNK = 0.55  # motions are this much smaller than in the world of one object, so that both stay inside
_MOST_SHARED = 0.3  # of the smaller box: actors may brush against each other
_TRIES = 60


@dataclass(frozen=True)
class Actor:
    """One object, the motion of each scene, and its tight box `(left, top, right, bottom)` in pixels in every frame."""

    thing: WorldObject
    motions: tuple[str, ...]
    boxes: NDArray[np.float64]  # (T, 4)


@dataclass(frozen=True)
class ActorVideo:
    """Frames `(T, H, W, 3)` uint8 and the two in them."""

    frames: NDArray[np.uint8]
    actors: tuple[Actor, Actor]


def label_names(motions: Sequence[str] = ACTOR_MOTIONS) -> tuple[str, ...]:
    """What an actor may be said to do or to be: the motions, then colours and textures; numbered from 1."""
    return (*motions, *COLOURS, *TEXTURES)


def actor_video(
    seed: int,
    split: str,
    index: int,
    objects: Sequence[WorldObject] = SEEN_OBJECTS,
    motions: Sequence[str] = ACTOR_MOTIONS,
    scenes: int = 2,
    size: int = 96,
    fps: int = 8,
) -> ActorVideo:
    """The video at `index` of a split; the same arguments always give the same.

    Raises:
        InputError: an unknown motion, or fewer than two of them.
    """
    if len(motions) < 2:
        raise InputError("two actors that do different things need at least two motions")
    for motion in motions:
        if turns(check_motion(motion)):
            raise InputError(f"{motion!r} cannot be told by a box; leave it out")
    rng = np.random.default_rng((seed, zlib.crc32(f"actors {split}".encode()), index))
    frames_each = round(SCENE_S * fps)
    things = [objects[int(i)] for i in rng.choice(len(objects), 2, replace=False)]
    while things[1].shape == things[0].shape:
        things[1] = objects[int(rng.integers(len(objects)))]
    done, paths = _deeds(things, motions, scenes, frames_each, size, rng)
    u = np.arange(scenes * frames_each, dtype=np.float32) / (scenes * frames_each - 1) - np.float32(0.5)
    canvas = draw_clouds(size, u, np.zeros((2, len(u)), np.float32), 0.5, rng)  # (T, 3, S, S)
    for thing, path in zip(things, paths, strict=True):
        colour = np.asarray(COLOURS[thing.colour], np.float32) * np.float32(rng.uniform(0.85, 1.0))
        paint(canvas, SHAPES[thing.shape], TEXTURES[thing.texture], colour, path)
    pixels = (np.clip(canvas * 255 + 0.5, 0, 255)).astype(np.uint8).transpose(0, 2, 3, 1)
    first, second = (
        Actor(thing, motions_of, _tight_boxes(thing, path, size))
        for thing, motions_of, path in zip(things, done, paths, strict=True)
    )
    return ActorVideo(np.ascontiguousarray(pixels), (first, second))


def write_actor_videos(
    folder: str | Path,
    videos: Mapping[str, int] = ACTOR_VIDEOS,
    objects: Mapping[str, Sequence[WorldObject]] = ACTOR_OBJECTS,
    motions: Sequence[str] = ACTOR_MOTIONS,
    seed: int = 0,
    scenes: int = 2,
    size: int = 96,
    fps: int = 8,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write `clips/<split>-<number>.mp4`, `ava_<split>.csv`, `tracks/<split>-<number>.txt` and `labels.pbtxt`.

    Args:
        videos: split name -> how many.
        objects: split name -> what its actors are drawn from; by default the test shows objects that training does not.
        progress: called with (files written, files in all) after each video.

    Raises:
        InputError: a split without objects or of a name that no file can have, an odd size, or the disk is full.
    """
    if size % 2:
        raise InputError(f"H.264 pictures need an even size, not {size}")
    for split in videos:
        check_name(split, "split name")
        if not objects.get(split):
            raise InputError(f"split {split!r} has no objects")
    folder, names = Path(folder), label_names(motions)
    written = 0
    for split, count in videos.items():
        rows: list[str] = []
        for index in range(count):
            video = actor_video(seed, split, index, objects[split], motions, scenes, size, fps)
            name = f"{split}-{index:03d}"
            write_video(folder / "clips" / f"{name}.mp4", video.frames, fps)
            write_text(folder / "tracks" / f"{name}.txt", _mot_text(video))
            rows += _ava_rows(name, video, names, size, fps)
            written += 1
            if progress:
                progress(written, sum(videos.values()))
        write_text(folder / f"ava_{split}.csv", "".join(rows))
    items = (f'item {{\n  name: "{name}"\n  id: {index}\n}}\n' for index, name in enumerate(names, start=1))
    write_text(folder / "labels.pbtxt", "".join(items))
    return folder


def _ava_rows(name: str, video: ActorVideo, names: Sequence[str], size: int, fps: int) -> list[str]:
    """AVA's rows: the middle of every scene, each actor with its motion, colour and texture."""
    rows = []
    for scene in range(len(video.actors[0].motions)):
        second = round((scene + 0.5) * SCENE_S)
        for person, actor in enumerate(video.actors, start=1):
            corners = ",".join(f"{edge / size:.3f}" for edge in actor.boxes[round(second * fps)])
            for label in (actor.motions[scene], actor.thing.colour, actor.thing.texture):
                rows.append(f"{name},{second:04d},{corners},{names.index(label) + 1},{person}\n")
    return rows


def _mot_text(video: ActorVideo) -> str:
    lines = []
    for frame in range(len(video.frames)):
        for person, actor in enumerate(video.actors, start=1):
            left, top, right, bottom = actor.boxes[frame]
            lines.append(f"{frame + 1},{person},{left:.2f},{top:.2f},{right - left:.2f},{bottom - top:.2f},1,-1,1\n")
    return "".join(lines)


def _deeds(
    things: Sequence[WorldObject],
    motions: Sequence[str],
    scenes: int,
    frames_each: int,
    size: int,
    rng: np.random.Generator,
) -> tuple[list[tuple[str, ...]], list[Track]]:
    """What both do, scene by scene, and paths that stay inside the picture and apart: drawn again until they do."""
    for _ in range(_TRIES):
        drawn = [rng.choice(len(motions), 2, replace=False) for _ in range(scenes)]
        done = [tuple(motions[int(i)] for i in column) for column in zip(*drawn, strict=True)]
        for _ in range(_TRIES):
            paths = [_path(several, frames_each, size, rng) for several in done]
            middles = np.array([(path.x, path.y) for path in paths])
            if middles.min() < 0.5 * size * _RADIUS[0] or middles.max() > size * (1 - 0.5 * _RADIUS[0]):
                continue  # most of them; what is drawn need not be measured
            boxes = [_tight_boxes(thing, path, size) for thing, path in zip(things, paths, strict=True)]
            inside = all((box[:, :2] >= 0).all() and (box[:, 2:] <= size).all() for box in boxes)
            if inside and _shared(*boxes) <= _MOST_SHARED:
                return done, paths
    raise InputError(f"two actors that do {scenes} of {list(motions)} do not fit a picture of {size} pixels")


def _path(motions: Sequence[str], frames_each: int, size: int, rng: np.random.Generator) -> Track:
    """One motion after the other, each from where the last one ended."""
    x, y = size * rng.uniform(0.15, 0.85, 2)
    radius = size * _RADIUS[0] * (_RADIUS[1] / _RADIUS[0]) ** rng.random()
    now: Array = np.array([x, y, radius, 2 * math.pi * rng.random()], np.float32)
    parts = []
    u = np.arange(frames_each, dtype=np.float32) / frames_each - np.float32(0.5)
    for motion in motions:
        track = Track(*np.zeros((4, frames_each), np.float32))
        track.radius += 1
        FORWARD[BACKWARD.get(motion, motion)](track, u, _SHRUNK * size, rng)
        bent: Array = np.stack([track.x, track.y, track.radius, track.angle])  # (4, T)
        if motion in BACKWARD:
            bent = bent[:, ::-1]
        moved = now[:, None] + bent - bent[:, :1]
        moved[2] = now[2] * bent[2] / bent[2, 0]
        parts.append(moved)
        now = moved[:, -1]
    return Track(*np.concatenate(parts, axis=1))


def _tight_boxes(thing: WorldObject, path: Track, size: int) -> NDArray[np.float64]:
    """The box `(T, 4)` in pixels around what is drawn of a shape, which may reach beyond the picture."""
    u, v = _outermost(thing.shape)  # (P,)
    cos, sin = np.cos(path.angle)[:, None], np.sin(path.angle)[:, None]
    x = path.x[:, None] + path.radius[:, None] * (cos * u - sin * v)  # (T, P)
    y = path.y[:, None] + path.radius[:, None] * (sin * u + cos * v)
    return np.stack([x.min(1), y.min(1), x.max(1), y.max(1)], axis=-1).astype(np.float64)


@functools.cache
def _outermost(shape: str) -> tuple[Array, Array]:
    """The points `(u, v)` of a shape that lie farthest out in any of 72 directions, in its own coordinates."""
    steps = np.linspace(-1.3, 1.3, 131, dtype=np.float32)
    u, v = (axis.ravel() for axis in np.meshgrid(steps, steps))
    inside = SHAPES[shape](u, v) <= 0
    u, v = u[inside], v[inside]
    angles = np.arange(72, dtype=np.float32) * np.float32(2 * np.pi / 72)
    farthest = np.unique((np.outer(np.cos(angles), u) + np.outer(np.sin(angles), v)).argmax(1))
    return u[farthest], v[farthest]


def _shared(boxes: NDArray[np.float64], others: NDArray[np.float64]) -> float:
    """The largest part of the smaller box, over all frames, that the other one covers."""
    low, high = np.maximum(boxes[:, :2], others[:, :2]), np.minimum(boxes[:, 2:], others[:, 2:])
    areas = np.minimum(*((one[:, 2:] - one[:, :2]).prod(1) for one in (boxes, others)))
    return float((np.clip(high - low, 0, None).prod(1) / areas).max())
