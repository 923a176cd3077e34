"""Which frames of a video an encoder sees: pure arithmetic on the video's facts, no decoder and no torch.

Times are seconds from the first frame shown. The frame at time t is the last one whose presentation time is <= t, so
variable frame rates and B-frames are sampled by what a viewer would see. A clip [start_s, end_s) is cut at the video's
end; its frames are those on screen at any moment of it.

    sampling   one view takes T = num_frames frames                           more views (V)
    uniform    the centres of T equal segments of the clip                    view v: (v + 1/2) / V into each segment
    fps        the centres of T slots of 1/fps seconds, centred in the clip   starts evenly spread over the clip
    stride     every stride-th source frame, centred in the clip              starts evenly spread over the clip
    dense      sliding windows of T slots at `fps` or `stride`; one starts    none: the windows are the views
               every `window_stride` slots until one reaches the end

Where the clip is too short for T frames its frames are taken once each, then the last one is repeated; `View.num_real`
counts the frames before the repeats. The last dense window is padded in the same way, so that rows stay evenly spaced.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from os import fspath
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from core_encoder.clip_bounds import Overrun, hint
from core_encoder.errors import InputError, UnreadableVideo
from core_encoder.fields import finite_number, record_from_dict, set_field, whole_number
from core_encoder.files.storage import nearest
from core_encoder.files.urls import named

_MOST = 1 << 16  # frames or views: more than memory holds, and nobody asks for so many

Sampling = Literal["uniform", "fps", "stride", "dense"]


@dataclass(frozen=True)
class Clip:
    """A span of one video, in seconds; `end_s=None` means to the end. The path may be an address or lead into a tar.

    Raises:
        InputError: a bound is negative or not finite, or the clip ends before it starts.
    """

    path: str
    start_s: float = 0.0
    end_s: float | None = None

    def __post_init__(self) -> None:
        set_field(self, "path", named(fspath(self.path)))
        set_field(self, "start_s", finite_number(f"{self.path}: clip", "start_s", self.start_s, at_least=0.0))
        if self.end_s is not None:
            set_field(self, "end_s", finite_number(f"{self.path}: clip", "end_s", self.end_s, at_least=0.0))
            if self.end_s <= self.start_s:
                raise InputError(f"{self.path}: clip: end_s={self.end_s:g} must be above start_s={self.start_s:g}")


@dataclass(frozen=True)
class VideoFacts:
    """What sampling needs to know of a video; `timestamps` are seconds in presentation order, the first one 0."""

    num_frames: int
    fps: float
    duration_s: float
    width: int
    height: int
    timestamps: NDArray[np.float64] = field(compare=False, repr=False)

    def __post_init__(self) -> None:
        times = np.array(self.timestamps, dtype=np.float64)
        if times.shape != (self.num_frames,) or self.num_frames < 1:
            raise ValueError(f"timestamps must hold num_frames={self.num_frames} >= 1 values, not {times.shape}")
        if times[0] != 0 or (np.diff(times) < 0).any() or not times[-1] <= self.duration_s < math.inf:
            raise ValueError("timestamps must start at 0, not fall, and end within duration_s")
        times.setflags(write=False)
        set_field(self, "timestamps", times)

    @classmethod
    def constant_rate(cls, num_frames: int, fps: float, width: int = 96, height: int = 64) -> VideoFacts:
        """The facts of a video whose every frame lasts `1 / fps` seconds."""
        return cls(num_frames, fps, num_frames / fps, width, height, np.arange(num_frames) / fps)

    @property
    def tolerance_s(self) -> float:
        """How far a timestamp may lie after the asked time: containers round times, some of them to milliseconds."""
        return min(0.5e-3, 0.1 / self.fps)

    def frames_at(self, times_s: NDArray[np.floating[Any]]) -> NDArray[np.int64]:
        """The index of the frame on screen at each time: the last whose timestamp is not after it."""
        after = np.searchsorted(self.timestamps, times_s + self.tolerance_s, side="right")
        return np.maximum(after - 1, 0).astype(np.int64)


@dataclass(frozen=True)
class View:
    """One set of frames to encode; frames from `num_real` on are padding, repeats of the last real one."""

    index: int
    frame_indices: tuple[int, ...]
    num_real: int
    start_s: float
    end_s: float


@dataclass(frozen=True)
class ClipPlan:
    """How to sample a clip: the table at the head of this module; hashable, and part of every cache key.

    Raises:
        InputError: a field is out of range, missing for this sampling, or would not be read by it.
    """

    num_frames: int = 16
    sampling: Sampling = "uniform"
    fps: float | None = None
    stride: int | None = None
    window_stride: int | None = None
    views: int = 1

    def __post_init__(self) -> None:
        set_field(self, "num_frames", whole_number("clip plan", "num_frames", self.num_frames, at_most=_MOST))
        set_field(self, "views", whole_number("clip plan", "views", self.views, at_most=_MOST))
        rates = {"uniform": (), "fps": ("fps",), "stride": ("stride",), "dense": ("fps", "stride", "window_stride")}
        if self.sampling not in rates:
            raise InputError(f"clip plan: sampling {self.sampling!r} is unknown{nearest(str(self.sampling), rates)}")
        for name in ("fps", "stride", "window_stride"):
            if getattr(self, name) is not None and name not in rates[self.sampling]:
                raise InputError(f"clip plan: {name} means nothing with sampling {self.sampling!r}; leave it out")
        if self.sampling != "uniform" and (self.fps is None) == (self.stride is None):
            needed = "either fps or stride" if self.sampling == "dense" else self.sampling
            raise InputError(f"clip plan: sampling {self.sampling!r} needs {needed}")
        if self.fps is not None:
            set_field(self, "fps", finite_number("clip plan", "fps", self.fps, above=0.0))
        if self.stride is not None:
            set_field(self, "stride", whole_number("clip plan", "stride", self.stride))
        if self.sampling == "dense":
            hop = self.num_frames if self.window_stride is None else self.window_stride
            set_field(self, "window_stride", whole_number("clip plan", "window_stride", hop))
            if self.views != 1:
                raise InputError("clip plan: views must be 1 with sampling 'dense': its windows are the views")
            if hop > self.num_frames:
                raise InputError(
                    f"clip plan: window_stride={hop} is greater than num_frames={self.num_frames}: "
                    "frames between the windows would never be seen"
                )

    def describe(self) -> dict[str, Any]:
        """The fields that are set, ready for JSON; `ClipPlan.from_dict` reads them back."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> ClipPlan:
        """The plan that `describe` gave.

        Raises:
            InputError: an unknown field, or a value the constructor refuses.
        """
        return record_from_dict(cls, "clip plan", given)

    @classmethod
    def windows(cls, num_frames: int, window_s: float = 2.0, step_s: float | None = None) -> ClipPlan:
        """Dense windows of `window_s` seconds and `num_frames` frames, one every `step_s` (default: half a window).

        Raises:
            InputError: a length that is not above 0, a step above the window, or one that is no whole number of frames.
        """
        window_s = finite_number("windows", "window", window_s, above=0.0)
        if step_s is None:
            step_s = window_s / num_frames * max(num_frames // 2, 1)
        step_s = finite_number("windows", "step", step_s, above=0.0)
        slots = step_s * num_frames / window_s
        if slots > num_frames + 1e-6:
            raise InputError(f"step={step_s:g} is above window={window_s:g}: seconds between windows would not be seen")
        hop = max(round(slots), 1)
        if abs(slots - hop) > 1e-6:
            slot_s = window_s / num_frames
            near = sorted({f"{count * slot_s:g}" for count in (max(math.floor(slots), 1), math.ceil(slots))}, key=float)
            raise InputError(
                f"step={step_s:g} is no whole number of frames: a window of {window_s:g} s has {num_frames} of them, "
                f"one every {slot_s:g} s; take {' or '.join(near)}"
            )
        return cls(num_frames, "dense", fps=num_frames / window_s, window_stride=hop)

    def views_of(self, facts: VideoFacts, clip: Clip) -> tuple[View, ...]:
        """The views of `clip` in a video of these facts; always the same for the same arguments.

        Every view holds `num_frames` indices that never fall, inside the clip.

        Raises:
            UnreadableVideo: the clip starts at or after the end of the video.
        """
        start_s, end_s = clip.start_s, facts.duration_s
        if start_s > 0 and start_s >= end_s - facts.tolerance_s:
            problem = f"the clip starts at {start_s:g} s but the video lasts {end_s:g} s"
            raise UnreadableVideo(clip.path, f"{problem}; {hint([Overrun(clip, end_s, facts.fps)])}")
        if clip.end_s is not None:
            end_s = min(clip.end_s, end_s)
        first = int(facts.frames_at(np.array(start_s)))
        last = int(np.searchsorted(facts.timestamps, end_s - facts.tolerance_s, side="left")) - 1
        span = _Span(facts, start_s, end_s, first, max(first, last))
        if self.sampling == "uniform":
            return self._uniform(span)
        return self._slotted(span)

    def _uniform(self, span: _Span) -> tuple[View, ...]:
        available = np.arange(span.first, span.last + 1)
        segment_s = (span.end_s - span.start_s) / self.num_frames
        views = []
        for v in range(self.views):
            frames = available
            if len(available) >= self.num_frames:
                offsets = np.arange(self.num_frames) + (v + 0.5) / self.views
                frames = span.frames_at(span.start_s + offsets * segment_s)
            views.append(self._view(v, frames, span.start_s, span.end_s))
        return tuple(views)

    def _slotted(self, span: _Span) -> tuple[View, ...]:
        """fps, stride and dense: the clip is a row of slots, each shown by one frame; a view is a run of slots."""
        views = []
        if self.stride is not None:
            length = span.last - span.first + 1
            room = max(length - (self.num_frames - 1) * self.stride - 1, 0)  # frames a view can be moved by
            for v, offset in enumerate(self._offsets(room, math.ceil(length / self.stride), self.stride)):
                frames = np.arange(span.first + round(offset), span.last + 1, self.stride)[: self.num_frames]
                start_s, end_s = span.shown_s(int(frames[0]), int(frames[-1]) + self.stride)
                views.append(self._view(v, frames, start_s, end_s))
        else:
            slot_s = 1 / (self.fps or 1.0)
            length_s = span.end_s - span.start_s
            room_s = max(length_s - self.num_frames * slot_s, 0.0)
            slots = max(math.ceil(length_s / slot_s - 0.5 - 1e-9), 1)  # those whose centre lies in the clip
            for v, offset_s in enumerate(self._offsets(room_s, slots, slot_s)):
                centres_s = span.start_s + offset_s + (np.arange(self.num_frames) + 0.5) * slot_s
                real = max(int((centres_s < span.end_s - 1e-9 * slot_s).sum()), 1)
                start_s = span.start_s + offset_s
                end_s = min(start_s + real * slot_s, span.end_s)
                views.append(self._view(v, span.frames_at(centres_s[:real]), start_s, end_s))
        return tuple(views)

    def _offsets(self, room: float, slots: int, step: float) -> list[float]:
        """Where each view starts, counted from the clip's start in the unit of `room` and `step`."""
        if self.sampling == "dense":
            windows = 1 + max(math.ceil((slots - self.num_frames) / (self.window_stride or 1)), 0)
            return [w * (self.window_stride or 1) * step for w in range(windows)]
        if self.views == 1:
            return [room // 2 if isinstance(room, int) else room / 2]
        return [room * v / (self.views - 1) for v in range(self.views)]

    def _view(self, index: int, frames: NDArray[np.int64], start_s: float, end_s: float) -> View:
        real = [int(i) for i in frames]
        padded = real + real[-1:] * (self.num_frames - len(real))
        return View(index, tuple(padded), len(real), float(start_s), float(end_s))


@dataclass(frozen=True)
class _Span:
    """A clip laid over a video: its bounds in seconds and the frames on screen in it."""

    facts: VideoFacts
    start_s: float
    end_s: float
    first: int
    last: int

    def frames_at(self, times_s: NDArray[np.floating[Any]]) -> NDArray[np.int64]:
        return np.clip(self.facts.frames_at(times_s), self.first, self.last)

    def shown_s(self, first: int, after: int) -> tuple[float, float]:
        """When frame `first` appears and frame `after` replaces the one before it, inside the clip."""
        times = self.facts.timestamps
        end_s = self.end_s if after > self.last else float(times[after])
        return max(float(times[first]), self.start_s), end_s
