"""VATEX in miniature: the three official JSON files, HGR's list of half the validation videos, and the clips."""

from __future__ import annotations

import json
from pathlib import Path

from tests.tasks.miniatures.clips import write_clip

FILES = {
    "training": "vatex_training_v1.0.json",
    "validation": "vatex_validation_v1.0.json",
    "public_test": "vatex_public_test_english_v1.1.json",
}
CAPTIONS = ("A person folds a shirt", "Someone juggles balls.", "Children, in a row, dance", "A dog runs on a beach")


def ids_of(split: str, count: int) -> list[str]:
    """Ids of films with the seconds of the clip; one begins with a hyphen and holds underscores."""
    return [f"-{split[:3]}_{number}_Vw{number}_{number:06d}_{number + 10:06d}" for number in range(count)]


def write(folder: Path, count: int = 4) -> Path:
    """So many videos a split, with ten captions each; the first half of the validation videos is HGR's test half."""
    for split, name in FILES.items():
        entries = []
        for number, video in enumerate(ids_of(split, count)):
            said = [f"{CAPTIONS[number % 4]} {place}" for place in range(9)] + [f"{CAPTIONS[number % 4]} 0"]
            chinese = {} if split == "public_test" else {"chCap": ["一个人"] * 10}
            entries.append({"videoID": video, "enCap": said} | chinese)
            write_clip(folder / "videos" / split / f"{video}.mp4")
        (folder / name).write_text(json.dumps(entries, ensure_ascii=False), encoding="utf-8")
    (folder / "test_list.txt").write_text("\n".join(ids_of("validation", count)[: count // 2]) + "\n")
    return folder
