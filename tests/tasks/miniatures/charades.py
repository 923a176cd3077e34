"""Charades in miniature: with a script that holds commas, and a video in which nothing is done."""

from __future__ import annotations

from pathlib import Path

from tests.tasks.miniatures.clips import write_clip

CLASSES = ("Holding some clothes", "Putting clothes somewhere", "Taking some clothes from somewhere")
HEADER = "id,subject,scene,quality,relevance,verified,script,objects,descriptions,actions,length\n"
ACTIONS = {
    "train": {"46GP8": "c000 0.00 0.60;c002 0.20 1.00", "N11GT": "c001 0.10 0.90", "0IH69": "c002 0.00 1.00"},
    "test": {"YSKX3": "c000 0.00 0.50;c001 0.50 1.00;c000 0.70 0.90", "6RE8D": "", "2AN3Q": "c002 0.00 0.90"},
}


def write(folder: Path) -> Path:
    lines = "".join(f"c{place:03d} {name}\n" for place, name in enumerate(CLASSES))
    (folder / "Charades_v1_classes.txt").write_text(lines)
    for split, videos in ACTIONS.items():
        rows = []
        for name, actions in videos.items():
            script = '"A person cooks, then ""eats"" it."'
            rows.append(f'{name},HR43,Kitchen (home),6,7,Yes,{script},food;stove,"One, two;three.",{actions},1.00\n')
            write_clip(folder / "Charades_v1_480" / f"{name}.mp4")
        (folder / f"Charades_v1_{split}.csv").write_text(HEADER + "".join(rows))
    return folder
