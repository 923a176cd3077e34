"""Small H.264 files to measure on, written by another process: the floor below does not know the synthetic world."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_WRITE = """
import sys
from pretrain.world.synthetic_world import SyntheticWorld, write_video
world = SyntheticWorld(seed=0)
for index in range(int(sys.argv[2])):
    write_video(f"{sys.argv[1]}/{index:04}.mp4", world.clip(index).frames)
"""


def write_videos(folder: Path, count: int) -> list[Path]:
    """Write `count` files of 16 frames, 64 x 64 px, into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run([sys.executable, "-c", _WRITE, str(folder), str(count)], check=True)
    return sorted(folder.glob("*.mp4"))
