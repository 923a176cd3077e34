"""Clips that could not be encoded: one line of JSON each, kept durable and current while a long run goes on."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from core_encoder.clip_plan import Clip
from core_encoder.files.storage import locked, write_text, writing_to


@dataclass(frozen=True)
class Failure:
    """A clip and why it could not be encoded."""

    path: str
    start_s: float
    end_s: float | None
    reason: str

    @classmethod
    def of(cls, clip: Clip, reason: str) -> Failure:
        return cls(clip.path, clip.start_s, clip.end_s, " ".join(reason.split()).removeprefix(f"{clip.path}: "))

    @property
    def clip(self) -> Clip:
        return Clip(self.path, self.start_s, self.end_s)


class FailureLog:
    """The file `failures.jsonl`; several processes may add to it at once."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._known: set[Failure] = set()
        self._size = -1

    def read(self) -> list[Failure]:
        """What the file lists; a line cut off by an accident is passed over."""
        failures = []
        for line in self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else []:
            try:
                failures.append(Failure(**json.loads(line)))
            except (TypeError, ValueError):
                continue
        return failures

    def add(self, failure: Failure) -> None:
        """Append a failure, durable on return, unless it is listed.

        Raises:
            InputError: the disk is full, or the file cannot be written to.
        """
        with writing_to(self.path), locked(self.path.parent), self.path.open("ab+") as file:
            if file.tell() != self._size:  # another process wrote
                self._known = set(self.read())
            if failure not in self._known:
                torn = False
                if file.tell() > 0:
                    file.seek(-1, os.SEEK_END)
                    torn = file.read(1) != b"\n"
                file.write((b"\n" if torn else b"") + _line(failure).encode())
                file.flush()
                os.fsync(file.fileno())
                self._known.add(failure)
            self._size = file.tell()

    def forget(self, clips: Iterable[Clip]) -> None:
        """Strike out the clips that are about to be tried again."""
        if not self.path.exists():
            return
        retried = set(clips)
        with locked(self.path.parent):  # the file itself may be replaced meanwhile
            listed = self.read()
            kept = [failure for failure in listed if failure.clip not in retried]
            if len(kept) < len(listed):
                write_text(self.path, "".join(map(_line, kept)))


def _line(failure: Failure) -> str:
    line = json.dumps(asdict(failure), ensure_ascii=False, allow_nan=False) + "\n"
    try:
        line.encode()
    except UnicodeEncodeError:  # a file name that is no UTF-8
        line = json.dumps(asdict(failure), allow_nan=False) + "\n"
    return line
