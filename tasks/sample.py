"""One sample of a task. No torch."""

from __future__ import annotations

from dataclasses import dataclass

from core_encoder.clip_plan import Clip


@dataclass(frozen=True)
class Sample:
    """One labelled clip; `id` is its path (relative to the data's folder) with its bounds, or the id of its row."""

    id: str
    clip: Clip
    labels: tuple[str, ...]
    split: str | None = None
