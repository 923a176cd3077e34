"""What came of an accident, counted; and the place and the chance that each is given."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from core_encoder.files.storage import read_json, write_json


@dataclass
class Tally:
    """Tried, survived, lost, named; and what went wrong, each with what repeats it.

    `survived` is as it should be after the accident, `lost` counts what had been committed and was gone or another
    afterwards, `named` counts the refusals that say in one line which file it is or what to do.
    """

    tried: int = 0
    survived: int = 0
    lost: int = 0
    refused: int = 0
    named: int = 0
    faults: list[str] = field(default_factory=list)
    measured: dict[str, Any] = field(default_factory=dict)

    def count(self, faults: list[str]) -> None:
        """One more was tried, and survived unless something is wrong with it."""
        self.tried += 1
        self.survived += not faults
        self.faults += faults

    def refuse(self, shown: str, named: bool) -> None:
        """One more was refused, in words that say which and what to do, or not."""
        self.refused += 1
        self.named += named
        if not named:
            self.faults.append(f"not named: {shown}")

    @property
    def ok(self) -> bool:
        """Whether everything is as it should be."""
        return not self.faults and not self.lost and self.survived == self.tried and self.named == self.refused

    def write(self, path: Path) -> None:
        """Write as JSON, atomically."""
        write_json(path, asdict(self))

    @classmethod
    def read(cls, path: Path) -> Tally:
        """What `write` wrote."""
        return cls(**read_json(path))


@dataclass(frozen=True)
class Ground:
    """Where an accident happens, how large it is, and its chance.

    `small` is for tests; `length` is a share of the hour, the ten minutes and the kills; `folder` is the
    accident's own and empty at first.
    """

    folder: Path
    seed: int = 0
    small: bool = False
    length: float = 1.0
    say: Callable[[str], None] = print

    def chance(self, *about: object) -> random.Random:
        """A generator of its own for everything that is drawn: the same seed repeats it."""
        return random.Random("/".join(map(str, (self.seed, *about))))

    def many(self, many: int, few: int) -> int:
        """So many, or in small so few."""
        return few if self.small else many
