"""What a search finds: scenes as answers, for people and for programs. No torch."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core_encoder.errors import UnreadableVideo, one_line
from core_encoder.files.urls import Url, named
from prismhub.archive.scenes import Cue, Finding
from prismhub.progress import clock_text

if TYPE_CHECKING:
    from prismhub.archive.cut_scenes import Saved

PARTS = {"vector": "looks", "text": "words"}  # what a person calls the parts of a score
_SHOWN_LABELS, _SHOWN_LETTERS = 3, 90


@dataclass(frozen=True)
class FoundScene:
    """A scene that answers a query, or several that follow each other, from `start_s` to `end_s` of the file `video`.

    `score` is the sum of its `parts`, by the name of the ranking that gave it: `vector`, `text`. What adapters found
    and what is said is that of its best scene, which is the `id` and has the `thumbnail`, a JPEG. `scenes` counts those
    that are in it. `root` is the folder that was indexed.
    """

    id: int
    video: str
    start_s: float
    end_s: float
    score: float
    parts: Mapping[str, float]
    findings: tuple[Finding, ...] = ()
    speech: tuple[Cue, ...] = ()
    thumbnail: bytes = field(default=b"", repr=False)
    scenes: int = 1
    cosine: float | None = None
    root: str = ""

    @property
    def caption(self) -> str:
        """What adapters write of it, one a line; empty where there is none."""
        return "\n".join(one.text for one in self.findings if one.text)

    @property
    def labels(self) -> dict[str, float]:
        """What adapters call it, with the greatest score of each name, the surest first."""
        found: dict[str, float] = {}
        for one in self.findings:
            if one.label:
                found[one.label] = max(one.score, found.get(one.label, one.score))
        return dict(sorted(found.items(), key=lambda pair: -pair[1]))

    def describe(self) -> dict[str, Any]:
        """Ready for JSON; the thumbnail is a `data:` address, None where there is none, and so is the caption."""
        return {
            "video": self.video,
            "start": round(self.start_s, 3),
            "end": round(self.end_s, 3),
            "score": self.score,
            "parts": dict(self.parts),
            "caption": self.caption or None,
            "labels": [{"label": label, "score": score} for label, score in self.labels.items()],
            "speech": " ".join(one.text for one in self.speech),
            "thumbnail": data_address(self.thumbnail) if self.thumbnail else None,
        }

    def what(self) -> str:
        """What is known of it, in a line for a person."""
        labels = ", ".join(f"{label} {score:.2f}" for label, score in list(self.labels.items())[:_SHOWN_LABELS])
        speech = " ".join(one.text for one in self.speech)
        said = [one_line(self.caption), labels, f"“{one_line(speech)}”" if speech else ""]
        return " · ".join(_cut(one) for one in said if one)

    def shares(self) -> str:
        """How much of the score each part gave: `looks 60 %, words 40 %`."""
        known = {PARTS.get(name, name): part for name, part in self.parts.items() if part}
        return ", ".join(f"{name} {100 * part / self.score:.0f} %" for name, part in known.items())

    def when(self) -> str:
        """`1:02-1:07`."""
        return f"{clock_text(self.start_s)}-{clock_text(self.end_s)}"

    def __repr__(self) -> str:
        what = self.what()
        about = f"{self.video!r}, {self.start_s:.1f}-{self.end_s:.1f} s, score {self.score:.4f}"
        return f"FoundScene({about}{f', {what}' if what else ''})"


@dataclass(frozen=True)
class Found(Sequence[FoundScene]):
    """The scenes that answer a query, the best first; none where nothing matches.

    `nearest` is then what comes nearest all the same. `notes` say what of the query could not be asked; `saved` are the
    files that scenes were cut out to, `failures` says of which this could not be.
    """

    asked: str
    scenes: tuple[FoundScene, ...]
    nearest: tuple[FoundScene, ...] = ()
    notes: tuple[str, ...] = ()
    saved: tuple[Saved, ...] = ()
    failures: tuple[UnreadableVideo, ...] = ()

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, place: Any) -> Any:
        return self.scenes[place]

    def __iter__(self) -> Iterator[FoundScene]:
        return iter(self.scenes)

    def __repr__(self) -> str:
        lines = [f"Found({len(self.scenes)} scenes for {self.asked!r})"]
        lines += [f"  {place}. {scene!r}" for place, scene in enumerate(self.scenes[:10], start=1)]
        return "\n".join([*lines, "  ..."] if len(self.scenes) > 10 else lines)

    @property
    def nothing(self) -> str:
        """The sentence that nothing matches, with what comes nearest; empty where something does."""
        if self.scenes:
            return ""
        near = self.nearest[0] if self.nearest else None
        nearest = f"; the nearest is {near.video}, {near.when()}" if near else ""
        return f"nothing here matches {self.asked!r}{nearest}"

    def describe_saved(self) -> str:
        """How many scenes were cut out, and how."""
        copied = sum(one.copied for one in self.saved)
        silent = sum(one.silent for one in self.saved)
        about = f"{len(self.saved)} scenes, {copied} copied, {len(self.saved) - copied} encoded anew"
        return about + (f", {silent} without their sound" if silent else "")


def common_folder(paths: Sequence[str]) -> str:
    """The folder that all paths lie in, with its slash; empty where it is none."""
    folders = [tuple(path.split("/")) if isinstance(named(path), Url) else Path(path).parts for path in paths]
    shared: list[str] = []
    for parts in zip(*(parts[:-1] for parts in folders), strict=False):
        if len(set(parts)) > 1:
            break
        shared.append(parts[0])
    if shared[1:2] == [""]:  # scheme, nothing, host
        return "/".join([*shared, ""]) if len(shared) > 2 else ""
    return f"{Path(*shared)}/" if len(shared) > 1 else ""


def data_address(jpeg: bytes) -> str:
    """A JPEG as a `data:` address."""
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode("ascii")


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN_LETTERS else text[: _SHOWN_LETTERS - 1].rstrip() + "…"
