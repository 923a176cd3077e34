"""Kinetics in miniature: the official CSV files, and clips in folders by split and class."""

from __future__ import annotations

from pathlib import Path

from tests.tasks.miniatures.clips import write_clip

CLASSES = ("abseiling", "massaging person's head", "tai chi")
HEADER = "label,youtube_id,time_start,time_end,split\n"


def write(folder: Path, classes: tuple[str, ...] = CLASSES, train: int = 2, val: int = 1, test: int = 0) -> Path:
    """So many videos a class in train, val and test, no file where none; one id begins with a hyphen, as many do."""
    for split, written, count in (("train", "train", train), ("val", "validate", val), ("test", "test", test)):
        rows: list[str] = []
        if not count:
            continue
        for number, label in enumerate(classes):
            for place in range(count):
                film, start = f"-{split}_{number}{place}xy", 7 * place + 1
                rows.append(f'"{label}",{film},{start},{start + 10},{written}\n')
                name = f"{film}_{start:06d}_{start + 10:06d}.mp4"
                write_clip(folder / split / label.replace(" ", "_") / name)
        (folder / f"{written}.csv").write_text(HEADER + "".join(rows))
    return folder
