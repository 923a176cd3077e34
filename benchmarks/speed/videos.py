"""Small H.264 files to measure on, written by another process: the floor below does not know the synthetic world."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_WRITE = """
import sys
from pretrain.world.synthetic_world import SyntheticWorld, write_video
folder, count, size, frames = sys.argv[1], *map(int, sys.argv[2:])
world = SyntheticWorld(seed=0, size=size, num_frames=frames)
for index in range(count):
    write_video(f"{folder}/{index:04}.mp4", world.clip(index).frames)
"""


def write_videos(folder: Path, count: int, size: int = 64, frames: int = 16) -> list[Path]:
    """Write `count` files of so many frames, `size` x `size` px, into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run([sys.executable, "-c", _WRITE, str(folder), str(count), str(size), str(frames)], check=True)
    return sorted(folder.glob("*.mp4"))
