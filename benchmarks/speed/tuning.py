"""What it brings to tune the encoder with the head, and what it costs: frozen, LoRA and whole, at equal epochs.

    python -m benchmarks.speed.tuning --json tuning.json

The protocol, written down before the first run. Videos: the demo's world, eight motions that no frame gives away, 24
clips of each to train on, 6 to choose the epoch by, 60 to judge, shown by objects that nobody saw before. Encoder:
`nano`. Each way of training is `prismhub train` with its defaults, the same epochs and the same seeds; only `--tune`
differs. Judged is top-1 on the test clips; the interval of a mean is over seeds and clips, that of a difference is
over the same clips' differences to the frozen head of the same seed (`benchmarks.pretraining.intervals`).
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

import prismhub
from benchmarks.pretraining.intervals import Interval, mean_over_seeds
from core_encoder.files.storage import write_json
from pretrain.world.synthetic_world import write_dataset

WAYS = ("frozen", "lora", "full")
CLIPS = {"train": 24, "val": 6, "test": 60}  # of each class


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Top-1 of a head on a frozen, a LoRA-tuned and a whole-tuned encoder, at equal epochs.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--epochs", type=int, default=24)
    parser.add_argument("--seeds", type=int, default=2, help="trainings of each way")
    parser.add_argument("--ways", default=",".join(WAYS), help="which, the first one is what others are compared with")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--json", type=Path, help="also write the result to this file")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        videos = Path(folder, "videos")
        write_dataset(videos, clips_per_class=CLIPS)
        ways = options.ways.split(",")
        hits: dict[str, NDArray[np.float64]] = {}
        seconds: dict[str, float] = {}
        for way in ways:
            started = time.perf_counter()
            hits[way] = np.stack(
                [_hits(videos, way, options.epochs, seed, Path(folder)) for seed in range(options.seeds)]
            )
            seconds[way] = (time.perf_counter() - started) / options.seeds
    about = {"epochs": options.epochs, "seeds": options.seeds, "threads": options.threads, "clips a class": CLIPS}
    table = {way: row_of(hits[way], hits[ways[0]]) for way in ways}
    print(f"{options.epochs} epochs, {options.seeds} seeds, {hits[ways[0]].shape[1]} test clips\n")
    print("\n".join(markdown(table, seconds)))
    if options.json is not None:
        rows = {
            way: {"top1": asdict(top1), "more": asdict(more), "seconds": seconds[way]}
            for way, (top1, more) in table.items()
        }
        write_json(options.json, {"about": about, "ways": rows})


def row_of(hits: NDArray[np.float64], reference: NDArray[np.float64]) -> tuple[Interval, Interval]:
    """Top-1 in percent of hits `(seeds, clips)`, and the points more than those of `reference`."""
    return mean_over_seeds(hits).scaled(100), mean_over_seeds(hits - reference).scaled(100)


def markdown(table: dict[str, tuple[Interval, Interval]], seconds: dict[str, float]) -> Sequence[str]:
    """The lines of a Markdown table, the first way being what the others are compared with."""
    first = next(iter(table))
    lines = [f"| encoder | top-1, % | points more than {first} | seconds of a training |", "| --- | --- | --- | --- |"]
    for way, (top1, more) in table.items():
        lines.append(f"| {way} | {top1} | {'' if way == first else more} | {seconds[way]:.0f} |")
    return lines


def _hits(videos: Path, way: str, epochs: int, seed: int, home: Path) -> NDArray[np.float64]:
    """1 for each test clip that an adapter trained in one way names rightly, else 0."""
    done = prismhub.train(
        data=videos,
        encoder="nano",
        name=f"tuning-{way}",
        tune=way,
        epochs=epochs,
        seed=seed,
        accelerator="cpu",
        store=home / "features",
        run=home / f"{way}-{seed}",
        quiet=True,
    )
    right = {sample.id: sample.labels[0] for sample in done.task.samples("test")}
    return np.array([float(one.label == right[one.sample_id]) for one in done.predictions])


if __name__ == "__main__":
    main()
