"""YouCook2 in miniature: the official JSON, and videos in folders by split and recipe."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.tasks.miniatures.clips import write_clip

VIDEOS = {
    "training": {"0O4bxhpFX9o": ("113", ["spread margarine on two slices of white bread", "grill the tomatoes"])},
    "validation": {
        "-GLd3aX16zBg": ("113", ["melt butter in the pan", "place a slice of cheese", "flip the sandwich"]),
        "fn9anlEL4FI": ("226", ["cut the onion in half and dice"]),
    },
}


def write(folder: Path) -> Path:
    """Segments of half a second, one after the other; bounds are whole seconds in the official file."""
    database: dict[str, Any] = {}
    for subset, videos in VIDEOS.items():
        for name, (recipe, sentences) in videos.items():
            annotations = [
                {"segment": [place / 2, (place + 1) / 2], "id": place, "sentence": sentence}
                for place, sentence in enumerate(sentences)
            ]
            database[name] = {
                "duration": 2.0,
                "subset": subset,
                "recipe_type": recipe,
                "annotations": annotations,
                "video_url": f"https://www.youtube.com/watch?v={name}",
            }
            write_clip(folder / "raw_videos" / subset / recipe / f"{name}.mp4", 2.0)
    (folder / "youcookii_annotations_trainval.json").write_text(json.dumps({"database": database}))
    return folder
