"""The end of the demo: an archive of its test videos, with what its adapters say, searched by words."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core_encoder.config import config_from_dict
from prismhub.progress import SILENT, Show

if TYPE_CHECKING:
    from prismhub.archive.found_scenes import Found

SPLIT, SHOWN = "test", 6
WHOLE_S = 60.0  # longer than any video of the demo: each is one scene


@dataclass(frozen=True)
class Searched:
    """An archive, and the scenes that a text finds in it; `shows` says by path what each of its videos shows.

    `place` counts from 1 where the video stands that the text describes, None where it is not found.
    """

    archive: Path
    text: str
    found: Found
    shows: Mapping[str, str]
    place: int | None

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Header and rows for a terminal."""
        rows = [
            [str(number), f"{Path(one.video).parent.name}/{Path(one.video).name}", one.shares(), self.shows[one.video]]
            for number, one in enumerate(self.found[:SHOWN], start=1)
        ]
        return ["", "video", "found by", "it shows"], rows

    def verdict(self) -> str:
        """Where the video stands that the text describes, in one sentence."""
        described = "the video that the text describes"
        place = f"is not among the {len(self.found)} found" if self.place is None else f"stands at place {self.place}"
        return f"{described} {place} of {len(self.shows)}"

    def describe(self) -> dict[str, Any]:
        """Ready for JSON."""
        found = [{"video": one.video, "score": one.score, "shows": self.shows[one.video]} for one in self.found]
        return {"archive": str(self.archive), "text": self.text, "found": found, "place": self.place}


def search_by_words(videos: Path, archive: Path, adapters: Sequence[str], show: Show) -> Searched:
    """Index the test videos of a written data set with what `adapters` say of them, and look for the first one's text.

    Raises:
        InputError: the disk is full.
    """
    from prismhub.archive.query_settings import SearchSettings
    from prismhub.commands.index import IndexSettings, index
    from prismhub.commands.search import search

    asked = {"videos": [str(videos / SPLIT)], "out": archive, "adapter": list(adapters), "window": WHOLE_S}
    index(config_from_dict(IndexSettings, asked), show)
    rows = [json.loads(line) for line in (videos / "metadata.jsonl").read_text(encoding="utf-8").splitlines()]
    folder = (videos / SPLIT).resolve().parent
    shows = {str(folder / row["file_name"]): row["caption"] for row in rows if row["split"] == SPLIT}
    described, text = next(iter(shows.items()))
    query = {"archive": archive, "text": text, "top": len(shows), "all": True}
    found = search(config_from_dict(SearchSettings, query), SILENT)
    paths = [one.video for one in found]
    return Searched(archive, text, found, shows, paths.index(described) + 1 if described in paths else None)
