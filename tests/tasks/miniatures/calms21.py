"""CalMS21, task 1, in miniature."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.tasks.miniatures.clips import write_clip

ANNOTATIONS = {
    "train": {
        "mouse001_task1_annotator1": [3] * 4 + [0] * 6 + [1] * 8 + [3] * 2,
        "mouse002_task1_annotator1": [2] * 10 + [3] * 10,
    },
    "test": {"mouse071_task1_annotator1": [3] * 5 + [1] * 5 + [2] * 5 + [0] * 5},
}


def write(folder: Path) -> Path:
    for split, sequences in ANNOTATIONS.items():
        content: dict[str, Any] = {}
        for name, numbers in sequences.items():
            content[f"task1/{split}/{name}"] = {
                "keypoints": [[[[10.5] * 7, [20.5] * 7]] * 2] * len(numbers),
                "scores": [[[0.9] * 7] * 2] * len(numbers),
                "annotations": numbers,
                "metadata": {"fps": 30.0, "vocab": {"attack": 0, "investigation": 1, "mount": 2, "other": 3}},
            }
            write_clip(folder / "task1_videos_mp4" / split / f"{name}.mp4", len(numbers) / 30, fps=30)
        file = folder / "task1_classic_classification" / f"calms21_task1_{split}.json"
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps({"annotator-id_0": content}))
    return folder
