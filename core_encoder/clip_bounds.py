"""Clips that reach beyond their video: by how much, and in which unit their times probably are.

Times are seconds; frames or milliseconds taken for seconds end far after the video, or start after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from core_encoder.clip_plan import Clip, VideoFacts

_ROUNDING_S = 1.0
_ROUNDING = 0.05  # of the video
_SHORTEST_S = 0.5  # a clip that would be shorter in milliseconds is counted in frames


@dataclass(frozen=True)
class Overrun:
    """A clip that ends after its video, whose duration is `duration_s` at `fps` frames a second."""

    clip: Clip
    duration_s: float
    fps: float

    @classmethod
    def of(cls, clip: Clip, facts: VideoFacts) -> Overrun | None:
        """How a clip overruns its video; None where it does not, or by no more than rounding makes: 1 s or 5 %."""
        found = cls(clip, facts.duration_s, facts.fps)
        rounding = max(_ROUNDING_S, _ROUNDING * facts.duration_s)
        return found if found.starts_after or found.beyond_s > rounding else None

    @property
    def last(self) -> float:
        """The greater of its bounds."""
        return self.clip.start_s if self.clip.end_s is None else self.clip.end_s

    @property
    def beyond_s(self) -> float:
        """How far it reaches beyond the video."""
        return self.last - self.duration_s

    @property
    def starts_after(self) -> bool:
        """Whether nothing of the video is in it."""
        return self.clip.start_s > 0 and self.clip.start_s >= self.duration_s


def likely_unit(overruns: Sequence[Overrun]) -> str | None:
    """`frames`, `milliseconds`, both where both would do, or None: the unit in which most of the clips would fit."""
    whole = all(bound == round(bound) for one in overruns for bound in (one.clip.start_s, one.last))
    frames = whole and _most([one.last / one.fps <= one.duration_s + 1 / one.fps for one in overruns])
    lengths = [one.clip.end_s - one.clip.start_s for one in overruns if one.clip.end_s is not None]
    long_enough = not lengths or median(lengths) / 1000 >= _SHORTEST_S
    thousandths = _most([one.last / 1000 <= one.duration_s + _ROUNDING_S for one in overruns])
    if frames and thousandths and long_enough:
        return "frames or milliseconds"
    if frames:
        return "frames"
    return "milliseconds" if thousandths and long_enough else None


def _most(fits: Sequence[bool]) -> bool:
    return sum(fits) > len(fits) / 2


def hint(overruns: Sequence[Overrun]) -> str:
    """A question about the unit, or what else to do."""
    unit = likely_unit(overruns)
    return f"are the times {unit}? They are read as seconds" if unit else "check the times, they are read as seconds"


def describe_overruns(overruns: Sequence[Overrun], num_clips: int) -> str:
    """One line: how many of the clips, by how much, what became of them, and the likely unit."""
    count, failed = len(overruns), sum(one.starts_after for one in overruns)
    verb, whose = ("ends", "its") if count == 1 else ("end", "their")
    farthest_s = max(one.beyond_s for one in overruns)
    cut = f"{count - failed} cut there" if count > failed else ""
    fail = f"{failed} failed, starting after it" if failed else ""
    by = f"{farthest_s:.0f}" if farthest_s >= 10 else f"{farthest_s:.1f}"
    return (
        f"{count} of {num_clips} clips {verb} after {whose} video, by up to {by} s "
        f"({', '.join(filter(None, (cut, fail)))}); {hint(overruns)}"
    )
