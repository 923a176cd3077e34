"""How a video is cut into scenes: at its shot boundaries, in windows of equal length, or as a list says.

Shot boundaries are those of PySceneDetect's content detector, on small pictures of every frame that we decode. A shot
that is too short joins the one before it; one that is too long is cut into equal parts, or, while it goes on, into
scenes of the greatest length.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core_encoder.clip_plan import Clip, VideoFacts
from core_encoder.errors import InputError
from core_encoder.fields import finite_number
from core_encoder.video.frames import DecodedFrame
from prismhub.archive.thumbnails import thumbnail

if TYPE_CHECKING:
    from core_encoder.video.cutting import Cutter

THRESHOLD, MIN_SCENE_S, MAX_SCENE_S = 27.0, 1.0, 10.0
_DETECTOR_PIXELS = 256  # of the longer side: as PySceneDetect's own command shrinks them


@dataclass(frozen=True)
class SceneCuts:
    """How the videos of an archive are cut: by shots, by windows of `window_s`, or by the spans that a file lists.

    Raises:
        InputError: a length that is not above 0, or a shortest scene of more than half the longest one.
    """

    threshold: float = THRESHOLD
    min_scene_s: float = MIN_SCENE_S
    max_scene_s: float = MAX_SCENE_S
    window_s: float | None = None
    spans: Mapping[str, tuple[Clip, ...]] | None = None  # by the real path of their video

    def __post_init__(self) -> None:
        finite_number("scenes", "threshold", self.threshold, above=0.0)
        finite_number("scenes", "min_scene", self.min_scene_s, at_least=0.0)
        finite_number("scenes", "max_scene", self.max_scene_s, above=0.0)
        if self.window_s is not None:
            finite_number("scenes", "window", self.window_s, above=0.0)
        if 2 * self.min_scene_s > self.max_scene_s:
            raise InputError(
                f"min_scene={self.min_scene_s:g} is more than half of max_scene={self.max_scene_s:g}: "
                "a scene that is too long could not be cut"
            )

    def describe(self) -> dict[str, Any]:
        """What an archive records of it, ready for JSON; `SceneCuts.from_record` reads it back, but for a list."""
        if self.spans is not None:
            return {"by": "list"}
        if self.window_s is not None:
            return {"by": "windows", "window": self.window_s}
        lengths = {"min_scene": self.min_scene_s, "max_scene": self.max_scene_s}
        return {"by": "shots", "threshold": self.threshold} | lengths

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> SceneCuts:
        """What `describe` gave of cuts that need no list."""
        known = {"threshold": "threshold", "min_scene": "min_scene_s", "max_scene": "max_scene_s", "window": "window_s"}
        return cls(**{known[name]: value for name, value in record.items() if name in known})

    def digest(self, path: str) -> str:
        """Changes with everything that may cut this video otherwise."""
        about: dict[str, Any] = self.describe()
        if self.spans is not None:
            about["spans"] = [(clip.start_s, clip.end_s) for clip in self.spans_of(path)]
        return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()

    def spans_of(self, path: str) -> tuple[Clip, ...]:
        """The listed spans of a video."""
        return (self.spans or {}).get(os.path.realpath(path), ())

    def check(self) -> None:
        """Refuse to begin without the detector.

        Raises:
            InputError: it is needed, and not installed.
        """
        by_shots = self.spans is None and self.window_s is None
        if by_shots and (importlib.util.find_spec("scenedetect") is None or importlib.util.find_spec("cv2") is None):
            raise InputError(
                "scenes by shots need PySceneDetect, which is not installed: pip install 'prismhub[archive]', or cut "
                "windows of equal length with --window"
            )

    def cutter(self, path: str, facts: VideoFacts) -> Cutter:
        """What cuts one video."""
        if self.spans is not None:
            return GivenScenes([Clip(path, one.start_s, one.end_s) for one in self.spans_of(path)])
        if self.window_s is not None:
            return GivenScenes(windows(path, facts, self.window_s))
        return Shots(path, facts, self)


def read_spans(file: Path) -> dict[str, tuple[Clip, ...]]:
    """The scenes that a CSV of `video,start,end` lists, by the real path of their video, in order and each once.

    Raises:
        InputError: it cannot be read, a time is no time, or none of its videos exists.
    """
    from tasks.readers.manifests import read_clips

    found: dict[str, set[tuple[float, float | None]]] = {}
    for clip in read_clips(file):
        end_s = None if clip.end_s is None else _ms(clip.end_s)
        found.setdefault(os.path.realpath(clip.path), set()).add((_ms(clip.start_s), end_s))
    return {
        path: tuple(
            Clip(path, *bounds)
            for bounds in sorted(several, key=lambda one: (one[0], math.inf if one[1] is None else one[1]))
        )
        for path, several in found.items()
    }


def windows(path: str, facts: VideoFacts, window_s: float) -> list[Clip]:
    """A video in windows of equal length; what is left after the last whole one joins it if it is less than half."""
    count = max(math.floor(facts.duration_s / window_s + 0.5), 1)
    starts = [_ms(place * window_s) for place in range(count)]
    return [
        Clip(path, start_s, end_s) for start_s, end_s in zip(starts, [*starts[1:], _ms(facts.duration_s)], strict=True)
    ]


class GivenScenes:
    """Scenes that are known before the video is decoded."""

    def __init__(self, clips: Sequence[Clip]) -> None:
        self.clips: Sequence[Clip] | None = clips
        self.open_s = 0.0

    def see(self, index: int, frame: DecodedFrame | None) -> Sequence[Clip]:
        return ()

    def end(self) -> Sequence[Clip]:
        return ()

    def picture(self, frame: DecodedFrame) -> bytes:
        return thumbnail(frame)


class Shots:
    """Scenes between the cuts of PySceneDetect's content detector, found frame by frame.

    A cut less than the shortest scene after the last one, or before the end, is passed over. What has become too long
    is settled as soon as the rest cannot become too short.
    """

    clips: Sequence[Clip] | None = None

    def __init__(self, path: str, facts: VideoFacts, cuts: SceneCuts) -> None:
        from prismhub.archive.content_detector import QuickContentDetector

        self._path, self._facts, self._cuts = path, facts, cuts
        self._detector = QuickContentDetector(threshold=cuts.threshold, min_scene_len=0)  # lengths are minded here
        self._shot_s = 0.0  # where the shot under way begins
        self.open_s = 0.0

    def see(self, index: int, frame: DecodedFrame | None) -> Sequence[Clip]:
        now_s, cuts = float(self._facts.timestamps[index]), self._cuts
        if frame is not None and self._is_cut(index, frame):
            shortest_s = min(now_s - self._shot_s, self._facts.duration_s - now_s)
            if shortest_s >= cuts.min_scene_s:
                self._shot_s = now_s
                return self._pieces(now_s)
        if now_s - self.open_s > cuts.max_scene_s + cuts.min_scene_s:
            return self._until(self.open_s + cuts.max_scene_s)
        return ()

    def end(self) -> Sequence[Clip]:
        return self._pieces(self._facts.duration_s)

    def picture(self, frame: DecodedFrame) -> bytes:
        return thumbnail(frame)

    def _is_cut(self, index: int, frame: DecodedFrame) -> bool:
        import cv2
        from scenedetect import FrameTimecode

        small = cv2.cvtColor(frame.small(_DETECTOR_PIXELS), cv2.COLOR_RGB2BGR)
        return bool(self._detector.process_frame(FrameTimecode(index, self._facts.fps), small))

    def _pieces(self, end_s: float) -> list[Clip]:
        """What is open up to `end_s`, in equal scenes that are not too long."""
        start_s = self.open_s
        count = max(math.ceil((end_s - start_s) / self._cuts.max_scene_s - 1e-6), 1)
        bounds = [start_s + place * (end_s - start_s) / count for place in range(1, count)]
        return [clip for bound in [*bounds, end_s] for clip in self._until(bound)]

    def _until(self, end_s: float) -> list[Clip]:
        start_s, self.open_s = self.open_s, end_s
        return [Clip(self._path, _ms(start_s), _ms(end_s))] if _ms(end_s) > _ms(start_s) else []


def _ms(seconds: float) -> float:
    """Seconds as the keys of the feature store count them."""
    return round(seconds * 1000) / 1000
