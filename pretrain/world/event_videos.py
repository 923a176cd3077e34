"""Long videos of the synthetic world with several events on one timeline: H.264 files, annotated as ActivityNet is.

Now and then a named thing comes, moves about for a while and is gone; the event's class is its shape, in any colour and
texture. All the while the background drifts, the camera shakes, and unnamed things in the background's colours
linger and pass, some of them of the same shapes.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core_encoder.errors import InputError
from core_encoder.files.storage import nearest, write_json
from pretrain.world.drawing import COLOURS, SHAPES, TEXTURES, Array, Track, draw_clouds, paint
from pretrain.world.motions import FORWARD, MEETINGS
from pretrain.world.synthetic_world import DEMO_OBJECTS, NEIGHBOUR_RADIUS, RADIUS, write_video
from pretrain.world.world_objects import OBJECTS, WorldObject

EVENT_SHAPES = ("star", "heart", "ring", "cross", "triangle")
EVENT_MOTIONS = tuple(name for name in FORWARD if name not in (*MEETINGS, "approaching"))
MOTION_S = 2.0  # a motion of the world fills a clip of so many seconds; in a longer event it goes on at that pace
SUBSETS = {"train": "training", "val": "validation", "test": "testing"}


@dataclass(frozen=True)
class WorldEvent:
    """A thing that is seen from `start_s` to `end_s`, in seconds of the video."""

    start_s: float
    end_s: float
    thing: WorldObject

    @property
    def label(self) -> str:
        """Its shape."""
        return self.thing.shape


@dataclass(frozen=True)
class EventVideo:
    """One long video: frames `(T, H, W, 3)` uint8 and its events, in order; none overlap."""

    frames: NDArray[np.uint8] = field(repr=False)
    events: tuple[WorldEvent, ...]


@dataclass(frozen=True)
class EventWorld:
    """An endless, random-access source of long videos; a video depends on the fields and its index alone.

    Args:
        seed: with `split`, names the stream of random numbers.
        size: height and width in pixels.
        length_s, event_s, pause_s: least and most seconds of a video, an event, and a pause before an event.
        shapes: the classes.
        objects: the things that may come, of these shapes.
    """

    seed: int
    split: str = "train"
    size: int = 96
    fps: int = 8
    length_s: tuple[float, float] = (24.0, 48.0)
    event_s: tuple[float, float] = (1.5, 6.0)
    pause_s: tuple[float, float] = (1.0, 5.0)
    shapes: Sequence[str] = EVENT_SHAPES
    objects: Sequence[WorldObject] = OBJECTS

    def __post_init__(self) -> None:
        if self.seed < 0 or self.size < 8 or self.size % 2 or self.fps < 1:
            raise InputError("an event world needs seed >= 0, an even size of at least 8 pixels, and fps >= 1")
        for name in ("length_s", "event_s", "pause_s"):
            least, most = getattr(self, name)
            if not 0 < least <= most:
                raise InputError(f"{name} needs a least and a most number of seconds above 0, not {least:g}, {most:g}")
        for shape in self.shapes:
            if not any(thing.shape == shape for thing in self.objects):
                raise InputError(f"no object is a {shape}{nearest(shape, SHAPES)}")

    def video(self, index: int) -> EventVideo:
        """The video at `index`."""
        rng = np.random.default_rng((self.seed, zlib.crc32(f"events {self.split}".encode()), index))
        num_frames = round(rng.uniform(*self.length_s) * self.fps)
        events = self._events(num_frames, rng)
        return EventVideo(self._render(events, num_frames, rng), events)

    def _events(self, num_frames: int, rng: np.random.Generator) -> tuple[WorldEvent, ...]:
        """Events that begin and end with a frame; at least one."""
        events: list[WorldEvent] = []
        at = 0
        while True:
            start = at + round(rng.uniform(*self.pause_s) * self.fps)
            at = start + round(rng.uniform(*self.event_s) * self.fps)
            if events and at > num_frames:
                return tuple(events)
            shape = self.shapes[int(rng.integers(len(self.shapes)))]
            things = [thing for thing in self.objects if thing.shape == shape]
            thing = things[int(rng.integers(len(things)))]
            events.append(WorldEvent(start / self.fps, min(at, num_frames) / self.fps, thing))

    def _render(self, events: Sequence[WorldEvent], num_frames: int, rng: np.random.Generator) -> NDArray[np.uint8]:
        u = np.linspace(-0.5, 0.5, num_frames, dtype=np.float32)
        shakes = rng.normal(0, 0.008 * self.size, (2, num_frames + 2)).astype(np.float32)
        camera = 0.25 * shakes[:, :-2] + 0.5 * shakes[:, 1:-1] + 0.25 * shakes[:, 2:]
        canvas = draw_clouds(self.size, u, camera, 0.5, rng)  # (T, 3, S, S)
        for radius in (NEIGHBOUR_RADIUS, (0.035, 0.06), (0.035, 0.06)):
            if rng.uniform() < 0.6:
                self._paint_unnamed(canvas, radius, u * (num_frames / self.fps), camera, rng)
        for event in events:
            shown = slice(round(event.start_s * self.fps), round(event.end_s * self.fps))
            track = self._moving(shown.stop - shown.start, rng)
            colour = np.asarray(COLOURS[event.thing.colour], np.float32) * np.float32(rng.uniform(0.85, 1.0))
            looks = SHAPES[event.thing.shape], TEXTURES[event.thing.texture], colour
            paint(canvas[shown], *looks, track.moved(camera[:, shown]))
        pixels = np.clip(canvas * 255 + 0.5, 0, 255).astype(np.uint8)
        return np.ascontiguousarray(pixels.transpose(0, 2, 3, 1))

    def _paint_unnamed(
        self, canvas: Array, radius: tuple[float, float], seconds: Array, camera: Array, rng: np.random.Generator
    ) -> None:
        """A plain thing in a colour like the background's that drifts through the whole video."""
        track = self._still(len(seconds), radius, rng)
        drift = (self.size * rng.uniform(-0.12, 0.12, 2)).astype(np.float32)  # a second
        track.x += drift[0] * seconds
        track.y += drift[1] * seconds
        shape = list(SHAPES.values())[int(rng.integers(len(SHAPES)))]
        paint(canvas, shape, TEXTURES["plain"], rng.uniform(0.28, 0.72, 3).astype(np.float32), track.moved(camera))

    def _moving(self, num_frames: int, rng: np.random.Generator) -> Track:
        track = self._still(num_frames, RADIUS, rng)
        u = ((np.arange(num_frames) - num_frames / 2) / (MOTION_S * self.fps)).astype(np.float32)
        FORWARD[EVENT_MOTIONS[int(rng.integers(len(EVENT_MOTIONS)))]](track, u, self.size, rng)
        return track

    def _still(self, num_frames: int, radius: tuple[float, float], rng: np.random.Generator) -> Track:
        x, y, scale, turn = rng.random(4)
        smallest, largest = radius
        still = (self.size * x, self.size * y, self.size * smallest * (largest / smallest) ** scale, 2 * np.pi * turn)
        return Track(*np.array(still, np.float32)[:, None].repeat(num_frames, axis=1))


