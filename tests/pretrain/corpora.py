"""Small corpora on disk for the tests: real H.264 clips, pictures, tables and tar shards."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from tests.videos import moving_square, write_video


def write_clips(folder: Path, count: int, broken: Sequence[int] = ()) -> list[Path]:
    """Short videos `000.mp4 ...`, each of its own colour; those numbered in `broken` hold garbage."""
    paths = []
    for number in range(count):
        path = folder / f"{number:03d}.mp4"
        if number in broken:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"not a video" * 20)
        else:
            write_video(path, moving_square(6, 32, 32, seed=number), fps=6)
        paths.append(path)
    return paths


def write_pictures(folder: Path, count: int) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number in range(count):
        path = folder / f"{number:03d}.png"
        Image.fromarray(moving_square(1, 20, 30, seed=number)[0]).save(path)
        paths.append(path)
    return paths


def write_jsonl(path: Path, rows: Sequence[Mapping[str, object]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write_tar(path: Path, members: Sequence[tuple[str, bytes]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return path


def write_manifest(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def clip_corpus(folder: Path, count: int = 12, broken: Sequence[int] = ()) -> Path:
    """A manifest of one clean tier `curated`, whose captions are the numbers of its clips."""
    names = [path.name for path in write_clips(folder / "clips", count, broken)]
    rows = [{"video": name, "caption": f"clip {number}"} for number, name in enumerate(names)]
    write_jsonl(folder / "clips" / "clips.jsonl", rows)
    text = "tiers:\n  - {name: curated, quality: clean, weight: 1, table: clips/clips.jsonl}\n"
    return write_manifest(folder / "manifest.yaml", text)


def same(one: np.ndarray, other: np.ndarray) -> bool:
    return one.shape == other.shape and bool((np.asarray(one) == np.asarray(other)).all())
