"""What is left to do, in chunks of a few clips; and who is to blame when a process dies of one.

A process that dies takes innocent clips with it. Those that it had not finished are suspects: each is tried again with
nothing beside it. A clip that kills three processes when it is alone is given up, and no other is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from core_encoder.clip_plan import Clip

DEATHS = 3


@dataclass(frozen=True, eq=False)
class Chunk:
    """Clips that one process decodes one after the other; `alone`, they are kept apart from all others."""

    clips: tuple[Clip, ...]
    alone: bool = False


class Chunks:
    """The chunks that are still to do."""

    def __init__(self, clips: Iterable[Clip], size: int) -> None:
        """Clips of one file stay together, up to `size`, so that it is opened once."""
        by_file: dict[str, list[Clip]] = {}
        for clip in clips:
            by_file.setdefault(clip.path, []).append(clip)
        self._size = size
        self._waiting: deque[Chunk] = deque()
        pending: list[Clip] = []
        for several in by_file.values():
            for first in range(0, len(several), size):
                part = several[first : first + size]
                if len(pending) + len(part) > size:
                    self._waiting.append(Chunk(tuple(pending)))
                    pending = []
                pending += part
        if pending:
            self._waiting.append(Chunk(tuple(pending)))
        self._deaths: dict[Clip, int] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def take(self) -> Chunk:
        """The next chunk."""
        return self._waiting.popleft()

    def again(self, clips: Sequence[Clip]) -> None:
        """Clips whose features were lost through no fault of theirs."""
        parts = [clips[first : first + self._size] for first in range(0, len(clips), self._size)]
        self._waiting.extendleft(Chunk(tuple(part)) for part in parts)

    def suspect(self, clips: Sequence[Clip]) -> Clip | None:
        """Clips that a process had in hand when it died; the one that is given up for it, if any."""
        if len(clips) == 1:
            (clip,) = clips
            self._deaths[clip] = self._deaths.get(clip, 0) + 1
            if self._deaths[clip] >= DEATHS:
                return clip
        self._waiting.extendleft(Chunk((clip,), alone=True) for clip in reversed(clips))
        return None
