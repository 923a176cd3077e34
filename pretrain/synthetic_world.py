"""A seeded world of named objects in motion: labelled videos from numpy alone, as arrays or as real H.264 files.

Opposite edges of the picture meet, so an object that leaves on one side comes back on the other and its place says
nothing about where it is going. Two opposite motions are each other's time reversal, frame for frame (background,
distractors and camera included): only the order of the frames tells them apart.

Pictures are `(T, H, W, 3)` uint8 RGB; x points right, y down, angles grow clockwise.
"""

from __future__ import annotations

import itertools
import json
import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from core_encoder.errors import InputError
from core_encoder.storage import atomic_path, check_name, nearest, write_text
from pretrain.drawing import COLOURS, SHAPES, TEXTURES, Array, Track, draw_clouds, paint

RADIUS = (0.14, 0.21)  # of an object halfway through its clip, as a fraction of the picture


# A motion bends a track that stands still; `u` (T,) runs from -1/2 to 1/2, so the middle of a clip knows no motion.
Bend = Callable[[Track, Array, float, np.random.Generator], None]


def _move_right(track: Track, u: Array, size: float, rng: np.random.Generator) -> None:
    track.x += size * rng.uniform(0.5, 0.8) * u
    track.y += size * rng.uniform(-0.08, 0.08) * u


def _move_down(track: Track, u: Array, size: float, rng: np.random.Generator) -> None:
    track.x += size * rng.uniform(-0.08, 0.08) * u
    track.y += size * rng.uniform(0.5, 0.8) * u


def _approach(track: Track, u: Array, size: float, rng: np.random.Generator) -> None:
    track.radius *= np.exp(rng.uniform(1.0, 1.4) * u)


def _spin(track: Track, u: Array, size: float, rng: np.random.Generator) -> None:
    track.angle += rng.uniform(1.4, 2.2) * u  # at most 18 degrees a frame at 8 frames: below half a star's symmetry


def _circle_around(track: Track, u: Array, size: float, rng: np.random.Generator) -> None:
    radius, phase = size * rng.uniform(0.16, 0.22), rng.uniform(0, 2 * math.pi)
    turn = phase + rng.uniform(4.5, 6.0) * u
    track.x += radius * np.cos(turn)
    track.y += radius * np.sin(turn)


def _swing(track: Track, u: Array, size: float, rng: np.random.Generator) -> Array:
    return size * rng.uniform(0.10, 0.15) * np.sin(2 * math.pi * (rng.uniform(1.6, 2.4) * u + rng.uniform()))


def _shake(track: Track, u: Array, size: float, rng: np.random.Generator) -> None:
    track.x += _swing(track, u, size, rng)


def _bob(track: Track, u: Array, size: float, rng: np.random.Generator) -> None:
    track.y += _swing(track, u, size, rng)


_FORWARD: dict[str, Bend] = {
    "moving right": _move_right,
    "moving down": _move_down,
    "approaching": _approach,
    "spinning clockwise": _spin,
    "circling clockwise": _circle_around,
    "shaking": _shake,
    "bobbing": _bob,
}
_BACKWARD = {
    "moving left": "moving right",
    "moving up": "moving down",
    "receding": "approaching",
    "spinning counterclockwise": "spinning clockwise",
    "circling counterclockwise": "circling clockwise",
}
MOTIONS: tuple[str, ...] = tuple(sorted((*_FORWARD, *_BACKWARD)))
OPPOSITE: dict[str, str] = {motion: motion for motion in _FORWARD}  # shaking and bobbing are their own opposites
OPPOSITE |= _BACKWARD | {forward: backward for backward, forward in _BACKWARD.items()}


@dataclass(frozen=True)
class WorldObject:
    """A thing of the world, named by its looks: `striped red star`."""

    colour: str
    shape: str
    texture: str = "plain"

    def __post_init__(self) -> None:
        for word, known, what in (
            (self.colour, COLOURS, "colour"),
            (self.shape, SHAPES, "shape"),
            (self.texture, TEXTURES, "texture"),
        ):
            if word not in known:
                raise InputError(f"unknown {what} {word!r}{nearest(word, known)}")

    @classmethod
    def parse(cls, name: str) -> WorldObject:
        """`striped red star` or `red star` -> the object."""
        words = name.split()
        if len(words) not in (2, 3):
            raise InputError(
                f"{name!r} does not name an object: write [texture] colour shape, such as 'striped red star'"
            )
        return cls(words[-2], words[-1], words[0] if len(words) == 3 else "plain")

    @property
    def name(self) -> str:
        looks = f"{self.colour} {self.shape}"
        return looks if self.texture == "plain" else f"{self.texture} {looks}"

    @property
    def spins_visibly(self) -> bool:
        """Whether a rotation can be seen: a plain circle looks the same at every angle."""
        return self.shape not in ("circle", "ring") or self.texture not in ("plain", "ringed")


