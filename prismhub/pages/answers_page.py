"""The answers of `predict` as one page that needs nothing else: frames of every video, and below them what was said.

Each kind of answer has its picture: bars of classes, a caption, a timeline of segments or windows, boxes on frames, the
numbers of a vector; an answer of another form is a table. However many videos there are, the page stays bounded: the
first `MOST_VIDEOS` are shown, each with a few small frames.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from adapters.boxes import BoxScores
from adapters.card import AdapterInfo
from adapters.predictions import Box, Boxes, ClassScores, Embedding, Prediction, Segment, Segments, Text
from adapters.windows import Windows
from core_encoder.array_videos import ArrayVideo
from core_encoder.clip_plan import Clip, ClipPlan
from core_encoder.errors import UnreadableVideo
from core_encoder.files.storage import write_text
from prismhub.answers import Predicted
from prismhub.clips import sample_names
from prismhub.pages.report import letters, picture_uri, render_page, short
from prismhub.pages.timeline import COLOURS, timeline_svg

MOST_VIDEOS = 100  # shown on a page
STRIP_FRAMES, STRIP_WIDTH = 6, 240  # of a video, and pixels of each
MOMENTS, MOMENT_WIDTH = 8, 420  # frames with boxes of a video, and pixels of each
LETTER = 7.5  # pixels of a letter beside a box, on average
MOST_ROWS = 30  # bars, lines of a table, rows of a timeline or boxes of a frame
MOST_SEGMENTS = 300
BARS = 5  # classes shown, unless more are asked for
_PLAIN_BARS = 128  # numbers drawn of a vector


class AnsweredBy(NamedTuple):
    """An adapter's record and its answers, and how many of them are wanted (see `Prediction`)."""

    info: AdapterInfo
    done: Predicted
    top: int | None = None
    all_scores: bool = False


@dataclass(frozen=True)
class ReadFrames:
    """Some frames of a video by their index, and which index is on screen at a second."""

    pictures: Mapping[int, NDArray[np.uint8]]
    strip: tuple[int, ...]
    moments: Mapping[float, int]
    times_s: Mapping[int, float]
    length_s: float


def write_answers_page(
    path: str | Path,
    videos: Sequence[Clip] | Sequence[ArrayVideo],
    answers: Mapping[str, AnsweredBy],
    command: str | None = None,
) -> Path:
    """Write what adapters, by name, say of videos to one HTML file, whole or not at all.

    Raises:
        InputError: the disk is full.
    """
    said = {name: {one.sample_id: one for one in by.done.predictions} for name, by in answers.items()}
    failed = {failure.path: failure.reason for by in answers.values() for failure in by.done.failures}
    cards = []
    shown: list[Clip | ArrayVideo] = [*videos[:MOST_VIDEOS]]
    for name, video in zip(sample_names(videos), shown, strict=False):
        found = {adapter: several[name] for adapter, several in said.items() if name in several}
        reason = failed.get(video.name if isinstance(video, ArrayVideo) else video.path, "")
        cards.append(_card(name, video, found, answers, reason))
    count, adapters = len(videos), len(answers)
    page = render_page(
        "answers_page.html",
        title=", ".join(answers),
        headline=f"{count} video{'s' if count > 1 else ''}, {adapters} adapter{'s' if adapters > 1 else ''}",
        cards=cards,
        left_out=max(len(videos) - MOST_VIDEOS, 0),
        adapters=[_about(name, by.info) for name, by in answers.items()],
        command=command,
    )
    return write_text(path, page)


def _about(name: str, info: AdapterInfo) -> tuple[str, str]:
    """An adapter and where it comes from, in a line."""
    origin = (
        f"{info.encoder} ({info.features.fingerprint[:12]})" if info.features else "an encoder that is not recorded"
    )
    learned = f", {len(info.label_names)} classes" if info.label_names else ""
    return name, f"{info.kind} on {origin}{learned}" + (f", of {info.created}" if info.created else "")


