"""AVA 2.2 in miniature, cut from second 900, with SlowFast's detections; and the Kinetics part of AVA-Kinetics."""

from __future__ import annotations

from pathlib import Path

from tasks.readers.official_ava import AVA_IDS
from tests.tasks.miniatures.clips import write_clip

LENGTH_S = 5.0
ROWS = {
    "train": (
        "-5KQ66BBWC4,0902,0.077,0.151,0.283,0.811,80,1\n"
        "-5KQ66BBWC4,0902,0.077,0.151,0.283,0.811,9,1\n"
        "-5KQ66BBWC4,0903,0.085,0.150,0.300,0.820,80,1\n"
        "-5KQ66BBWC4,0903,0.500,0.100,0.900,0.900,11,2\n"
        "1j20qq1JyX4,0902,0.100,0.100,0.600,0.900,11,0\n"
        "1j20qq1JyX4,0904,0.100,0.100,0.600,0.900,2,0\n"
    ),
    "val": (
        "2FIHyVgcIXc,0902,0.100,0.200,0.500,0.900,80,0\n"
        "2FIHyVgcIXc,0902,0.600,0.200,0.900,0.900,11,1\n"
        "2FIHyVgcIXc,0903,0.100,0.200,0.500,0.900,9,0\n"
        "2FIHyVgcIXc,0904,0.100,0.200,0.500,0.900,80,0\n"
    ),
}
EXCLUDED = {"train": "", "val": "2FIHyVgcIXc,0904\n"}
DETECTED = (
    "2FIHyVgcIXc,0902,0.110,0.210,0.500,0.890,,0.994382\n"
    "2FIHyVgcIXc,0902,0.690,0.210,0.900,0.890,,0.912\n"  # two thirds of the true box
    "2FIHyVgcIXc,0902,0.100,0.200,0.300,0.700,,0.85\n"  # about a third
    "2FIHyVgcIXc,0902,0.000,0.000,0.200,0.200,,0.412\n"
    "2FIHyVgcIXc,0904,0.110,0.210,0.500,0.890,,0.97\n"
)
KINETICS = {
    "train": "_0aGkLP7aKw,15.0,0.1,0.1,0.6,0.9,11\n_0aGkLP7aKw,15.0,0.1,0.1,0.6,0.9,80\n",
    "val": "zz9TyPpr0bE,6.5,0.2,0.2,0.7,0.9,80\nyyNobody123,104.0\n",
}
CLIPS = ("_0aGkLP7aKw_000010_000020", "zz9TyPpr0bE_000004_000014", "yyNobody123_000099_000109")


def write(folder: Path) -> Path:
    items = "".join(f'item {{\n  name: "action {number}"\n  id: {number}\n}}\n' for number in AVA_IDS)
    (folder / "ava_action_list_v2.2_for_activitynet_2019.pbtxt").write_text(items)
    for split, rows in ROWS.items():
        (folder / f"ava_{split}_v2.2.csv").write_text(rows)
        (folder / f"ava_{split}_excluded_timestamps_v2.2.csv").write_text(EXCLUDED[split])
        for name in {row.split(",")[0] for row in rows.splitlines()}:
            write_clip(folder / "videos_15min" / f"{name}.mp4", LENGTH_S)
    (folder / "ava_val_predicted_boxes.csv").write_text(DETECTED)
    return folder


def write_with_kinetics(folder: Path) -> Path:
    """AVA-Kinetics, which asks about the true boxes."""
    write(folder)
    (folder / "ava_val_predicted_boxes.csv").unlink()
    for split, rows in KINETICS.items():
        (folder / f"kinetics_{split}_v1.0.csv").write_text(rows)
    for name in CLIPS:
        write_clip(folder / "kinetics700" / f"{name}.mp4", 10.0, fps=8)
    return folder
