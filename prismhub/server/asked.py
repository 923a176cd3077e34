"""A clip that someone waits for an answer about."""

from __future__ import annotations

import time
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from core_encoder.clip_plan import Clip
from prismhub.server.decode_pool import Ahead, TookTooLong


@dataclass(eq=False)
class Asked:
    """A clip that someone waits for an answer about, what it is called there, and until when."""

    clip: Clip
    name: str
    deadline: float  # of `time.monotonic`
    ahead: Ahead = field(default_factory=Ahead)
    tasks: list[Future[Any]] = field(default_factory=list)

    def hear(self, clip: Clip, at_s: float) -> None:
        """Is told how far a long video is; stops when the time is over."""
        if time.monotonic() > self.deadline:
            raise TookTooLong