def _card(
    name: str,
    video: Clip | ArrayVideo,
    found: Mapping[str, Prediction],
    answers: Mapping[str, AnsweredBy],
    reason: str,
) -> dict[str, Any]:
    """One video: its frames, and a section for each adapter that says something of it."""
    times_s = sorted({time_s for one in found.values() for time_s in moments_of(one)})
    try:
        frames = read_frames(video, times_s)
    except UnreadableVideo as error:
        return {"name": Path(name).name, "source": name, "strip": [], "sections": [], "reason": reason or error.reason}
    sections = [
        {
            "name": adapter,
            "kind": answers[adapter].info.kind,
            "block": answer_block(one, frames, answers[adapter].top, answers[adapter].all_scores),
        }
        for adapter, one in found.items()
    ]
    return {"name": Path(name).name, "source": name, "strip": strip_of(frames), "sections": sections, "reason": reason}


def strip_of(frames: ReadFrames) -> list[tuple[str, str]]:
    """Small pictures spread over a video as `data:` addresses, each with its time."""
    return [(picture_uri(frames.pictures[i], STRIP_WIDTH), _seconds(frames.times_s[i])) for i in frames.strip]


def answer_block(
    answer: Any,
    frames: ReadFrames,
    top: int | None = None,
    all_scores: bool = False,
    truths: Sequence[Segment] = (),
) -> dict[str, Any]:
    """How an answer is shown: `shape` names a part of `answer_block.html`, the rest is what that part draws.

    `truths` are segments that are known to be right, drawn below those that were found.
    """
    if isinstance(answer, ClassScores):
        wanted = len(answer.label_names) if all_scores else top or max(BARS, len(answer.above()) * answer.multi_label)
        bars = answer.top(min(wanted, MOST_ROWS))
        return {"shape": "bars", "bars": bars, "left_out": len(answer.label_names) - len(bars)}
    if isinstance(answer, Text):
        said = answer.describe(top, all_scores)
        others = answer.rows(top, all_scores)[1:]  # what it was chosen from, where that is known and asked for
        about = {"question": said.get("question", ""), "score": answer.score, "others": others[:MOST_ROWS]}
        return {"shape": "text", "text": answer.text, "left_out": len(others) - MOST_ROWS} | about
    if isinstance(answer, Segments):
        return _timeline(answer.shown(top, all_scores), frames, truths)
    if isinstance(answer, Windows) and answer.windows and isinstance(answer.windows[0].answer, ClassScores):
        spans = [
            Segment(max(window.start_s, after), min(window.end_s, before), label, score)  # overlaid they look surer
            for window, (after, before) in zip(answer.windows, pairwise(answer.cuts), strict=True)
            for label, score in window.answer.top(top or 1)  # type: ignore[attr-defined]
        ]
        return _timeline(spans, frames)
    if isinstance(answer, BoxScores | Boxes):
        return _boxes(answer, frames, top, all_scores)
    if isinstance(answer, Embedding):
        values = answer.values[:_PLAIN_BARS].tolist()
        largest = max(map(abs, values), default=0.0) or 1.0
        heights = [round(value / largest, 3) for value in values]
        return {"shape": "vector", "heights": heights, "width": len(answer.values)}
    rows = answer.rows(top, all_scores)
    return {
        "shape": "table", "columns": answer.columns, "rows": rows[:MOST_ROWS], "left_out": len(rows) - MOST_ROWS
    }  # fmt: skip


def _timeline(segments: Sequence[Segment], frames: ReadFrames, truths: Sequence[Segment] = ()) -> dict[str, Any]:
    """The surest segments, of no more classes than a page has room for."""
    surest = sorted(segments, key=lambda one: -one.score)
    labels = list(dict.fromkeys(one.label for one in surest))[:MOST_ROWS]
    shown = [one for one in surest if one.label in labels][:MOST_SEGMENTS]
    length_s = max([frames.length_s, *(one.end_s for one in shown)])
    drawing = timeline_svg("", shown, length_s, truths)
    return {"shape": "drawing", "svg": drawing, "left_out": len(segments) - len(shown)}


