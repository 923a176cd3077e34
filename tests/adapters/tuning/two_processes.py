"""What test_sharded_training.py has torchrun do in two processes: trainings with whole and with sharded weights."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[3]))

import torch

from adapters.card import AdapterInfo
from adapters.context import TargetSchema
from adapters.training.train_grid import TrainingResult, train
from adapters.training.training_config import TrainingConfig, TrainingProgress
from core_encoder.clip_plan import Clip
from core_encoder.encoder import load_encoder
from core_encoder.extraction import ClipPlan, spec_for
from tests.adapters.tuning.frames import NAMES, features_of, frames_of, tuning_on

CLIPS = {"train": 7, "val": 5}  # a step an epoch
WAYS: dict[str, dict[str, Any]] = {
    "full": {"tune": "full", "encoder_lr": 1.0, "recompute": True, "augment": ("crop", "flip")},
    "lora": {"tune": "lora", "lora_rank": 2, "augment": ("crop", "mixup")},
    "padded": {"tune": "full", "encoder_lr": 1.0, "augment": ("flip",)},  # layers run once for each number of frames
}


def tuned(folder: Path, name: str, way: str, strategy: str, devices: int = 2, **options: Any) -> TrainingResult:
    """Train in `folder/name`, or go on there; batches of seven are shared by two as four and three, in parts."""
    source = str(folder / "videomae") if way == "padded" else "nano"
    encoder = load_encoder(source)
    spec = spec_for(encoder, ClipPlan(4, sampling="fps", fps=16), kind="tokens")
    augment = WAYS[way]["augment"]
    sets = []
    for split, count in CLIPS.items():
        clips = [
            Clip(str(folder / split / f"{i}.mp4"), 0.0, 0.1 if way == "padded" and i < 3 else None)
            for i in range(count)
        ]
        sets.append(frames_of(features_of(clips, encoder, spec, folder / "store"), spec, *augment))
    how: dict[str, Any] = {"epochs": 2, "batch_size": 7, "lr": 1e-3, "accumulate": 4, "clip_grad_norm": 0.5}
    how |= {"accelerator": "cpu", "devices": devices, "checkpoint_every_s": options.pop("checkpoint_every_s", 1e9)}
    return train(
        "map_classifier",
        *sets,
        targets=TargetSchema("classes", NAMES),
        head={"hidden": 24, "dropout": 0.0},
        config=TrainingConfig(**how),
        run_dir=folder / name,
        info=AdapterInfo(features=spec, encoder_source=source),
        tuning=tuning_on(spec, source, strategy=strategy, **WAYS[way]),
        **options,
    )


def main(folder: Path) -> None:
    """Train every way with either strategy, and stop one with sharded weights in the middle, which then goes on."""
    for way in WAYS:
        for strategy in ("ddp", "fsdp"):
            tuned(folder, f"{way}-{strategy}", way, strategy)

    def interrupt(now: TrainingProgress) -> None:
        if (now.step, now.phase) == (1, "train"):
            os.kill(os.getpid(), signal.SIGINT)

    try:
        tuned(folder, "stopped", "full", "fsdp", progress=interrupt, checkpoint_every_s=0.0)
    except KeyboardInterrupt:
        if os.environ["RANK"] == "0":
            shutil.copytree(folder / "stopped", folder / "with-one")
        torch.distributed.barrier()
    tuned(folder, "stopped", "full", "fsdp")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
