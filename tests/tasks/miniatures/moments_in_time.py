"""Moments in Time in miniature."""

from __future__ import annotations

from pathlib import Path

from tests.tasks.miniatures.clips import write_clip

CLASSES = ("clapping", "adult+female+singing", "praying")


def write(folder: Path) -> Path:
    """Two videos a class in training, one in validation; the names of two classes' videos are alike."""
    (folder / "moments_categories.txt").write_text("clapping,0\npraying,2\nadult+female+singing,1\n")
    for split, count in (("training", 2), ("validation", 1)):
        rows = []
        for label in CLASSES:
            for place in range(count):
                name = f"{label}/0-0-1-6-2-9-7-0-7-5-3-0-0-2-{place}_1.mp4"
                rows.append(f"{name},{label},3,0\n")
                write_clip(folder / split / name)
        (folder / f"{split}Set.csv").write_text("".join(rows))
    return folder
