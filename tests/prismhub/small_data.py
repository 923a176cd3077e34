"""Small labelled folders of real videos, and what runs on them in a second."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pretrain.world.synthetic_world import WorldClass
from pretrain.world.world_objects import WorldObject
from prismhub.cli import run
from tests.videos import moving_square, write_video

FAST = ("--encoder", "nano", "--epochs", "3", "--accelerator", "cpu", "--quiet")


def write_classes(folder: Path, per_class: int = 4, classes: tuple[str, ...] = ("dim", "bright")) -> Path:
    """Class-per-folder data: one brightness per class."""
    for k, name in enumerate(classes):
        for i in range(per_class):
            frames = (moving_square(12, 64, 64, seed=10 * k + i) * (0.3 + 0.7 * k / max(len(classes) - 1, 1))).astype(
                np.uint8
            )
            write_video(folder / name / f"{i}.mp4", frames)
    return folder


def given_splits(folder: Path) -> Path:
    """Train, val and test folders of the classes b and d."""
    for seed, split in enumerate(("train", "val", "test")):
        for k, name in enumerate("bd"):
            for i in range(3):
                frames = (moving_square(12, 64, 64, seed=100 * seed + i) * (0.3 + 0.7 * k)).astype(np.uint8)
                write_video(folder / split / name / f"{i}.mp4", frames)
    return folder


def one_object_class(name: str, motion: str) -> WorldClass:
    """A class of the synthetic world that shows one object, such as `red circle`, in every split."""
    thing = (WorldObject.parse(name),)
    return WorldClass(f"{name} {motion}", motion, {"train": thing, "val": thing, "test": thing})


def write_sound(path: Path) -> None:
    """A file with sound and no picture."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())


def read_json(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> Any:
    """Run a command with --json and read what it printed."""
    capsys.readouterr()
    assert run([*arguments, "--json"]) == code
    return json.loads(capsys.readouterr().out)
