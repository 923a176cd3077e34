"""Charades-STA in miniature: moments and their sentences, of the test videos of Charades' miniature."""

from __future__ import annotations

from pathlib import Path

from tests.tasks.miniatures import charades

MOMENTS = (
    "YSKX3 0.0 0.5##a person opens a door.",
    "YSKX3 0.4 0.9##person puts the clothes on a shelf.",
    "YSKX3 0.5 1.2##person puts the clothes on a shelf.",  # a second time, and beyond the end
    "6RE8D 0.1 0.7##the person is holding a towel.",  # the only one of its video
    "2AN3Q 0.0 1.0##person takes some clothes.",
    "2AN3Q 0.0 1.0##a person is laughing.",  # of the same seconds
)


def write(folder: Path) -> Path:
    charades.write(folder)
    (folder / "charades_sta_test.txt").write_text("\n".join(MOMENTS) + "\n")
    (folder / "charades_sta_train.txt").write_text("46GP8 0.0 0.9##a person opens a door.\n")
    return folder
