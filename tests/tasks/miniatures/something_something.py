"""Something-Something v2 in miniature."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.tasks.miniatures.clips import write_clip

TEMPLATES = (
    "Holding [something] next to [something]",
    "Moving [something] away from the camera",
    "Lifting up one end of [something], then letting it drop down",
)


def write(folder: Path, templates: tuple[str, ...] = TEMPLATES, train: int = 2, val: int = 1) -> Path:
    """So many videos a template in train and validation, as H.264 under the official ending."""
    labels = {template.replace("[", "").replace("]", ""): str(place) for place, template in enumerate(templates)}
    (folder / "something-something-v2-labels.json").write_text(json.dumps(labels))
    number = 78687
    for split, count in (("train", train), ("validation", val)):
        entries: list[dict[str, Any]] = []
        for template in templates:
            for _ in range(count):
                things = ["potato", "vicks vaporub bottle"][: template.count("[something]")]
                label = template.replace("[", "").replace("]", "")
                for thing in things:
                    label = label.replace("something", thing, 1)
                entry = {"id": str(number), "label": label.lower(), "template": template, "placeholders": things}
                entries.append(entry)
                write_clip(folder / "20bn-something-something-v2" / f"{number}.mp4")
                number += 11
        (folder / f"something-something-v2-{split}.json").write_text(json.dumps(entries, indent=1))
    return folder
