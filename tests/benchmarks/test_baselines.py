"""Baselines: trained and judged as cells are, on features of any origin, and saved nowhere."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from adapters.features import InMemoryFeatures
from adapters.kinds.linear import Linear
from adapters.registry import list_adapters
from adapters.training.training_config import TrainingConfig
from benchmarks.baselines import answer_set, baseline_scores
from benchmarks.cell import Cell
from core_encoder.clip_plan import Clip
from prismhub.progress import SILENT
from tasks.families.classification import ClassificationTask
from tasks.sample import Sample

SIZES = {"train": 24, "val": 8, "test": 12}


def cell_and_sets(told: bool) -> tuple[Cell, dict[str, InMemoryFeatures]]:
    """Two classes; the first of four numbers tells them, or nothing does."""
    samples = [
        Sample(f"{split}/{i}", Clip(f"/videos/{split}{i}.mp4"), ("ab"[i % 2],), split)
        for split, count in SIZES.items()
        for i in range(count)
    ]
    task = ClassificationTask.from_samples(samples, "letters")
    generator = torch.Generator().manual_seed(0)
    sets = {}
    for split in SIZES:
        some = task.samples(split)
        targets = torch.from_numpy(task.targets(some))
        features = torch.randn(len(some), 4, generator=generator)
        features[:, 0] = 3.0 * targets - 1.5 if told else 0.0
        sets[split] = InMemoryFeatures(features, targets, ids=[sample.id for sample in some])
    training = TrainingConfig(epochs=30, seed=4, accelerator="cpu")
    return Cell("letters", task, Linear, {}, training, [{"lr": 1e-3}, {"lr": 1e-1}]), sets


@pytest.mark.parametrize("told", [True, False])
def test_a_baseline_says_what_the_features_say(told: bool, tmp_path: Path) -> None:
    cell, sets = cell_and_sets(told)
    scores = baseline_scores(cell, sets, tmp_path, SILENT)
    assert scores.n_evaluated == scores.n_total == 12 and scores.split == "test" and scores.main_metric == "top1"
    assert scores.main.value == 1 if told else scores.main.value < 1
    assert scores.main.low is not None and scores.main.low <= scores.main.value <= scores.main.high
    assert not list_adapters()
    again = baseline_scores(cell, sets, tmp_path, SILENT)
    assert again == scores


def test_answers_do_not_depend_on_the_batch() -> None:
    cell, sets = cell_and_sets(told=True)
    from adapters.context import Context

    head = Linear.build(None, Context(4, cell.task.schema)).eval()
    whole, parts = (answer_set(head, sets["test"], size) for size in (100, 5))
    assert [one.sample_id for one in whole] == [one.sample_id for one in parts] == list(sets["test"].ids)
    for one, other in zip(whole, parts, strict=True):
        assert torch.allclose(one.scores, other.scores, atol=1e-6)
