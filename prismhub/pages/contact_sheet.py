"""What a search found as one page that needs nothing else: a card a scene, with its thumbnail and what is known."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Any

from core_encoder.files.storage import write_text
from prismhub.archive.found_scenes import PARTS, Found, FoundScene, common_folder, data_address
from prismhub.pages.report import render_page

_LABELS = 6  # shown of a scene


def write_contact_sheet(path: str | Path, found: Found, archive: str, command: str | None = None) -> Path:
    """Write the found scenes to one HTML file, whole or not at all.

    Raises:
        InputError: the disk is full, or the folder cannot be written to.
    """
    count = len(found)
    page = render_page(
        "contact_sheet.html",
        asked=found.asked,
        headline=f"{count} scene{'' if count == 1 else 's'}" if count else "Nothing here matches",
        nothing=found.nothing,
        notes=found.notes,
        cards=scene_cards(found),
        archive=archive,
        folder=common_folder([one.video for one in found]),
        command=command,
    )
    return write_text(path, page.encode("utf-8", "backslashreplace").decode("utf-8"))  # names of files may be no UTF-8


def scene_cards(found: Sequence[FoundScene]) -> list[dict[str, Any]]:
    """What `scene_cards.html` shows of scenes, a card each; `truth` may be filled in where it is known."""
    common = common_folder([one.video for one in found])
    return [_card(number, one, common) for number, one in enumerate(found, start=1)]


def _card(number: int, one: FoundScene, common: str) -> dict[str, Any]:
    labels = list(one.labels.items())
    return {
        "number": number,
        "picture": data_address(one.thumbnail) if one.thumbnail else "",
        "name": Path(one.video).name,
        "folder": str(PurePath(one.video.removeprefix(common)).parent),
        "when": one.when(),
        "truth": "",
        "seconds": f"{one.end_s - one.start_s:.1f}",
        "scenes": one.scenes,
        "caption": one.caption,
        "labels": [(label, f"{score:.2f}") for label, score in labels[:_LABELS]],
        "left_out": max(len(labels) - _LABELS, 0),
        "speech": " ".join(cue.text for cue in one.speech),
        "parts": [
            {"name": PARTS.get(name, name), "share": round(100 * part / one.score)}
            for name, part in one.parts.items()
            if part and one.score
        ],
        "score": f"{one.score:.4f}",
    }
