"""Charades in miniature: the official CSV files and class list, the sentences of Charades-STA, and videos."""

from __future__ import annotations

from pathlib import Path

from tests.tasks.miniatures.clips import write_clip

CLASSES = ("Holding some clothes", "Putting clothes somewhere", "Taking some clothes from somewhere", "Opening a door")
HEADER = "id,subject,scene,quality,relevance,verified,script,objects,descriptions,actions,length\n"
ACTIONS = {
    "46GP8": "c001 0.20 1.10;c003 0.00 0.90;c001 1.20 1.90",
    "N11GT": "c000 0.10 1.70",
    "0IH69": "",  # some have none
    "YSKX3": "c002 0.00 2.00;c000 0.00 1.00",
}
MOMENTS = (
    "46GP8 0.0 0.9##a person opens a door.",
    "46GP8 0.2 1.1##person puts the clothes on a shelf.",
    "46GP8 1.2 2.4##person puts the clothes on a shelf.",  # a second time, and beyond the end
    "N11GT 0.1 1.7##the person is holding a towel.",  # the only one of its video
    "YSKX3 0.0 1.0##person takes some clothes.",
    "YSKX3 0.0 1.0##a person is laughing.",  # of the same seconds
)


def write(folder: Path, length_s: float = 2.0) -> Path:
    """Both CSV files with the same four kinds of rows, the classes, the moments of the test videos, and the videos."""
    inner = folder / "Charades"
    inner.mkdir()
    (inner / "Charades_v1_classes.txt").write_text(
        "".join(f"c{number:03d} {name}\n" for number, name in enumerate(CLASSES))
    )
    for split, prefix in (("train", "T"), ("test", "")):
        rows = []
        for video, actions in ACTIONS.items():
            script = '"A person, in the kitchen, opens a door.",door;clothes,"Someone ""cooks"", then eats."'
            rows.append(f"{prefix}{video},HR43,Kitchen,6,7,Yes,{script},{actions},{length_s}\n")
            write_clip(folder / "Charades_v1_480" / f"{prefix}{video}.mp4", length_s)
        (inner / f"Charades_v1_{split}.csv").write_text(HEADER + "".join(rows))
    (folder / "charades_sta_test.txt").write_text("\n".join(MOMENTS) + "\n")
    (folder / "charades_sta_train.txt").write_text("T46GP8 0.0 0.9##a person opens a door.\n")
    return folder
