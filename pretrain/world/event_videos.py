"""Long videos of the synthetic world with several events on one timeline, as H.264 files with ActivityNet's annotations.

A thing rests, moves in one of some ways for a while, rests again. No frame tells which way: a way and its reversal have
the same pictures. Nothing tells when, either, but that the thing moves on its own: the background drifts, the camera
shakes and small things pass all the while.
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
from pretrain.world.motions import BACKWARD, FORWARD
from pretrain.world.synthetic_world import DEMO_OBJECTS, RADIUS, write_video
from pretrain.world.world_objects import OBJECTS, WorldObject

EVENT_MOTIONS = ("moving left", "moving right", "moving up", "moving down", "shaking", "bobbing")
MOTION_S = 2.0  # a motion of the world fills a clip of so many seconds; of a longer event it goes on at that pace
SUBSETS = {"train": "training", "val": "validation", "test": "testing"}


@dataclass(frozen=True)
class WorldEvent:
    """A motion from `start_s` to `end_s`, in seconds of the video."""

    start_s: float
    end_s: float
    motion: str


@dataclass(frozen=True)
class EventVideo:
    """One long video: frames `(T, H, W, 3)` uint8, what it shows, and its events in order."""

    frames: NDArray[np.uint8] = field(repr=False)
    object_name: str
    events: tuple[WorldEvent, ...]


@dataclass(frozen=True)
class EventWorld:
    """An endless, random-access source of long videos; a video depends on the fields and its index alone.

    Args:
        seed: with `split`, names the stream of random numbers.
        size: height and width in pixels.
        length_s, event_s, pause_s: least and most seconds of a video, an event, and a pause before an event.
        motions: what may happen; only motions that leave the size of the thing alone.
    """

    seed: int
    split: str = "train"
    size: int = 96
    fps: int = 8
    length_s: tuple[float, float] = (24.0, 48.0)
    event_s: tuple[float, float] = (1.5, 5.0)
    pause_s: tuple[float, float] = (1.5, 6.0)
    motions: Sequence[str] = EVENT_MOTIONS
    objects: Sequence[WorldObject] = OBJECTS

    def __post_init__(self) -> None:
        if self.seed < 0 or self.size < 8 or self.size % 2 or self.fps < 1:
            raise InputError("an event world needs seed >= 0, an even size of at least 8 pixels, and fps >= 1")
        for name in ("length_s", "event_s", "pause_s"):
            least, most = getattr(self, name)
            if not 0 < least <= most:
                raise InputError(
                    f"{name} needs a least and a most number of seconds above 0, not {least:g} and {most:g}"
                )
        for motion in self.motions:
            if motion not in EVENT_MOTIONS:
                raise InputError(f"no event can be {motion!r}{nearest(motion, EVENT_MOTIONS)}")

    def video(self, index: int) -> EventVideo:
        """The video at `index`."""
        rng = np.random.default_rng((self.seed, zlib.crc32(f"events {self.split}".encode()), index))
        thing = self.objects[int(rng.integers(len(self.objects)))]
        num_frames = round(rng.uniform(*self.length_s) * self.fps)
        events = self._events(num_frames / self.fps, rng)
        return EventVideo(self._render(thing, events, num_frames, rng), thing.name, events)

    def _events(self, length_s: float, rng: np.random.Generator) -> tuple[WorldEvent, ...]:
        """Events that begin and end with a frame, and at least the first one."""
        events: list[WorldEvent] = []
        at_s = 0.0
        while True:
            start = round((at_s + rng.uniform(*self.pause_s)) * self.fps)
            end = start + round(rng.uniform(*self.event_s) * self.fps)
            if events and end / self.fps > length_s - self.pause_s[0] / 2:
                return tuple(events)
            end = min(end, round(length_s * self.fps))
            motion = self.motions[int(rng.integers(len(self.motions)))]
            events.append(WorldEvent(start / self.fps, end / self.fps, motion))
            at_s = end / self.fps

    def _render(
        self, thing: WorldObject, events: Sequence[WorldEvent], num_frames: int, rng: np.random.Generator
    ) -> NDArray[np.uint8]:
        u = np.linspace(-0.5, 0.5, num_frames, dtype=np.float32)
        shakes = rng.normal(0, 0.008 * self.size, (2, num_frames + 2)).astype(np.float32)
        camera = 0.25 * shakes[:, :-2] + 0.5 * shakes[:, 1:-1] + 0.25 * shakes[:, 2:]
        canvas = draw_clouds(self.size, u, camera, 0.5, rng)  # (T, 3, S, S)
        for _ in range(int(rng.integers(3))):
            track = self._still(num_frames, (0.035, 0.06), rng)
            seconds = u * (num_frames / self.fps)
            drift = self.size * rng.uniform(-0.15, 0.15, 2)  # a second
            track.x += (drift[0] * seconds).astype(np.float32)
            track.y += (drift[1] * seconds).astype(np.float32)
            looks = list(SHAPES.values())[int(rng.integers(len(SHAPES)))]
            paint(canvas, looks, TEXTURES["plain"], rng.uniform(0.28, 0.72, 3).astype(np.float32), track.moved(camera))
        track = self._still(num_frames, RADIUS, rng)
        for event in events:
            self._move(track, event, rng)
        colour = np.asarray(COLOURS[thing.colour], np.float32) * np.float32(rng.uniform(0.85, 1.0))
        paint(canvas, SHAPES[thing.shape], TEXTURES[thing.texture], colour, track.moved(camera))
        pixels = np.clip(canvas * 255 + 0.5, 0, 255).astype(np.uint8)
        return np.ascontiguousarray(pixels.transpose(0, 2, 3, 1))

    def _move(self, track: Track, event: WorldEvent, rng: np.random.Generator) -> None:
        """Bend a resting track from the event on; where it ends, the thing rests."""
        first, last = round(event.start_s * self.fps), round(event.end_s * self.fps)
        count = min(last, len(track.x)) - first
        moved = Track(*(np.zeros(count, np.float32) for _ in range(4)))
        moved.radius += 1
        u = ((np.arange(count, dtype=np.float32) + 1) / (MOTION_S * self.fps)).astype(np.float32)
        u -= u.mean()
        FORWARD[BACKWARD.get(event.motion, event.motion)](moved, u, self.size, rng)
        for own, bend in ((track.x, moved.x), (track.y, moved.y)):
            path = bend[::-1] if event.motion in BACKWARD else bend
            path = path - path[0]
            own[first : first + count] += path
            own[first + count :] += path[-1]

    def _still(self, num_frames: int, radius: tuple[float, float], rng: np.random.Generator) -> Track:
        x, y, scale, turn = rng.random(4)
        smallest, largest = radius
        still: Array = np.array(
            (self.size * x, self.size * y, self.size * smallest * (largest / smallest) ** scale, 2 * np.pi * turn),
            np.float32,
        )
        return Track(*still[:, None].repeat(num_frames, axis=1))


def write_event_videos(
    folder: str | Path,
    videos: Mapping[str, int],
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    **world: Any,
) -> Path:
    """Write `videos/<split>-<number>.mp4` and last `activity_net.json`, whose path is returned.

    Args:
        videos: split name (train, val, test) -> how many videos. Val and train draw from the objects that training of
            the demo sees, test from those that it does not.
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
                "annotations": [{"segment": [one.start_s, one.end_s], "label": one.motion} for one in video.events],
            }
            if progress:
                progress(len(database), total)
    labels = sorted({row["label"] for entry in database.values() for row in entry["annotations"]})
    root = {"nodeId": 0, "nodeName": "Root", "parentId": None, "parentName": None}
    nodes = [
        {"nodeId": k, "nodeName": one, "parentId": 0, "parentName": "Root"} for k, one in enumerate(labels, start=1)
    ]
    return write_json(
        folder / "activity_net.json", {"database": database, "taxonomy": [root, *nodes], "version": "VERSION 1.3"}
    )
