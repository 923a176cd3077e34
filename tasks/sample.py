"""The samples of tasks. No torch."""

from __future__ import annotations

from dataclasses import dataclass, field

from adapters.predictions import Timeline
from core_encoder.clip_plan import Clip


@dataclass(frozen=True)
class Sample:
    """One labelled clip; `id` is its path (relative to the data's folder) with its bounds, or the id of its row."""

    id: str
    clip: Clip
    labels: tuple[str, ...]
    split: str | None = None


@dataclass(frozen=True)
class SegmentSample(Sample):
    """One video with what happens in it and when; `labels` are the classes that occur.

    `moments` are those of them that were written without a duration, and became short segments.
    """

    timeline: Timeline = field(default_factory=lambda: Timeline(()))
    moments: tuple[str, ...] = ()


@dataclass(frozen=True)
class ChoiceSample(Sample):
    """One clip, texts of which one is right, and what is asked, if anything; `kind` is the type of the question."""

    options: tuple[str, ...] = ()
    answer: str = ""
    question: str = ""
    kind: str = ""
