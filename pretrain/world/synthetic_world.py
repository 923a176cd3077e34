"""A seeded world of named objects in motion: labelled videos from numpy alone, as arrays or as real H.264 files.

Opposite edges of the picture meet, so an object that leaves on one side comes back on the other and its place says
nothing about where it is going. Two opposite motions are each other's time reversal, frame for frame (background,
distractors and camera included): only the order of the frames tells them apart. Most clips show a second, unnamed
object nearby, because two motions are meetings of two. What one frame of a known time still tells is a little of a size
(what approaches is small at first) and of a distance: whoever measured both exactly would name 17 % of the 16 motions
from a first frame and 13 % from a middle one (chance 6 %); pixels give less.

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
from core_encoder.files.storage import atomic_path, check_name, nearest, write_text
from pretrain.world.drawing import COLOURS, SHAPES, TEXTURES, Array, Field, Track, draw_clouds, paint
from pretrain.world.motions import BACKWARD, FORWARD, MEETINGS, MOTIONS, check_motion, place_neighbour, turns
from pretrain.world.world_objects import HELD_OUT_OBJECTS, OBJECTS, SEEN_OBJECTS, WorldObject, with_article

RADIUS = (0.11, 0.23)  # of an object halfway through its clip, as a fraction of the picture
NEIGHBOUR_RADIUS = (0.10, 0.16)
_SHAPES = tuple(SHAPES.values())


@dataclass(frozen=True)
class SyntheticClip:
    """One labelled clip: frames `(T, H, W, 3)` uint8 and what they show; a still, T = 1, shows no motion: ""."""

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
        neighbours: share of clips in which a second, unnamed object of about the same size lingers near the first, as
            it must where the two collide or pass each other. At 1 its presence says nothing about the motion.
        camera_jitter: standard deviation of the camera's shake, as a fraction of the picture.
        background_contrast: 0 is one flat colour, 1 clouds as strong as half the brightness range.
        spread: the part of the picture's width and height in which objects are found halfway through the clip. At 1 no
            single frame of a translation along that axis tells its motion, even when the frame's time is known; less
            keeps objects away from those edges. (At a known time the size of an approaching object tells a little.)
    """

    seed: int
    split: str = "train"
    size: int = 64
    num_frames: int = 16
    objects: Sequence[WorldObject] = OBJECTS
    motions: Sequence[str] = MOTIONS
    distractors: int = 2
    neighbours: float = 0.9
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
        if not 0 <= self.neighbours <= 1:
            raise InputError(f"neighbours is a share of clips, between 0 and 1, not {self.neighbours}")
        for motion in self.motions:
            check_motion(motion)

    def clip(self, index: int, thing: WorldObject | None = None, motion: str | None = None) -> SyntheticClip:
        """The clip at `index`; the same scene whether or not the object and the motion are named.

        Raises:
            InputError: an unknown motion, or a spin that could not be seen on this object.
        """
        rng, thing, motion, _ = self._draw(index, thing, motion)
        frames = self._render(thing, motion, slice(None), rng)
        if motion in BACKWARD:
            frames = np.ascontiguousarray(frames[::-1])
        return SyntheticClip(frames, thing.name, motion, f"{with_article(thing.name)} {motion}")

    def shown(self, index: int, thing: WorldObject | None = None) -> tuple[str, str]:
        """The object and the motion of the clip at `index`; nothing is drawn."""
        _, thing, motion, _ = self._draw(index, thing, None)
        return thing.name, motion

    def image(self, index: int, thing: WorldObject | None = None) -> SyntheticClip:
        """One random moment of the clip at `index` as a clip of one frame; nothing else of it is drawn."""
        rng, thing, motion, moment = self._draw(index, thing, None)
        shown = self.num_frames - 1 - moment if motion in BACKWARD else moment
        frames = self._render(thing, motion, slice(shown, shown + 1), rng)
        return SyntheticClip(frames, thing.name, "", with_article(thing.name))

    def _draw(
        self, index: int, thing: WorldObject | None, motion: str | None
    ) -> tuple[np.random.Generator, WorldObject, str, int]:
        """What the clip at `index` shows, the moment its still shows, and the generator of its scene."""
        rng = np.random.default_rng((self.seed, zlib.crc32(self.split.encode()), index))
        drawn = self.objects[int(rng.integers(len(self.objects)))]
        thing = thing or drawn
        choice, moment = rng.uniform(size=2)
        if motion is None:
            visible = [name for name in self.motions if thing.spins_visibly or not turns(name)]
            if not visible:
                raise InputError(f"a {thing.name} shows none of the motions {', '.join(self.motions)}")
            motion = visible[int(choice * len(visible))]
        elif turns(check_motion(motion)) and not thing.spins_visibly:
            raise InputError(f"a {thing.name} looks the same at every angle: it cannot be seen {motion}")
        return rng, thing, motion, int(moment * self.num_frames)

    def _render(self, thing: WorldObject, motion: str, shown: slice, rng: np.random.Generator) -> NDArray[np.uint8]:
        """The shown frames `(T, H, W, 3)` of the motion, of a backward one in the order of its forward one."""
        motion = BACKWARD.get(motion, motion)
        u = np.arange(self.num_frames, dtype=np.float32) / (self.num_frames - 1) - np.float32(0.5)
        camera = _smooth(rng.normal(0, self.camera_jitter * self.size, (2, self.num_frames + 2)).astype(np.float32))
        canvas = draw_clouds(self.size, u[shown], camera[:, shown], self.background_contrast, rng)  # (T, 3, S, S)
        for _ in range(int(rng.integers(self.distractors + 1))):
            track, looks = self._still(rng, u, (0.035, 0.06), (1.0, 1.0)), _muted(rng)
            drift = self.size * rng.uniform(-0.6, 0.6, 2)
            track.x += drift[0] * u
            track.y += drift[1] * u
            paint(canvas, *looks, track.moved(camera)[shown])
        track = self._still(rng, u, RADIUS, self.spread)
        neighbour, looks = self._still(rng, u, NEIGHBOUR_RADIUS, self.spread), _muted(rng)
        neighbour.x[:], neighbour.y[:] = track.x, track.y
        place_neighbour(track, neighbour, motion, u, self.size, rng)
        if rng.uniform() < self.neighbours or motion in MEETINGS:
            paint(canvas, *looks, neighbour.moved(camera)[shown])
        colour = np.asarray(COLOURS[thing.colour], np.float32) * np.float32(rng.uniform(0.85, 1.0))
        FORWARD[motion](track, u, self.size, rng)
        paint(canvas, SHAPES[thing.shape], TEXTURES[thing.texture], colour, track.moved(camera)[shown])
        canvas *= 255
        canvas += 0.5
        np.clip(canvas, 0, 255, out=canvas)
        pixels = np.empty((len(canvas), self.size, self.size, 3), np.uint8)
        for channel in range(3):
            pixels[..., channel] = canvas[:, channel]
        return pixels

    def _still(
        self, rng: np.random.Generator, u: Array, radius: tuple[float, float], spread: tuple[float, float]
    ) -> Track:
        """A track that stands still at a random place, angle and size, log-uniform: zooming only shifts that."""
        x, y, scale, turn = rng.random(4)
        x, y = 0.5 + spread[0] * (x - 0.5), 0.5 + spread[1] * (y - 0.5)
        smallest, largest = radius
        still = (self.size * x, self.size * y, self.size * smallest * (largest / smallest) ** scale, 2 * math.pi * turn)
        return Track(*np.array(still, np.float32)[:, None].repeat(len(u), axis=1))


