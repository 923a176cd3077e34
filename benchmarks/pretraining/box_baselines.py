"""What a head on boxes is worth: beside it the same head on random weights, and the best constant answer.

    python -m benchmarks.pretraining.box_baselines --world actors/

writes the videos of two actors (`pretrain.world.actor_videos`) unless they are there, trains `spatiotemporal_localizer`
on the encoder and on its architecture with fresh weights, with the same options, and prints the frame mAP of the test
split, over all classes and over those of each group. The settings are those of `prismhub train` with the defaults, but
for what `OPTIONS` says.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.baselines import answer_set
from benchmarks.cell import SPLITS, Cell, cell_features, data_sets, train_once
from benchmarks.encoding import Reading, Watch
from tasks.families.spatiotemporal import SpatiotemporalTask
from tasks.readers.boxes import BoxSample

if TYPE_CHECKING:
    from adapters.boxes import BoxScores
    from adapters.training.training_config import TrainingConfig
    from core_encoder.encoder import Encoder

OPTIONS = {"dropout": 0.1}
BATCH_SIZE = 8


def constant_answers(task: SpatiotemporalTask, split: str) -> list[BoxScores]:
    """The best answer that looks at nothing: every box gets each class by its share among the boxes of train."""
    import torch

    from adapters.boxes import BoxScores

    counts = dict.fromkeys(task.label_names, 0)
    boxes = 0
    for sample in _moments(task, "train"):
        boxes += len(sample.people)
        for box in sample.actors:
            counts[box.label] += 1
    shares = torch.tensor([counts[name] / boxes for name in task.label_names])
    answers = []
    for sample in _moments(task, split):
        corners = tuple(track.at([sample.time_s])[0].tolist() for track in sample.asked)
        rows = len(corners)
        answers.append(
            BoxScores(
                sample.id,
                (sample.time_s,) * rows,
                ((sample.clip.start_s, sample.clip.end_s or sample.clip.start_s),) * rows,
                tuple((box[0], box[1], box[2], box[3]) for box in corners),
                tuple(track.id for track in sample.asked),
                shares.repeat(rows, 1),
                task.label_names,
                multi_label=True,
            )
        )
    return answers


def head_answers(
    task: SpatiotemporalTask, encoder: Encoder, training: TrainingConfig, store: Path, run: Path, watch: Watch
) -> list[BoxScores]:
    """What the head says of the test split after training on the features of an encoder; it is not saved."""
    from adapters.card import AdapterInfo
    from adapters.kinds.spatiotemporal_localizer import SpatiotemporalLocalizer
    from core_encoder.extraction import spec_for

    head = {**OPTIONS, **SpatiotemporalLocalizer.options_for(task.schema)}
    cell = Cell("boxes", task, SpatiotemporalLocalizer, head, training)
    cell.check()
    features = cell_features(task, SPLITS, encoder, spec_for(encoder, kind="tokens"), Reading(store), watch)
    sets = data_sets(cell, features)
    info = AdapterInfo(features=features.spec)
    best = train_once(cell, sets, info, run / features.spec.fingerprint[:12], training.seed, watch).best
    return answer_set(best, sets["test"])  # type: ignore[return-value]


def group_scores(
    task: SpatiotemporalTask, answers: Sequence[BoxScores], groups: Mapping[str, Sequence[str]]
) -> dict[str, str]:
    """The frame mAP with its interval over all classes, and over those of each group."""
    found = {"all": str(task.judge(answers, "test").main)}
    for name, labels in groups.items():
        splits = {
            split: tuple(
                replace(sample, actors=tuple(box for box in sample.actors if box.label in labels))
                for sample in _moments(task, split)
            )
            for split in task.splits
        }
        part = replace(task, splits=splits, label_names=tuple(labels))
        found[name] = str(part.judge([only(answer, labels) for answer in answers], "test").main)
    return found


def only(answer: BoxScores, labels: Sequence[str]) -> BoxScores:
    """An answer about some of its classes alone."""
    columns = [answer.label_names.index(label) for label in labels]
    return replace(answer, scores=answer.scores[:, columns], label_names=tuple(labels))


def main() -> None:
    """Print a table, a row an answerer."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--world", type=Path, required=True, help="folder of the videos; written unless it is there")
    parser.add_argument("--encoder", default="nano")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()

    from adapters.training.training_config import TrainingConfig
    from benchmarks.pretraining.world_probes import random_encoder
    from core_encoder import load_encoder
    from core_encoder.files.storage import prismhub_home
    from pretrain.world.actor_videos import ACTOR_MOTIONS, label_names, write_actor_videos
    from pretrain.world.drawing import COLOURS, TEXTURES

    world = given.world
    if not (world / "labels.pbtxt").exists():
        write_actor_videos(world, seed=given.seed)
    files = {split: world / f"ava_{split}.csv" for split in ("val", "test")}
    labels = world / "labels.pbtxt"
    samples = SpatiotemporalTask.read_samples(world / "ava_train.csv", videos=world / "clips", labels=labels, **files)
    task = SpatiotemporalTask.from_samples(samples, "actors")
    assert task.label_names == label_names()
    encoder = load_encoder(given.encoder)
    training = TrainingConfig(epochs=given.epochs, batch_size=BATCH_SIZE, seed=given.seed, accelerator="cpu")
    store, run = prismhub_home() / "features", prismhub_home() / "runs" / f"box-baselines-{given.epochs}-{given.seed}"
    untrained = random_encoder(encoder.model.config, given.seed)
    rows = {
        encoder.name: head_answers(task, encoder, training, store, run, _Aloud()),
        "random weights": head_answers(task, untrained, training, store, run, _Aloud()),
        "constant": constant_answers(task, "test"),
    }
    groups = {"motion": ACTOR_MOTIONS, "colour": tuple(COLOURS), "texture": tuple(TEXTURES)}
    for name, answers in rows.items():
        scores = group_scores(task, answers, groups)
        print(f"{name:16}", "   ".join(f"{group} {score}" for group, score in scores.items()))


class _Aloud:
    """Notes are printed; progress is not shown."""

    def note(self, text: str) -> None:
        print(text, flush=True)

    def bar(self, what: str, in_seconds: bool = False) -> AbstractContextManager[_Unseen]:
        return nullcontext(_Unseen())


class _Unseen:
    def update(self, done: float, total: float | None, note: str = "") -> None:
        """Show nothing."""


def _moments(task: SpatiotemporalTask, split: str) -> list[BoxSample]:
    return [sample for sample in task.samples(split) if isinstance(sample, BoxSample)]


if __name__ == "__main__":
    main()