OBJECTS: tuple[WorldObject, ...] = tuple(
    WorldObject(colour, shape, texture) for texture, colour, shape in itertools.product(TEXTURES, COLOURS, SHAPES)
)


@dataclass(frozen=True)
class SyntheticClip:
    """One labelled clip: frames `(T, H, W, 3)` uint8 and what they show."""

    frames: NDArray[np.uint8] = field(repr=False)
    object_name: str
    motion: str
    caption: str


@dataclass(frozen=True)
class SyntheticWorld:
    """An endless, random-access source of labelled clips; a clip depends on the world's fields and its index alone.

    Args:
        seed: with `split`, names the stream of random numbers; other seeds and other splits share no clip.
        size: height and width in pixels.
        num_frames: frames of a clip; a motion always fills the whole clip.
        objects, motions: what is drawn from when a clip is asked for without naming them.
        distractors: at most so many small things move about on their own.
        camera_jitter: standard deviation of the camera's shake, as a fraction of the picture.
        background_contrast: 0 is one flat colour, 1 clouds as strong as half the brightness range.
        spread: the part of the picture's width and height in which objects are found halfway through the clip. At 1 no
            single frame of a translation along that axis tells its motion, even when the frame's time is known; less
            keeps objects away from those edges. (At a known time the size of an approaching object always tells.)
    """

    seed: int
    split: str = "train"
    size: int = 64
    num_frames: int = 16
    objects: Sequence[WorldObject] = OBJECTS
    motions: Sequence[str] = MOTIONS
    distractors: int = 2
    camera_jitter: float = 0.008
    background_contrast: float = 0.5
    spread: tuple[float, float] = (1.0, 1.0)

    def __post_init__(self) -> None:
        if self.seed < 0 or self.size < 8 or self.num_frames < 2:
            raise InputError("a synthetic world needs seed >= 0, size >= 8 pixels and at least 2 frames")
        if not self.objects or not self.motions:
            raise InputError("a synthetic world needs at least one object and one motion")
        if self.distractors < 0 or self.camera_jitter < 0 or not all(0 <= part <= 1 for part in self.spread):
            raise InputError("distractors and camera_jitter must be 0 or more, spread between 0 and 1")
        for motion in self.motions:
            _check_motion(motion)

    def clip(self, index: int, thing: WorldObject | None = None, motion: str | None = None) -> SyntheticClip:
        """The clip at `index`; the same scene whether or not the object and the motion are named.

        Raises:
            InputError: an unknown motion, or a spin that could not be seen on this object.
        """
        rng = np.random.default_rng((self.seed, zlib.crc32(self.split.encode()), index))
        drawn = self.objects[int(rng.integers(len(self.objects)))]
        thing = thing or drawn
        visible = [name for name in self.motions if thing.spins_visibly or not name.startswith("spinning")]
        choice = rng.uniform()
        if motion is None:
            if not visible:
                raise InputError(f"a {thing.name} shows none of the motions {', '.join(self.motions)}")
            motion = visible[int(choice * len(visible))]
        elif _check_motion(motion).startswith("spinning") and not thing.spins_visibly:
            raise InputError(f"a {thing.name} looks the same at every angle: it cannot be seen {motion}")
        frames = self._render(thing, _FORWARD[_BACKWARD.get(motion, motion)], rng)
        if motion in _BACKWARD:
            frames = np.ascontiguousarray(frames[::-1])
        article = "an" if thing.name[0] in "aeiou" else "a"
        return SyntheticClip(frames, thing.name, motion, f"{article} {thing.name} {motion}")

    def _render(self, thing: WorldObject, bend: Bend, rng: np.random.Generator) -> NDArray[np.uint8]:
        u = np.linspace(-0.5, 0.5, self.num_frames, dtype=np.float32)
        camera = _smooth(rng.normal(0, self.camera_jitter * self.size, (2, self.num_frames)).astype(np.float32))
        canvas = draw_clouds(self.size, u, camera, self.background_contrast, rng)  # (T, 3, S, S)
        for _ in range(rng.integers(self.distractors + 1)):
            track = self._still(rng, u, radius=(0.035, 0.06), spread=(1.0, 1.0))
            drift = self.size * rng.uniform(-0.6, 0.6, 2)
            track.x += drift[0] * u + camera[0]
            track.y += drift[1] * u + camera[1]
            colour = rng.uniform(0.28, 0.72, 3).astype(np.float32)
            paint(canvas, SHAPES[rng.choice(list(SHAPES))], TEXTURES["plain"], colour, track)
        track = self._still(rng, u, RADIUS, self.spread)
        colour = np.asarray(COLOURS[thing.colour], np.float32) * np.float32(rng.uniform(0.85, 1.0))
        bend(track, u, self.size, rng)
        track.x += camera[0]
        track.y += camera[1]
        paint(canvas, SHAPES[thing.shape], TEXTURES[thing.texture], colour, track)
        pixels = (canvas * 255 + 0.5).clip(0, 255).astype(np.uint8)
        return np.ascontiguousarray(pixels.transpose(0, 2, 3, 1))  # (T, H, W, 3)

    def _still(
        self, rng: np.random.Generator, u: Array, radius: tuple[float, float], spread: tuple[float, float]
    ) -> Track:
        """A track that stands still at a random place, size and angle."""
        x, y = self.size * (0.5 + np.asarray(spread) * rng.uniform(-0.5, 0.5, 2))
        values = (x, y, self.size * rng.uniform(*radius), rng.uniform(0, 2 * math.pi))
        return Track(*(np.full_like(u, value) for value in values))


