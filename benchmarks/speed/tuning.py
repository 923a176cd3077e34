"""What it brings to tune the encoder with the head, and what it costs: frozen, LoRA and whole, at equal epochs.

    python -m benchmarks.speed.tuning --json tuning.json

The protocol. Videos: the demo's world, 24 clips of each of eight motions to train on, 6 to choose the epoch by, 60 to
judge, shown by objects that nobody saw before. Two questions about the same videos: which motion, for which `nano` was
pretrained, and which shape. Each way of training is `prismhub train` with its defaults, the same epochs and the same
seeds; only `--tune` differs. Judged is top-1 on the test clips; the interval of a mean is over seeds and clips, that of
a difference is over the same clips' differences to the frozen head of the same seed
(`benchmarks.pretraining.intervals`).
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import prismhub
from benchmarks.pretraining.intervals import Interval, mean_over_seeds
from core_encoder.files.storage import write_json
from pretrain.world.synthetic_world import write_dataset

QUESTIONS = {"motion": "label", "shape": "shape"}  # their columns
WAYS = ("frozen", "lora", "full")
CLIPS = {"train": 24, "val": 6, "test": 60}  # of each motion


@dataclass(frozen=True)
class Row:
    """How well one way of training answers one question, in percent, and how long a training took."""

    question: str
    way: str
    top1: Interval
    more: Interval  # points more than the first way
    seconds: float

    @classmethod
    def of(cls, question: str, way: str, hits: NDArray[Any], reference: NDArray[Any], seconds: float) -> Row:
        """From hits `(seeds, clips)` of this way and of the first one."""
        more = mean_over_seeds(hits - reference).scaled(100)
        return cls(question, way, mean_over_seeds(hits).scaled(100), more, seconds)


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Top-1 of a head on a frozen, a LoRA-tuned and a whole-tuned encoder, at equal epochs.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seeds", type=int, default=2, help="trainings of each way")
    parser.add_argument("--questions", default=",".join(QUESTIONS))
    parser.add_argument("--ways", default=",".join(WAYS), help="which; the others are compared with the first one")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--json", type=Path, help="also write the result to this file")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        videos = Path(folder, "videos")
        write_dataset(videos, clips_per_class=CLIPS)
        for question in options.questions.split(","):
            reference: NDArray[Any] | None = None
            for way in options.ways.split(","):
                started = time.perf_counter()
                asked = [_hits(videos, question, way, options.epochs, seed, folder) for seed in range(options.seeds)]
                seconds = (time.perf_counter() - started) / options.seeds
                hits = np.stack(asked)
                reference = hits if reference is None else reference
                rows.append(Row.of(question, way, hits, reference, seconds))
                print(markdown(rows)[-1], flush=True)  # it takes a while: what is known is shown
    print(f"\n{options.epochs} epochs, {options.seeds} seeds, {hits.shape[1]} test clips\n")
    print("\n".join(markdown(rows)))
    if options.json is not None:
        about: Mapping[str, Any] = {**vars(options), "json": str(options.json), "clips": CLIPS}
        write_json(options.json, {"about": about, "rows": [asdict(row) for row in rows]})


def markdown(rows: Sequence[Row]) -> list[str]:
    """The lines of a Markdown table."""
    lines = ["| question | encoder | top-1, % | points more than frozen | seconds of a training |"]
    lines.append("|" + " --- |" * 5)
    for row in rows:
        more = "" if row.more.value == row.more.low == row.more.high == 0 else row.more
        lines.append(f"| {row.question} | {row.way} | {row.top1} | {more} | {row.seconds:.0f} |")
    return lines


def _hits(videos: Path, question: str, way: str, epochs: int, seed: int, home: str) -> NDArray[np.float64]:
    """1 for each test clip that an adapter trained in one way names rightly, else 0."""
    done = prismhub.train(
        data=videos,
        label_column=QUESTIONS[question],
        encoder="nano",
        name=f"tuning-{question}-{way}",
        tune=way,
        epochs=epochs,
        seed=seed,
        accelerator="cpu",
        store=Path(home, "features"),
        run=Path(home, f"{question}-{way}-{seed}"),
        quiet=True,
    )
    right = {sample.id: sample.labels[0] for sample in done.task.samples("test")}
    return np.array([float(one.label == right[one.sample_id]) for one in done.predictions])


if __name__ == "__main__":
    main()
