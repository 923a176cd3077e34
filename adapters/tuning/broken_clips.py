"""Clips that could be read before training and break while it goes on: left out, and each listed once."""

from __future__ import annotations

import logging
from pathlib import Path

from core_encoder.clip_plan import Clip
from core_encoder.errors import InputError, one_line
from core_encoder.features.failures import Failure, FailureLog

log = logging.getLogger(__name__)


class BrokenClips:
    """The list of such clips in a file, to which all processes of a training add."""

    def __init__(self, path: Path, most: int) -> None:
        """Listed in `path`, a line of JSON each; more than `most` are too many."""
        self.path, self.most = path, most
        self._log = FailureLog(path)
        self._met: set[Clip] = set()
        self._told: set[str] = set()

    def add(self, clip: Clip, reason: str) -> None:
        """List a clip, durable on return; the first one of a file is told.

        Raises:
            InputError: that is one too many, or the list cannot be written.
        """
        if clip in self._met:
            return
        self._met.add(clip)
        self._log.add(Failure.of(clip, reason))
        if (count := len(self.failures())) > self.most:
            raise InputError(
                f"{one_line(clip.path)}: {reason}: it could be read before; {count} clips broke while the encoder "
                "trained, more than max_unreadable allows; is the disk there?"
            )
        if clip.path not in self._told:
            self._told.add(clip.path)
            log.warning("%s: %s: it could be read before; it is left out from now on", one_line(clip.path), reason)

    def failures(self) -> tuple[Failure, ...]:
        """Every clip with the reason that was met first."""
        found: dict[Clip, Failure] = {}
        for failure in self._log.read():
            found.setdefault(failure.clip, failure)
        return tuple(found.values())

    def forget(self) -> None:
        """Begin anew."""
        self.path.unlink(missing_ok=True)
