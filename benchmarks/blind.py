"""Blind adapters: trained and judged like another one, but seeing no video. What words alone are worth.

A captioner that says "a man is talking" of everything has a score, too. `train --blind` trains such a twin on the same
features; wherever the adapter is judged, its twin is judged beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from adapters.registry import save_once
from benchmarks.cell import Cell, CellFeatures, answer_samples, described_targets, train_once
from benchmarks.encoding import Watch
from benchmarks.results import Blind, write_predictions
from core_encoder.errors import InputError

if TYPE_CHECKING:
    from adapters.adapter import Adapter
    from adapters.card import AdapterInfo
    from adapters.features import FeatureDataset
    from core_encoder.features.feature_source import FeatureSource
    from tasks.sample import Sample
    from tasks.task import Task


def check_blind(kind: type[Adapter]) -> None:
    """Refuse kinds that cannot be blind.

    Raises:
        InputError: the kind has no option `blind`.
    """
    if "blind" not in {one.name for one in fields(kind.Config)}:
        raise InputError(f"blind means nothing for an adapter of kind {kind.kind!r}: it says nothing without a video")


def train_blind(
    cell: Cell,
    features: CellFeatures,
    sets: Mapping[str, FeatureDataset],
    info: AdapterInfo,
    run: Path,
    watch: Watch,
    split: str,
    restart: bool = False,
) -> Blind:
    """Train the blind twin of a cell with the first seed, judge it and save it as `NAME-blind`.

    Raises:
        InputError: the run folder holds another run.
        TrainingDiverged: the loss became NaN.
    """
    watch.note("note: training the blind twin, which sees no video")
    blind = replace(cell, name=f"{cell.name}-blind", head={**cell.head, "blind": True})
    adapter = train_once(blind, sets, info, run, cell.training.seed, watch, restart).best
    samples = features.samples[split]
    predictions = list(answer_samples(adapter, cell.task, samples, features.source, watch))
    write_predictions(run / "predictions.jsonl", predictions, described_targets(cell.task, samples))
    scores = cell.task.judge(predictions, split)
    adapter.info = replace(adapter.info, evaluations=(replace(scores, split=split, missing=()),))
    return Blind(save_once(adapter, blind.name).ref, dict(scores.values))


def judge_blind(
    info: AdapterInfo,
    task: Task,
    split: str,
    samples: Sequence[Sample],
    source: FeatureSource,
    watch: Watch,
    moved: Mapping[str, str] | None = None,
) -> Blind | None:
    """The scores of the blind twin that an adapter records; None where there is none, which is said.

    `moved` says where the parts lie now that both name and do not hold.
    """
    from adapters.registry import load_adapter

    if "blind" not in info.training:
        if task.schema.kind == "text" and not info.config.get("blind"):
            watch.note("note: no blind adapter to compare with; train with --blind to see what words alone are worth")
        return None
    ref = str(info.training["blind"])
    try:
        adapter = load_adapter(ref, moved=moved)
    except InputError as error:
        watch.note(f"note: the blind adapter {ref} to compare with is not at hand ({error})")
        return None
    predictions = list(answer_samples(adapter, task, samples, source, watch))
    return Blind(ref, dict(task.judge(predictions, split).values))