def _check_motion(motion: str) -> str:
    if motion not in MOTIONS:
        raise InputError(f"unknown motion {motion!r}{nearest(motion, MOTIONS)}")
    return motion


def _smooth(walk: Array) -> Array:
    """A (1/4, 1/2, 1/4) filter over the last axis: a hand that shakes, not noise."""
    padded = np.pad(walk, ((0, 0), (1, 1)), mode="edge")
    return 0.25 * padded[:, :-2] + 0.5 * padded[:, 1:-1] + 0.25 * padded[:, 2:]


@dataclass(frozen=True)
class WorldClass:
    """A class of a written dataset: its name, and the object and motion it shows (None: any)."""

    name: str
    thing: WorldObject | None = None
    motion: str | None = None


@dataclass(frozen=True)
class WrittenVideo:
    """One file of a written dataset; `path` is relative to its folder."""

    path: str
    label: str
    split: str
    caption: str


# Looks and depth are easy even for random weights; left and right differ in the order of frames and in nothing else.
DEMO_CLASSES: tuple[WorldClass, ...] = tuple(
    WorldClass(f"{name} {motion}".replace(" ", "-"), WorldObject.parse(name), motion)
    for name in ("red circle", "blue star")
    for motion in ("approaching", "receding", "moving left", "moving right")
)
DEMO_SPREAD = (1.0, 0.5)  # nothing moves up or down there, so objects may keep away from the upper and lower edge
DEMO_CLIPS: dict[str, int] = {"train": 24, "val": 6, "test": 10}  # per class


def write_dataset(
    folder: str | Path,
    classes: Sequence[WorldClass] = DEMO_CLASSES,
    clips_per_class: Mapping[str, int] = DEMO_CLIPS,
    seed: int = 0,
    size: int = 96,
    num_frames: int = 16,
    fps: int = 8,
    spread: tuple[float, float] = DEMO_SPREAD,
    progress: Callable[[int, int], None] | None = None,
) -> list[WrittenVideo]:
    """Write real H.264 files as `<split>/<class>/<number>.mp4`, and `metadata.jsonl` with a caption for each.

    The same arguments write the same pictures; every split has its own stream of random scenes.

    Args:
        clips_per_class: split name -> clips of each class.
        progress: called with (files written, files in all) after each file.

    Raises:
        InputError: no class, two classes of one name, a name no folder can have, an odd size, or the disk is full.
    """
    names = [kind.name for kind in classes]
    if not names or len(set(names)) < len(names):
        raise InputError(f"a dataset needs classes of different names, not {names}")
    if size % 2:
        raise InputError(f"H.264 pictures need an even size, not {size}")
    for name, what in [
        *((name, "class name") for name in names),
        *((split, "split name") for split in clips_per_class),
    ]:
        check_name(name, what)
    folder = Path(folder)
    total = len(classes) * sum(clips_per_class.values())
    written: list[WrittenVideo] = []
    for split, count in clips_per_class.items():
        world = SyntheticWorld(seed, split, size, num_frames, spread=spread)
        for index, (kind, number) in enumerate(itertools.product(classes, range(count))):
            clip = world.clip(index, kind.thing, kind.motion)
            path = Path(split, kind.name, f"{number:04d}.mp4")
            write_video(folder / path, clip.frames, fps)
            written.append(WrittenVideo(path.as_posix(), kind.name, split, clip.caption))
            if progress:
                progress(len(written), total)
    rows = ({"file_name": row.path, "label": row.label, "split": row.split, "caption": row.caption} for row in written)
    write_text(folder / "metadata.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    return written


def write_video(path: str | Path, frames: NDArray[np.uint8], fps: int = 8) -> Path:
    """Write frames `(T, H, W, 3)` as one H.264 file, whole or not at all.

    Raises:
        InputError: the disk is full.
    """
    import av

    path = Path(path)
    with atomic_path(path) as aside, av.open(str(aside), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.options = {"preset": "ultrafast", "crf": "18", "threads": "1"}
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path
