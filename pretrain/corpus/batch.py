"""A mini-batch of clips, and the count of those that could not be read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from core_encoder.errors import InputError

_FEW = 100  # clips below which a share of unreadable ones says little


@dataclass(frozen=True)
class Skipped:
    """A clip that could not be read and was replaced by another one of its tier."""

    step: int
    tier: str
    path: str
    reason: str


@dataclass(frozen=True)
class ClipBatch:
    """One process's share of one global batch.

    Attributes:
        tier: name of the tier, or "mixed".
        frames: uint8 `(b, T, H, W, 3)`; T is 1 for tiers of images (in mixed batches an image is repeated T times).
        captions: "" where a clip has none.
        labels: {} where nothing is known.
        positions: place of each sample in the global batch.
        skipped: clips that were replaced.
        stream_state: where the Hub's streams stand after this batch, ready for JSON; None without any.
    """

    step: int
    tier: str
    frames: Tensor
    captions: tuple[str, ...]
    labels: tuple[Mapping[str, str], ...]
    positions: tuple[int, ...]
    skipped: tuple[Skipped, ...] = ()
    stream_state: Any = None


@dataclass
class UnreadableCount:
    """Counts clips drawn and clips replaced, and stops a run with too many of the latter.

    Args:
        limit: the largest share of unreadable clips among those drawn (of the first 100, among 100).
    """

    limit: float
    drawn: int = 0
    unreadable: int = 0

    def add(self, batch: ClipBatch) -> None:
        """Count a batch.

        Raises:
            InputError: the share is above the limit.
        """
        self.drawn += len(batch.positions) + len(batch.skipped)
        self.unreadable += len(batch.skipped)
        if self.unreadable > self.limit * max(self.drawn, _FEW):
            last = batch.skipped[-1] if batch.skipped else Skipped(batch.step, batch.tier, "", "")
            raise InputError(
                f"{self.unreadable} of {self.drawn} clips drawn could not be read, above the share max_unreadable="
                f"{self.limit:g}; the last one: tier {last.tier!r}, {last.path}: {last.reason}"
                "; repair or remove them, or raise max_unreadable"
            )
