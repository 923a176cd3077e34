"""Which clips of a corpus to leave out, by limits on what was measured."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from core_encoder.config import option
from core_encoder.errors import InputError
from pretrain.curation.corpus_measures import Measured


@dataclass(frozen=True)
class Limits:
    """What a clip must keep to; a measure that it does not have (an image's motion) is not held against it.

    Raises:
        InputError: no limit at all, or one that is out of range or above its counterpart.
    """

    min_grounding: float | None = option(None, "Least cosine of clip and caption; needs --encoder.")
    min_motion: float | None = option(None, "Least motion magnitude: static clips go.")
    min_duration: float | None = option(None, "Least duration in seconds.")
    max_duration: float | None = option(None, "Greatest duration in seconds.")
    min_words: int | None = option(None, "Least length of the caption.")
    max_words: int | None = option(None, "Greatest length of the caption.")
    drop_unreadable: bool = option(False, "Leave out clips that cannot be read.")

    def __post_init__(self) -> None:
        given = [getattr(self, field.name) for field in fields(self)]
        if all(value is None or value is False for value in given):  # 0 is a limit
            raise InputError("no limit was given: name at least one, such as --min-motion 0.005 or --drop-unreadable")
        for name in ("min_motion", "min_duration", "max_duration", "min_words", "max_words"):
            value = getattr(self, name)
            if value is not None and not value >= 0:
                raise InputError(f"{name} must be 0 or more, not {value}")
        if self.min_grounding is not None and not -1 <= self.min_grounding <= 1:
            raise InputError(f"min_grounding is a cosine, from -1 to 1, not {self.min_grounding}")
        for what in ("duration", "words"):
            low, high = getattr(self, f"min_{what}"), getattr(self, f"max_{what}")
            if low is not None and high is not None and low > high:
                raise InputError(f"min_{what} {low:g} is above max_{what} {high:g}: no clip could be kept")

    def reasons(self, clip: Measured) -> list[dict[str, Any]]:
        """Why to leave `clip` out: each limit it breaks with its value; nothing when it may stay."""
        if clip.reason is not None and self.drop_unreadable:
            return [{"why": "unreadable", "value": clip.reason, "limit": None}]
        found: list[dict[str, Any]] = []
        values = {"grounding": clip.grounding, "motion": clip.motion, "duration": clip.duration_s, "words": clip.words}
        if clip.duration_s == 0:  # an image
            values["duration"] = None
        for name, value in values.items():
            for end, broken in (("min", lambda v, limit: v < limit), ("max", lambda v, limit: v > limit)):
                limit = getattr(self, f"{end}_{name}", None)
                if value is not None and limit is not None and broken(value, limit):
                    found.append({"why": f"{end}_{name}", "value": value, "limit": limit})
        return found