def _muted(rng: np.random.Generator) -> tuple[Field, Field, Array]:
    """The looks of a thing that has no name: some shape, plain, in a colour like the background's."""
    return _SHAPES[int(rng.integers(len(_SHAPES)))], TEXTURES["plain"], rng.uniform(0.28, 0.72, 3).astype(np.float32)


def _smooth(walk: Array) -> Array:
    """A (1/4, 1/2, 1/4) filter over the last axis, which becomes 2 shorter: a hand that shakes, not noise."""
    return 0.25 * walk[:, :-2] + 0.5 * walk[:, 1:-1] + 0.25 * walk[:, 2:]


@dataclass(frozen=True)
class WorldClass:
    """A class of a written dataset: its name, the motion that it shows, and by split the objects that it is drawn with.

    The folder of its videos is the name with `-` for spaces.
    """

    name: str
    motion: str
    objects: Mapping[str, Sequence[WorldObject]]

    @property
    def folder(self) -> str:
        return self.name.replace(" ", "-")


@dataclass(frozen=True)
class WrittenVideo:
    """One file of a written dataset and the object it shows; `path` is relative to the dataset's folder."""

    path: str
    label: str
    split: str
    caption: str
    thing: WorldObject

    def describe(self) -> dict[str, str]:
        """Its row in `metadata.jsonl`."""
        texture, colour, shape = self.thing.words
        about = {"file_name": self.path, "label": self.label, "split": self.split, "caption": self.caption}
        return about | {"texture": texture, "colour": colour, "shape": shape}


