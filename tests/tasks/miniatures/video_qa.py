"""MSRVTT-QA and MSVD-QA in miniature: the official JSON files, MSVD's mapping, and videos."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.tasks.miniatures import msr_vtt
from tests.tasks.miniatures.clips import write_clip

ASKED = (
    ("what is a person doing?", "talk"),
    ("who is talking to his family?", "man"),
    ("what does a woman hold?", "couch"),
    ("who plays a game?", "man"),
    ("how many children are there?", "two"),
    ("what is moving?", "square"),
)
CLIPS = {1: "-4wsuPCjDBc_5_15", 1200: "nH_rtjhMvJ4_17_30", 1201: "-7KMZQEsJW4_205_208"}


def write_msrvtt_qa(folder: Path) -> Path:
    """Questions about the videos of MSR-VTT's miniature."""
    msr_vtt.write(folder)
    numbers = {"train": [0, 6512], "val": [6513], "test": [7010, 7011, 9770]}
    _write_questions(folder / "MSRVTT-QA", numbers, {"category_id": 14})
    return folder


def write_msvd_qa(folder: Path) -> Path:
    """A video in each split."""
    _write_questions(folder / "MSVD-QA", {"train": [1], "val": [1200], "test": [1201]}, {})
    lines = [f"{clip} vid{number}" for number, clip in CLIPS.items()]
    (folder / "youtube_mapping.txt").write_text("\n".join(lines))
    for clip in CLIPS.values():
        write_clip(folder / "YouTubeClips" / f"{clip}.mp4")
    return folder


def _write_questions(folder: Path, numbers: dict[str, list[int]], more: dict[str, Any]) -> None:
    folder.mkdir()
    count = 0
    for split, videos in numbers.items():
        entries = []
        for video in videos:
            for question, answer in ASKED[: len(ASKED) if split == "train" else 3]:
                entries.append({"answer": answer} | more | {"id": count, "question": question, "video_id": video})
                count += 1
        if split == "test":
            entries[-1]["answer"] = "guitar"  # no answer of train or val
        (folder / f"{split}_qa.json").write_text(json.dumps(entries))
