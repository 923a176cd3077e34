"""What a tier is like: clips, hours, and how its measures are distributed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from pretrain.corpus.manifest import Tier
from pretrain.curation.corpus_measures import Measured
from pretrain.curation.histogram import Histogram


@dataclass(frozen=True)
class Measure:
    """One quantity of a clip: how it is called and explained, and the fine bins it is counted in."""

    name: str
    title: str
    unit: str
    about: str
    low: float
    high: float
    bins: int
    digits: int


MEASURES: tuple[Measure, ...] = (
    Measure(
        "grounding",
        "Grounding score",
        "cosine",
        "Cosine between the embeddings of a clip and its caption; clips without a caption have none.",
        *(-1.0, 1.0, 2000, 3),
    ),
    Measure("duration_s", "Duration", "seconds", "Length of a clip, cut at its video's end.", 0.0, 3600.0, 36000, 1),
    Measure(
        "words",
        "Caption length",
        "words",
        "Words of a caption; an ideograph or kana counts as one; 0 where there is no caption.",
        *(0.0, 1000.0, 1000, 1),
    ),
    Measure(
        "motion",
        "Motion magnitude",
        "share of the grey range",
        "Mean absolute difference in grey between neighbours among 8 evenly spaced frames of 32 x 32 pixels; 0 is a "
        "still picture. Camera motion and cuts count too; images have none.",
        *(0.0, 1.0, 1000, 4),
    ),
)


@dataclass(frozen=True)
class Unreadable:
    """A clip that could not be read, and why."""

    tier: str
    row: int
    video: str
    start: float
    end: float | None
    reason: str

    @classmethod
    def of(cls, tier: Tier, clip: Measured) -> Unreadable:
        row = clip.row
        return cls(tier.name, clip.number, row.path, row.start_s, row.end_s, clip.reason or "not measured")


@dataclass
class TierStats:
    """One tier's clips in all, those that were measured, and the histograms of their measures."""

    tier: Tier
    clips: int
    measured: int = 0
    captioned: int = 0
    unreadable: list[Unreadable] = field(default_factory=list)
    histograms: dict[str, Histogram] = field(default_factory=dict)

    @property
    def hours(self) -> float | None:
        """Hours of all clips: exact when all were measured, else the measured share's mean times the clips."""
        seconds = self.histograms["duration_s"].total
        return seconds / 3600 * self.clips / self.measured if self.measured else None

    @property
    def sampled(self) -> bool:
        return self.measured < self.clips

    def describe(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        tier = self.tier
        known: dict[str, Any] = {"tier": tier.name, "quality": tier.quality, "media": tier.media}
        known |= {"source": tier.source, "caption_source": tier.caption_source, "weight": tier.weight}
        known |= {"clips": self.clips, "measured": self.measured, "captioned": self.captioned, "hours": self.hours}
        known["unreadable"] = [asdict(one) for one in self.unreadable]
        return known | {name: one.describe() for name, one in self.histograms.items()}


def tier_stats(tier: Tier, clips: int, measured: Iterable[Measured]) -> TierStats:
    """Gather the statistics of a tier of `clips` clips from those that were measured."""
    stats = TierStats(tier, clips)
    stats.histograms = {one.name: Histogram(one.low, one.high, one.bins) for one in MEASURES}
    for clip in measured:
        stats.measured += 1
        stats.captioned += bool(clip.row.caption)
        if clip.reason is not None:
            stats.unreadable.append(Unreadable.of(tier, clip))
        for name, histogram in stats.histograms.items():
            value = getattr(clip, name)
            if value is not None and not (name == "duration_s" and tier.media == "image"):
                histogram.add(float(value))
    return stats


def choose(clips: int, sample: int | None, seed: int = 0) -> list[int] | None:
    """Rising numbers of `sample` of the clips, always the same ones; None when all are meant."""
    if sample is None or sample >= clips:
        return None
    drawn = np.random.default_rng(seed).choice(clips, sample, replace=False, shuffle=False)
    return sorted(int(number) for number in drawn)