# Eight motions that no frame gives away; what is asked at the end shows objects of which training saw the words alone.
DEMO_MOTIONS = (
    *("moving left", "moving right", "moving up", "moving down"),
    *("approaching", "receding", "shaking", "bobbing"),
)
DEMO_OBJECTS = {"train": SEEN_OBJECTS, "val": SEEN_OBJECTS, "test": HELD_OUT_OBJECTS, "new": HELD_OUT_OBJECTS}
DEMO_CLASSES: tuple[WorldClass, ...] = tuple(WorldClass(motion, motion, DEMO_OBJECTS) for motion in DEMO_MOTIONS)
DEMO_CLIPS: dict[str, int] = {"train": 24, "val": 6, "test": 20}  # per class


def write_dataset(
    folder: str | Path,
    classes: Sequence[WorldClass] = DEMO_CLASSES,
    clips_per_class: Mapping[str, int] = DEMO_CLIPS,
    seed: int = 0,
    size: int = 96,
    num_frames: int = 16,
    fps: int = 8,
    progress: Callable[[int, int], None] | None = None,
) -> list[WrittenVideo]:
    """Write real H.264 files as `<split>/<class>/<number>.mp4`, and last `metadata.jsonl`, a row a file.

    A row holds `file_name`, `label`, `split`, `caption` and the words of the object: `texture`, `colour`, `shape`.
    The same arguments write the same pictures; every split has its own stream of random scenes.

    Args:
        clips_per_class: split name -> clips of each class.
        progress: called with (files written, files in all) after each file.

    Raises:
        InputError: no class, two classes of one name, a name no folder can have, a split for which a class names no
            objects, an odd size, or the disk is full.
    """
    names = [kind.folder for kind in classes]
    if not names or len(set(names)) < len(names):
        raise InputError(f"a dataset needs classes of different names, not {names}")
    if size % 2:
        raise InputError(f"H.264 pictures need an even size, not {size}")
    for name, what in [
        *((name, "class name") for name in names),
        *((split, "split name") for split in clips_per_class),
    ]:
        check_name(name, what)
    worlds = {
        (split, kind.name): SyntheticWorld(seed, split, size, num_frames, _objects(kind, split), (kind.motion,))
        for split, kind in itertools.product(clips_per_class, classes)
    }
    folder = Path(folder)
    total = len(classes) * sum(clips_per_class.values())
    written: list[WrittenVideo] = []
    for split, count in clips_per_class.items():
        for index, (kind, number) in enumerate(itertools.product(classes, range(count))):
            clip = worlds[split, kind.name].clip(index)
            path = Path(split, kind.folder, f"{number:04d}.mp4")
            write_video(folder / path, clip.frames, fps)
            thing = WorldObject.parse(clip.object_name)
            written.append(WrittenVideo(path.as_posix(), kind.name, split, clip.caption, thing))
            if progress:
                progress(len(written), total)
    write_text(folder / "metadata.jsonl", "".join(json.dumps(row.describe()) + "\n" for row in written))
    return written


def _objects(kind: WorldClass, split: str) -> Sequence[WorldObject]:
    if split not in kind.objects:
        raise InputError(f"class {kind.name!r} names no objects for split {split!r}{nearest(split, kind.objects)}")
    return kind.objects[split]


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
