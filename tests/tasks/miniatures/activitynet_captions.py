"""ActivityNet Captions in miniature: the official JSON files and whole videos."""

from __future__ import annotations

import json
from pathlib import Path

from tests.tasks.miniatures.clips import write_clip

SENTENCES = (
    ["A square is seen on the left.", " It moves to the other side.", " It stays there."],
    ["Someone lifts a weight and drops it."],
    ["Two men, in white, fence.", "One of them wins."],
)


def write(folder: Path, length_s: float = 2.0) -> Path:
    """Three videos in each of val_1 and val_2, and one in train."""
    for split, count in (("train", 1), ("val_1", 3), ("val_2", 3)):
        content = {}
        for number in range(count):
            name = f"v_-{split}{number}_QOdj"
            sentences = SENTENCES[number]
            step = length_s / len(sentences)
            spans = [[place * step, (place + 1) * step] for place in range(len(sentences))]
            content[name] = {"duration": length_s, "timestamps": spans, "sentences": sentences}
            if not (folder / "videos" / f"{name}.mp4").exists():
                write_clip(folder / "videos" / f"{name}.mp4", length_s)
        (folder / f"{split}.json").write_text(json.dumps(content))
    return folder
