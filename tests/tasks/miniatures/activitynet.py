"""ActivityNet 1.3 in miniature; its testing subset has no annotations, and no videos here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.tasks.miniatures.clips import write_clip

CLASSES = ("Archery", "Fun sliding down")
LENGTH_S = 6.0
VIDEOS = {
    "training": {
        "-1IBHYS3L-Y": [([0.5, 2.5], "Archery")],
        "HWV_ccmZVPA": [([0.0, 2.0], "Fun sliding down"), ([3.0, 5.5], "Fun sliding down")],
        "zhE9kW6BrXE": [([1.0, 4.0], "Archery")],
    },
    "validation": {
        "--0edUL8zmA": [([1.0, 3.0], "Archery"), ([3.5, 5.0], "Archery")],
        "kXDDxhi7RCo": [([2.0, 5.9], "Fun sliding down")],
    },
    "testing": {"cH6gvcf-KXo": []},
}


def write(folder: Path) -> Path:
    database: dict[str, Any] = {}
    for subset, videos in VIDEOS.items():
        for name, segments in videos.items():
            database[name] = {
                "duration": LENGTH_S,
                "subset": subset,
                "resolution": "64x64",
                "url": f"https://www.youtube.com/watch?v={name}",
                "annotations": [{"segment": segment, "label": label} for segment, label in segments],
            }
            if subset != "testing":
                write_clip(folder / "videos" / f"v_{name}.mp4", LENGTH_S)
    taxonomy = [{"nodeId": 0, "nodeName": "Root", "parentId": None, "parentName": None}]
    taxonomy += [
        {"nodeId": place, "nodeName": name, "parentId": 0, "parentName": "Root"}
        for place, name in enumerate(CLASSES, start=1)
    ]
    content = {"version": "VERSION 1.3", "database": database, "taxonomy": taxonomy}
    (folder / "activity_net.v1-3.min.json").write_text(json.dumps(content))
    return folder
