"""CRIM13 in miniature: one text for two videos."""

from __future__ import annotations

from pathlib import Path

from tests.tasks.miniatures.clips import write_clip

TEXT = """Caltech Behavior Annotator - Annotation File

Configuration file:
other\to
attack\ta
sniff\ts

S1:    start    end     type
-----------------------------
       1     20     other
      21     36     {first}
      37     64     {second}

"""
PAIRS = {
    "train": {"012609_A29_Block5_BCma1": ("attack", "sniff"), "012609_A29_Block6_BCfe1": ("sniff", "other")},
    "test": {"030609_A29_Block12_BCfe1": ("sniff", "attack")},
}


def write(folder: Path) -> Path:
    for split, pairs in PAIRS.items():
        for name, (first, second) in pairs.items():
            for view in ("side", "top"):
                write_clip(folder / split / f"{name}_{view}.mp4", 64 / 25, fps=25)
            (folder / split / f"{name}.txt").write_text(TEXT.format(first=first, second=second))
    return folder