def _boxes(
    answer: BoxScores | Boxes, frames: ReadFrames, top: int | None = None, all_scores: bool = False
) -> dict[str, Any]:
    """Frames with the boxes of their moment; what one individual does, or that it is nothing, stands in one label."""
    everyone: dict[float, dict[Any, list[Box]]] = {}
    if isinstance(answer, BoxScores):
        for time_s, track, corners in zip(answer.times_s, answer.tracks, answer.corners, strict=True):
            everyone.setdefault(time_s, {})[track, corners] = []
    for box in answer.shown(top, all_scores) if isinstance(answer, BoxScores) else answer.boxes:
        everyone.setdefault(box.time_s, {}).setdefault((box.track, box.corners), []).append(box)
    tracks = list(dict.fromkeys((track or corners) for people in everyone.values() for track, corners in people))
    moments = []
    for time_s in moments_of(answer):
        people = everyone[time_s]
        picture = frames.pictures[frames.moments[time_s]]
        width = MOMENT_WIDTH
        height = round(width * picture.shape[0] / picture.shape[1])
        drawn = []
        for (track, corners), several in list(people.items())[:MOST_ROWS]:
            left, upper, right, lower = corners
            said = ", ".join(f"{one.label} {one.score:.2f}" for one in several) or "-"
            tip = f"{track}: {said}" if track else said
            text = short(tip, 48)
            room = letters(text) * LETTER + 2
            to_the_left = left + right > 1  # towards the middle, where there is room
            drawn.append(
                {
                    "x": round(left * width, 1),
                    "y": round(upper * height, 1),
                    "width": round((right - left) * width, 1),
                    "height": round((lower - upper) * height, 1),
                    "text_x": round(
                        max(right * width - 2, room) if to_the_left else min(left * width + 2, width - room), 1
                    ),
                    "anchor": "end" if to_the_left else "start",
                    "text_y": round(max(upper * height - 4, 12), 1),
                    "colour": COLOURS[tracks.index(track or corners) % len(COLOURS)],
                    "text": text,
                    "tip": tip,
                }
            )
        about = {"uri": picture_uri(picture, width), "time": _seconds(time_s), "width": width, "height": height}
        moments.append(about | {"boxes": drawn, "left_out": len(people) - len(drawn)})
    return {"shape": "boxes", "moments": moments, "left_out": len(everyone) - len(moments)}


def moments_of(answer: Any) -> list[float]:
    """The seconds whose frames an answer wants to be drawn on: some, evenly spread over all of its moments."""
    if isinstance(answer, BoxScores):
        times_s = sorted(set(answer.times_s))
    elif isinstance(answer, Boxes):
        times_s = sorted({box.time_s for box in answer.boxes})
    else:
        return []
    if len(times_s) <= MOMENTS:
        return times_s
    return [times_s[i] for i in np.unique(np.linspace(0, len(times_s) - 1, MOMENTS).round().astype(int))]


def read_frames(video: Clip | ArrayVideo, times_s: Sequence[float]) -> ReadFrames:
    """Frames spread over the video, and those on screen at some seconds.

    Raises:
        UnreadableVideo: it cannot be decoded.
    """
    from core_encoder.video.decoders import open_video

    if isinstance(video, ArrayVideo):
        facts, clip = video.facts, Clip(video.name)
    else:
        with open_video(video.path) as reader:
            facts, clip = reader.facts, video
    strip = tuple(dict.fromkeys(ClipPlan(STRIP_FRAMES).views_of(facts, clip)[0].frame_indices))
    moments = {time_s: int(facts.frames_at(np.array([time_s]))[0]) for time_s in times_s}
    wanted = sorted({*strip, *moments.values()})
    if isinstance(video, ArrayVideo):
        pictures = video.frames[wanted]
    else:
        with open_video(video.path) as reader:
            pictures = reader.read(wanted)
    seconds = {index: float(facts.timestamps[index]) for index in wanted}
    end_s = facts.duration_s if clip.end_s is None else min(clip.end_s, facts.duration_s)
    return ReadFrames(dict(zip(wanted, pictures, strict=True)), strip, moments, seconds, end_s)


def _seconds(time_s: float) -> str:
    minutes, rest = divmod(time_s, 60)
    return f"{int(minutes)}:{rest:04.1f}" if minutes else f"{rest:.1f} s"
