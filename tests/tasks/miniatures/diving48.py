"""Diving48, version 2, in miniature."""

from __future__ import annotations

import json
from pathlib import Path

from tests.tasks.miniatures.clips import write_clip

VOCABULARY = (
    ["Back", "15som", "05Twis", "FREE"],
    ["Forward", "25som", "NoTwis", "PIKE"],
    ["Inward", "Dive", "NoTwis", "PIKE"],
)


def write(folder: Path) -> Path:
    """Two dives a class in train, one in test."""
    (folder / "Diving48_vocab.json").write_text(json.dumps(VOCABULARY))
    for split, count in (("train", 2), ("test", 1)):
        entries = []
        for label in range(len(VOCABULARY)):
            for place in range(count):
                name = f"d{split}SVdU_{label:02d}{place:03d}"
                entries.append({"vid_name": name, "label": label, "start_frame": 0, "end_frame": 16})
                write_clip(folder / "rgb" / f"{name}.mp4")
        (folder / f"Diving48_V2_{split}.json").write_text(json.dumps(entries))
    return folder
