"""Long videos, window by window: what an adapter says of every few seconds, as table, JSON or WebVTT."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adapters.predictions import Prediction, Truth
from core_encoder.clip_plan import Clip
from core_encoder.errors import InputError

if TYPE_CHECKING:
    from adapters.adapter import Adapter
    from core_encoder.features.feature_source import FeatureSource


@dataclass(frozen=True, eq=False)
class Window:
    """What is said of the video from `start_s` to `end_s`, in seconds."""

    start_s: float
    end_s: float
    answer: Prediction


@dataclass(frozen=True, eq=False)
class Windows:
    """The answers for one video, window by window in the order of time; windows may overlap."""

    sample_id: str
    windows: tuple[Window, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        return "start", "end", *(self.windows[0].answer.columns if self.windows else ())

    def describe(self, top: int | None = None, all_scores: bool = False) -> dict[str, Any]:
        """`{"id", "windows": [{"start", "end", ...}]}`: times in seconds, and what each answer says."""
        described = []
        for window in self.windows:
            said = window.answer.describe(top, all_scores)
            del said["id"]
            described.append({"start": window.start_s, "end": window.end_s} | said)
        return {"id": self.sample_id, "windows": described}

    def rows(self, top: int | None = None, all_scores: bool = False) -> list[tuple[str, ...]]:
        """The lines of every window's answer, with its times."""
        return [
            (f"{window.start_s:.2f}", f"{window.end_s:.2f}", *row)
            for window in self.windows
            for row in window.answer.rows(top, all_scores)
        ]

    @property
    def cuts(self) -> list[float]:
        """The seconds between which each window speaks alone, one more than windows: of overlaps each has its half."""
        if not self.windows:
            return []
        middles = [(window.start_s + window.end_s) / 2 for window in self.windows]
        return [self.windows[0].start_s, *map(_mean, itertools.pairwise(middles)), self.windows[-1].end_s]

    def webvtt(self) -> str:
        """The answers as subtitles: of neighbours that say the same one cue, of overlaps each its half."""
        if not self.windows:
            return "WEBVTT\n"
        said = [(", ".join(row[0] for row in window.answer.rows()), window) for window in self.windows]
        cuts = self.cuts
        cues, place = ["WEBVTT"], 0
        for text, same in itertools.groupby(text for text, _ in said):
            after = place + len(list(same))
            cues.append(f"{timestamp(cuts[place])} --> {timestamp(cuts[after])}\n{cue_text(text)}")
            place = after
        return "\n\n".join(cues) + "\n"


def answer_windows(
    adapter: Adapter, source: FeatureSource, clip: Clip, known: Truth, batch_size: int = 8
) -> Iterator[Window]:
    """What the adapter says of every view of a clip, as its features come: of an hour no more than a batch is held.

    Raises:
        InputError: the adapter looks at all windows of a clip at once.
        UnreadableVideo: the video cannot be decoded.
    """
    from adapters.features import example_of
    from adapters.predicting import answer_batch

    if adapter.reads_whole_clips:
        raise InputError(f"adapter {adapter.kind!r} looks at a video as a whole: it cannot be asked window by window")
    records = source.stream(clip)
    while several := list(itertools.islice(records, batch_size)):
        answers = answer_batch(adapter, adapter.collate([example_of([record], known) for record in several]))
        for record, answer in zip(several, answers, strict=True):
            yield Window(record.start_s, record.end_s, answer)


def _mean(pair: tuple[float, float]) -> float:
    return sum(pair) / 2


def timestamp(seconds: float) -> str:
    """Seconds as WebVTT writes them."""
    milliseconds = round(1000 * seconds)
    minutes, rest = divmod(milliseconds, 60_000)
    hours, minute = divmod(minutes, 60)
    return f"{hours:02}:{minute:02}:{rest // 1000:02}.{rest % 1000:03}"


def cue_text(text: str) -> str:
    """Text as WebVTT takes it: no markup, no arrow, one line."""
    for character, escape in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        text = text.replace(character, escape)
    return " ".join(text.split()) or "-"
