"""The page of `prismhub demo --all`: every adapter against what it has to beat, and held-out clips with all answers.

The page holds its videos, pictures and styles itself, runs no script and loads nothing. Every text is escaped.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters.predictions import ClassScores, Segment
from adapters.scores import Score
from core_encoder.clip_plan import Clip
from core_encoder.files.storage import write_text
from prismhub.pages.answers_page import answer_block, moments_of, read_frames, strip_of
from prismhub.pages.report import Timing, render_page

if TYPE_CHECKING:
    from adapters.predictions import Prediction

TOP = 3  # classes shown of an answer with one label


@dataclass(frozen=True)
class Contest:
    """One adapter on held-out clips, and what it has to beat there.

    Args:
        asks: the question in a few words; `judged` says on what, such as `120 clips of captioned`.
        baselines: by name; one without an interval is known exactly.
    """

    adapter: str
    kind: str
    asks: str
    metric: str
    score: Score
    baselines: Mapping[str, Score]
    judged: str

    def clearly_above(self, baseline: str) -> bool:
        """Whether the intervals do not even touch."""
        other = self.baselines[baseline]
        low = self.score.value if self.score.low is None else self.score.low
        return low > (other.value if other.high is None else other.high)

    def describe(self) -> dict[str, Any]:
        """Ready for JSON."""
        baselines = {
            name: asdict(score) | {"clearly_beaten": self.clearly_above(name)} for name, score in self.baselines.items()
        }
        about = {"adapter": self.adapter, "kind": self.kind, "asks": self.asks, "metric": self.metric}
        return about | {"judged": self.judged, "score": asdict(self.score), "baselines": baselines}


@dataclass(frozen=True)
class Said:
    """What one adapter answers about a clip, what is right, and what its baseline says.

    `truths` are segments that are right, where the answer has some; `right` is whether it is, where that is plain.
    """

    asks: str
    kind: str
    answer: Prediction
    truth: str
    baseline: str
    truths: tuple[Segment, ...] = ()
    right: bool | None = None


@dataclass(frozen=True)
class ShownClip:
    """One held-out video and all that is said of it."""

    name: str
    path: Path
    said: Sequence[Said]


@dataclass(frozen=True)
class DemoPage:
    """Everything the page shows; see `ReportData` for the last ones."""

    headline: str
    contests: Sequence[Contest]
    clips: Sequence[ShownClip]
    notices: Sequence[str] = ()
    timings: Sequence[Timing] = ()
    provenance: Sequence[tuple[str, str]] = ()
    commands: Sequence[str] = ()


def contest_table(contests: Sequence[Contest]) -> tuple[list[str], list[list[str]]]:
    """Header and rows for a terminal."""
    rows = []
    for one in contests:
        rows.append([one.asks, one.kind, one.metric, str(one.score), ""])
        for name, score in one.baselines.items():
            beaten = "clearly beaten" if one.clearly_above(name) else "not clearly beaten"
            rows.append(["", name, "", str(score), beaten])
    return ["", "adapter, baselines", "metric", "held-out clips", ""], rows


def write_demo_page(path: Path, data: DemoPage) -> Path:
    """Write the page to one file, whole or not at all.

    Raises:
        InputError: the disk is full.
        UnreadableVideo: a clip that is shown cannot be decoded.
    """
    page = render_page(
        "demo_page.html",
        data=data,
        contests=[(one, _bars(one)) for one in data.contests],
        cards=[_card(one) for one in data.clips],
        longest=max((timing.seconds for timing in data.timings), default=0.0) or 1.0,
        in_all=sum(timing.seconds for timing in data.timings),
    )
    return write_text(path, page)


def _bars(contest: Contest) -> list[dict[str, Any]]:
    """A row for the adapter and one for each baseline; bars are on the scale of the metric, or up to the highest."""
    rows = {contest.kind: contest.score, **contest.baselines}
    most = max(score.value if score.high is None else score.high for score in rows.values())
    whole = 1.0 if contest.score.unit == "%" else most or 1.0
    return [
        {
            "name": name,
            "first": place == 0,
            "beaten": place > 0 and contest.clearly_above(name),
            "text": str(score),
            "width": round(100 * score.value / whole, 2),
            "reach": None
            if score.low is None or score.high is None
            else (round(100 * score.low / whole, 2), round(100 - 100 * score.high / whole, 2)),
        }
        for place, (name, score) in enumerate(rows.items())
    ]


def _card(clip: ShownClip) -> dict[str, Any]:
    times_s = sorted({time_s for one in clip.said for time_s in moments_of(one.answer)})
    frames = read_frames(Clip(str(clip.path)), times_s)
    video = "data:video/mp4;base64," + base64.b64encode(clip.path.read_bytes()).decode("ascii")
    sections = [
        {
            "said": one,
            "block": answer_block(one.answer, frames, _most(one.answer), truths=one.truths),
        }
        for one in clip.said
    ]
    return {"name": clip.name, "video": video, "strip": strip_of(frames), "sections": sections}


def _most(answer: Prediction) -> int | None:
    """How many classes are shown of an answer that has one label; of others what counts as their answer."""
    return TOP if isinstance(answer, ClassScores) else None
