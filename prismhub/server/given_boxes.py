"""Boxes that are given beside a video: the moments at which an adapter is asked what those in them do."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

from adapters.adapter import Adapter
from adapters.boxes import Corners, Track
from core_encoder.clip_plan import Clip, VideoFacts
from core_encoder.errors import InputError
from prismhub.server.questions import GivenBox
from tasks.readers.boxes import DEFAULT_CONTEXT_S

MOST_MOMENTS = 60


class Moment(NamedTuple):
    """A clip around a moment, and what an adapter is given beside it."""

    clip: Clip
    given: dict[str, Any]


def wants_boxes(adapter: Adapter) -> bool:
    """Whether it cannot answer without boxes."""
    return "boxes" in adapter.needed_inputs


def moments_of(adapter: Adapter, boxes: Sequence[GivenBox], path: str, facts: VideoFacts) -> list[Moment]:
    """The moments of boxes in the order of time, each with as much video around it as the adapter has learned from.

    Boxes of one track are a path: it is followed through the clip.

    Raises:
        InputError: a box that is none, one beyond the end of the video, or too many moments.
    """
    at: dict[float, list[GivenBox]] = defaultdict(list)
    paths: dict[str, dict[float, Corners]] = defaultdict(dict)
    for one in boxes:
        if one.time > facts.duration_s:
            raise InputError(f"a box at {one.time:g} s is beyond the end of the video, {facts.duration_s:g} s")
        at[one.time].append(one)
        if one.track:
            paths[one.track][one.time] = one.box
    if len(at) > MOST_MOMENTS:
        raise InputError(f"boxes at {len(at)} moments are more than the {MOST_MOMENTS} that this server looks at")
    around_s = float(adapter.info.training.get("context_s", DEFAULT_CONTEXT_S)) / 2
    moments = []
    for time_s, several in sorted(at.items()):
        tracks = [_track(one, paths.get(one.track, {})) for one in several]
        given = {"boxes": tracks, "time_s": time_s, "picture": (facts.width, facts.height)}
        clip = Clip(path, max(0.0, time_s - around_s), min(facts.duration_s, time_s + around_s))
        known = adapter.input_names
        moments.append(Moment(clip, {name: one for name, one in given.items() if known is None or name in known}))
    return moments


def _track(box: GivenBox, path: dict[float, Corners]) -> Track:
    if len(path) < 2:
        return Track((box.box,), (), box.track)
    times = sorted(path)
    return Track(tuple(path[time_s] for time_s in times), tuple(times), box.track)
