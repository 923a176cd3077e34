"""Options of the commands that search an archive: `search`, `label`. No NumPy and no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from core_encoder.config import group, option
from core_encoder.errors import InputError
from prismhub.settings import OutputSettings, ReadingSettings, RunningSettings, at_least_one


@dataclass(frozen=True, kw_only=True)
class QuerySettings:
    """What is looked for in an archive, and how."""

    archive: Path = option(help="Folder of the archive, which `prismhub index` made.", positional=True)
    text: str | None = option(None, 'What to look for, in words; "what is in quotes" must be there.', positional=True)
    like: Path | None = option(None, "Video to look for scenes like it.")
    start: float | None = option(None, "With --like: second at which the example starts.")
    end: float | None = option(None, "With --like: second at which it ends.")
    mode: Literal["hybrid", "vector", "text"] = option(
        "hybrid", "hybrid: looks and words together; vector: looks alone; text: words alone."
    )
    where: str | None = option(None, "Condition, such as \"label = 'goal' and duration > 2\"; see docs/archive.md.")
    top: int = option(10, "So many best answers.")
    all: bool = option(False, "Every scene its own answer, also those that follow each other in a video.")
    anyway: bool = option(False, "Show the nearest scenes even when nothing matches.")
    running: RunningSettings = group()
    reading: ReadingSettings = group()

    def __post_init__(self) -> None:
        at_least_one(self, "top")
        if self.text is not None and not self.text.strip():
            raise InputError("text is empty: say what to look for")
        if self.like is None and (self.start is not None or self.end is not None):
            raise InputError("start and end are those of an example: give it with like")
        if self.mode == "text" and self.text is None and self.like is not None:
            raise InputError("mode text looks for words, and an example has none: leave mode out")
        if self.mode == "vector" and self.text is None and self.like is None:
            raise InputError("mode vector needs a text or an example to be near to")

    @property
    def asked(self) -> str:
        """The query in a few words."""
        return " and ".join(filter(None, [self.text or "", f"like {self.like}" if self.like else "", self.where or ""]))


@dataclass(frozen=True, kw_only=True)
class SearchSettings(QuerySettings):
    """Options of `prismhub search`."""

    save: Path | None = option(None, "Folder for the found scenes as files of their own.")
    html: Path | None = option(None, "File for a contact sheet of what was found, which needs nothing else.")
    edl: Path | None = option(None, "File for an edit list (CMX 3600), which editing programs open.")
    output: OutputSettings = group()


@dataclass(frozen=True, kw_only=True)
class LabelSettings(QuerySettings):
    """Options of `prismhub label`."""

    out: Path = option(help="Manifest to write, .csv: path, start, end, label, score.")
    label: str | None = option(None, "What the scenes are called in it (default: the text; with --near what it says).")
    near: str | None = option(None, "List the scenes that this adapter is least sure of, instead of searching.")
    output: OutputSettings = group()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.out.suffix.lower() != ".csv":
            raise InputError(f"{self.out}: the manifest is a .csv file")
        if self.near is not None and (self.text is not None or self.like is not None):
            raise InputError("near asks an adapter, not a text or an example: give one of them, and --where beside it")
        if self.near is None and self.text is None and self.label is None:
            raise InputError("label says what the scenes are called where no text says so: give it")
