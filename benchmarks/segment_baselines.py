"""What `temporal_localizer` is worth on videos with segments: beside it the best constant answer, and random weights.

    python -m benchmarks.segment_baselines --data events/activity_net.json --encoder nano --epochs 30

All three are judged on the test split. The constant answer is the same for every video: each class everywhere, in
segments of one length, one after another at one step; length and step are the best on train. Random weights are the
encoder's architecture with fresh ones, under the same head, trained as long.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from adapters.predictions import Segment, Segments
from core_encoder.files.storage import write_json
from tasks.metrics.temporal_detection import score_named
from tasks.sample import SegmentSample

if TYPE_CHECKING:
    from adapters.scores import Scores
    from core_encoder.encoder import Encoder
    from tasks.task import Task

STEPS = (0.5, 1.0)  # of the length, from one segment to the next


def constant_answers(task: Task, lengths_s: Mapping[str, float]) -> list[Segments]:
    """The best constant answer of train, given for every test video; `lengths_s` are seconds by sample id."""
    train = [one for one in task.samples("train") if isinstance(one, SegmentSample)]
    found = [one for sample in train for one in sample.timeline]
    classes = [label for label, _ in Counter(one.label for one in found).most_common()]
    seconds = np.quantile([one.end_s - one.start_s for one in found], np.linspace(0.1, 0.9, 9))
    settings = list(itertools.product(seconds.tolist(), STEPS))

    def answers(samples: Sequence[Any], length_s: float, step: float) -> list[Segments]:
        return [tiled(one.id, lengths_s[one.id], classes, length_s, step * length_s) for one in samples]

    truths = [one.timeline for one in train]
    best = max(settings, key=lambda setting: score_named("map", answers(train, *setting), truths))
    return answers(task.samples("test"), *best)


def tiled(name: str, end_s: float, classes: Sequence[str], length_s: float, step_s: float) -> Segments:
    """Every class everywhere; the more frequent a class and the nearer to the middle, the surer."""
    starts = np.arange(0.0, max(end_s - length_s / 2, step_s), step_s)
    rows = []
    for place, label in enumerate(classes):
        for start in starts.tolist():
            away = abs(start + length_s / 2 - end_s / 2) / max(end_s, 1e-6)
            rows.append(Segment(start, min(start + length_s, end_s), label, 1 / (2 + place + away)))
    return Segments(name, tuple(sorted(rows, key=lambda one: -one.score)))


def head_scores(
    task: Task, encoder: Encoder, name: str, options: argparse.Namespace
) -> tuple[Scores, dict[str, float]]:
    """The head trained on an encoder's features, judged on test, and the seconds of every video."""
    from adapters.registry import adapter_kind
    from adapters.training.training_config import TrainingConfig
    from benchmarks.baselines import baseline_scores
    from benchmarks.cell import SPLITS, Cell, cell_features, data_sets
    from benchmarks.encoding import Reading
    from core_encoder.clip_plan import ClipPlan
    from core_encoder.extraction import spec_for

    kind = adapter_kind("temporal_localizer")
    plan = ClipPlan(encoder.num_frames, "dense", fps=options.fps, window_stride=options.window_stride)
    spec = spec_for(encoder, plan, kind=options.kind)
    training = TrainingConfig(epochs=options.epochs, lr=options.lr, seed=options.seed, accelerator=options.accelerator)
    head = {"reads": options.kind} | dict(word.split("=", 1) for word in options.head)
    cell = Cell(name, task, kind, head, training)
    features = cell_features(task, SPLITS, encoder, spec, Reading(options.out / "features"), _Silent())
    sets = data_sets(cell, features)
    lengths = {
        one: float(part[place].times.span.max())  # type: ignore[union-attr]
        for part in sets.values()
        for place, one in enumerate(part.ids)
    }
    return baseline_scores(cell, sets, options.out / "runs" / f"{name}-{options.kind}", _Silent()), lengths


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a table of the three, and write it as JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--videos", type=Path)
    parser.add_argument("--encoder", default="nano")
    parser.add_argument("--kind", choices=("clip", "frames", "embedding"), default="clip")
    parser.add_argument("--fps", type=float, default=8.0)
    parser.add_argument("--window-stride", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--head", nargs="*", default=(), help="options of the head, key=value")
    parser.add_argument("--accelerator", default="cpu")
    parser.add_argument("--out", type=Path, default=Path("segment_baselines"), help="folder of features and runs")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)

    from benchmarks.pretraining.world_probes import random_encoder
    from core_encoder.encoder import load_encoder
    from tasks.own_data import read_task

    columns = {"videos": options.videos} if options.videos else {}
    given: dict[str, Any] = {"val_fraction": 0.15, "test_fraction": 0.15, "seed": options.seed, "columns": columns}
    task = read_task(options.data, "segments", **given)
    encoder = load_encoder(options.encoder)
    rows: dict[str, Scores] = {}

    def tell(name: str, scores: Scores) -> None:
        rows[name] = scores
        sys.stdout.write(f"{name:16} {scores}\n")
        sys.stdout.flush()

    scores, lengths = head_scores(task, encoder, "encoder", options)
    tell("the encoder", scores)
    tell("constant answer", task.judge(constant_answers(task, lengths), "test"))
    untrained = random_encoder(encoder.model.config, options.seed)
    tell("random weights", head_scores(task, untrained, "random", options)[0])
    if options.json:
        write_json(
            options.json,
            {name: {key: asdict(one) for key, one in found.values.items()} for name, found in rows.items()},
        )


class _Silent:
    """A watch that says nothing."""

    def note(self, text: str) -> None: ...

    @contextmanager
    def bar(self, what: str, in_seconds: bool = False) -> Iterator[_Silent]:
        yield self

    def update(self, done: float, total: float | None, note: str = "") -> None: ...


if __name__ == "__main__":
    main()
