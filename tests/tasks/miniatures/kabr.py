"""KABR in miniature, its pictures joined to videos; the header is misspelled as in the release."""

from __future__ import annotations

import json
from pathlib import Path

from tests.tasks.miniatures.clips import write_clip

CLASSES = ("Walk", "Graze", "Browse", "Head Up", "Auto-Groom", "Trot", "Run", "Occluded")
SCENES = {
    "train": {"ZG0001.1": [0] * 60 + [1] * 100, "G0002.3": [3] * 90, "ZP0004.2": [7] * 20 + [1] * 70},
    "val": {"ZG0009.1": [0] * 90, "ZP0011.2": [1] * 30 + [3] * 130},
}


def write(folder: Path) -> Path:
    (folder / "annotation").mkdir()
    (folder / "annotation" / "classes.json").write_text(json.dumps({name: k for k, name in enumerate(CLASSES)}))
    for split, scenes in SCENES.items():
        rows = ["original_vido_id video_id frame_id path labels"]
        for number, (name, labels) in enumerate(scenes.items(), start=1):
            rows += [f"{name} {number} {t} {name}/{t}.jpg {label}" for t, label in enumerate(labels, start=1)]
            write_clip(folder / "video" / f"{name}.mp4", len(labels) / 30, fps=30)
        (folder / "annotation" / f"{split}.csv").write_text("\n".join(rows) + "\n")
    return folder
