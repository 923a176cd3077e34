"""What a pretraining run tells while it goes on, and how it stops when it cannot."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


class PretrainingStopped(RuntimeError):
    """A run that cannot go on: a NaN, or embeddings that collapsed; the message says where and what to do."""


@dataclass(frozen=True)
class PartProgress:
    """Where a part of a recipe is."""

    part: str
    step: int
    steps: int
    loss: float
    clips_per_s: float
    eta_s: float


ProgressCallback = Callable[[PartProgress], None]
