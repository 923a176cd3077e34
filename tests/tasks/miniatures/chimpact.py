"""ChimpACT in miniature, as its own tool writes it."""

from __future__ import annotations

from pathlib import Path

from tests.tasks.miniatures.clips import write_clip

CLIPS = {
    "train": "Azibo_ObsChimp_2015_06_26_b_clip_17000_18000",
    "val": "Azibo_ObsChimp_2016_03_28_d_clip_9000_10000",
    "test": "Azibo_ObsChimp_2016_06_10_a_clip_2000_3000",
}
ROWS = ("0,0.1,0.2,0.5,0.9,1,4", "0,0.1,0.2,0.5,0.9,21,4", "0,0.6,0.2,0.9,0.8,3,7", "25,0.12,0.2,0.52,0.9,20,4")


def write(folder: Path) -> Path:
    for split, clip in CLIPS.items():
        rows = "".join(f"{split}/images/{clip},{row}\n" for row in ROWS)
        (folder / f"{split}_action.csv").write_text(rows)
        write_clip(folder / "ChimpACT_release" / "videos_full" / f"{clip}.mp4", 2.0, fps=25)
    return folder