def write_event_videos(
    folder: str | Path,
    videos: Mapping[str, int],
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    **world: Any,
) -> Path:
    """Write `videos/<split>-<number>.mp4` and last `activity_net.json`, whose path is returned.

    Args:
        videos: split name (train, val, test) -> how many videos. Test draws from objects that the pretraining of `nano`
            and the other splits never show.
        world: fields of `EventWorld`.
        progress: called with (files written, files in all) after each file.

    Raises:
        InputError: an unknown split, a field out of range, or the disk is full.
    """
    folder = Path(folder)
    database: dict[str, Any] = {}
    total = sum(videos.values())
    for split, count in videos.items():
        if split not in SUBSETS:
            raise InputError(f"unknown split {split!r}{nearest(split, SUBSETS)}")
        source = EventWorld(seed, split, **{"objects": DEMO_OBJECTS[split], **world})
        for index in range(count):
            name, video = f"{split}-{index:03d}", source.video(index)
            write_video(folder / "videos" / f"{name}.mp4", video.frames, source.fps)
            database[name] = {
                "duration": len(video.frames) / source.fps,
                "subset": SUBSETS[split],
                "resolution": f"{source.size}x{source.size}",
                "annotations": [{"segment": [one.start_s, one.end_s], "label": one.label} for one in video.events],
            }
            if progress:
                progress(len(database), total)
    labels = sorted({row["label"] for entry in database.values() for row in entry["annotations"]})
    root = {"nodeId": 0, "nodeName": "Root", "parentId": None, "parentName": None}
    nodes = [{"nodeId": k, "nodeName": one, "parentId": 0, "parentName": "Root"} for k, one in enumerate(labels, 1)]
    return write_json(
        folder / "activity_net.json", {"database": database, "taxonomy": [root, *nodes], "version": "VERSION 1.3"}
    )
