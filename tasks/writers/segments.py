"""Segments as the files that people have tools for: ActivityNet's results, BORIS's events, CSV, WebVTT. No torch."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from adapters.predictions import Segment, Segments
from adapters.windows import cue_text, timestamp

_BORIS_TITLES = (
    *("Observation id", "Observation date", "Description", "Observation type", "Source", "Time offset (s)"),
    *("Media duration (s)", "FPS (frame/s)", "Subject", "Behavior", "Behavioral category", "Modifiers"),
    *("Behavior type", "Time", "Media file name", "Comment"),
)


def activitynet_text(answers: Iterable[Segments], top: int | None = None, all_scores: bool = True) -> str:
    """A submission to ActivityNet's evaluator, videos by the stem of their file: all segments unless told otherwise."""
    answers = list(answers)
    results: dict[str, Any] = {}
    for name, answer in zip(video_names(answers), answers, strict=True):
        results[name] = [
            {"label": one.label, "score": one.score, "segment": [one.start_s, one.end_s]}
            for one in answer.shown(top, all_scores)
        ]
    about = sorted({answer.classified_by for answer in answers} - {""})
    external = {"used": True, "details": f"classified by {', '.join(about)}"} if about else {}
    whole = {"version": "VERSION 1.3", "results": results, "external_data": external}
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"


def csv_text(answers: Iterable[Segments], top: int | None = None, all_scores: bool = False) -> str:
    """`video,start,end,label,score`, a row a segment in the order of time; what `train --data` reads again."""
    rows = [("video", "start", "end", "label", "score")]
    for answer in answers:
        for one in by_time(answer.shown(top, all_scores)):
            rows.append((answer.sample_id, f"{one.start_s:.3f}", f"{one.end_s:.3f}", one.label, f"{one.score:.4f}"))
    return _table(rows, ",")


def boris_text(
    answers: Iterable[Segments],
    facts: Mapping[str, tuple[float, float]],
    moments: Sequence[str] = (),
    top: int | None = None,
    all_scores: bool = False,
) -> str:
    """BORIS's tabular events, tab-separated: rows of START and STOP, and POINT for the classes `moments`.

    A state of BORIS cannot begin while it lasts: of segments of one class that overlap the surest is kept. `facts` are
    seconds and frames a second by sample id; the score is the comment.
    """
    answers = list(answers)
    rows: list[tuple[str, ...]] = [_BORIS_TITLES]
    for name, answer in zip(video_names(answers), answers, strict=True):
        length_s, fps = facts[answer.sample_id]
        file = Path(answer.sample_id).name
        events: list[tuple[float, int, str, str, float]] = []
        for one in apart(answer.shown(top, all_scores)):
            if one.label in moments:
                events.append(((one.start_s + one.end_s) / 2, 1, "POINT", one.label, one.score))
            else:
                events += [
                    (one.start_s, 1, "START", one.label, one.score),
                    (one.end_s, 0, "STOP", one.label, one.score),  # before the next START at the same time
                ]
        for time_s, _, what, label, score in sorted(events):
            about = (name, "", "", "Media file", f"player #1:{file}", "0", f"{length_s:.3f}", f"{fps:g}")
            rows.append((*about, "No focal subject", label, "", "", what, f"{time_s:.3f}", file, f"score {score:.3f}"))
    return _table(rows, "\t")


def vtt_text(answer: Segments, top: int | None = None, all_scores: bool = False) -> str:
    """The segments of one video as subtitles, a cue each."""
    cues = [
        f"{timestamp(one.start_s)} --> {timestamp(one.end_s)}\n{cue_text(one.label)}"
        for one in by_time(answer.shown(top, all_scores))
    ]
    return "\n\n".join(["WEBVTT", *cues]) + "\n"


def by_time(segments: Iterable[Segment]) -> list[Segment]:
    """Segments in the order of their starts."""
    return sorted(segments, key=lambda one: (one.start_s, one.end_s, one.label))


def apart(segments: Iterable[Segment]) -> list[Segment]:
    """Segments of which no two of one class overlap: the surer one is kept."""
    kept: list[Segment] = []
    for one in sorted(segments, key=lambda one: -one.score):
        same = (other for other in kept if other.label == one.label)
        if not any(one.start_s < other.end_s and other.start_s < one.end_s for other in same):
            kept.append(one)
    return by_time(kept)


def video_names(answers: Sequence[Segments]) -> list[str]:
    """The stem of each video's file; its whole path where two have the same."""
    stems = [Path(answer.sample_id).stem for answer in answers]
    return [stem if stems.count(stem) == 1 else answer.sample_id for stem, answer in zip(stems, answers, strict=True)]


def _table(rows: Iterable[Sequence[str]], delimiter: str) -> str:
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter, lineterminator="\n").writerows(rows)
    return out.getvalue()
