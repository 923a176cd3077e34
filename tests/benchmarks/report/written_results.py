"""Folders of results as `prismhub bench` leaves them, written without running a model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from adapters.prediction_records import prediction_record
from adapters.predictions import ClassScores
from adapters.scores import Score
from benchmarks.report.result_folder import ReportedCell
from benchmarks.results import Cost, Provenance, Result, State
from core_encoder.clip_plan import Clip
from core_encoder.files.storage import write_text
from tasks.registry import find_benchmark
from tasks.sample import Sample
from tasks.task import Task

COST = Cost(encode_s=1.5, encoded=4, train_s=62.0, predict_s=0.5, judge_s=0.1, peak_memory_bytes=2**30, parameters=1000)
PROVENANCE = Provenance("2026-01-02T03:04:05+00:00", "0.2.0", "ab" * 20, {"python": "3.11"}, "Linux", seed=0)


def write_cell(
    folder: Path,
    task: str,
    value: float = 0.5,
    *,
    encoder: str = "nano",
    fingerprint: str = "c0ffee" * 10,
    adapter: str = "map_classifier",
    settings: str = "11111111",
    seed: int | None = 0,
    state: State = "done",
    reason: str = "",
    **changes: Any,
) -> ReportedCell:
    """Write a result of a benchmark of the catalog with a main score, and no predictions."""
    benchmark = find_benchmark(task)
    unit = "" if benchmark.metric == "cider" else "%"
    main = Score(value, value - 0.1, value + 0.1, unit)
    result = Result(
        task=task,
        suite=benchmark.suite,
        split="test",
        protocol=benchmark.protocol,
        data_digest="ab12" if state == "done" else "",
        label_names=[],
        adapter=adapter,
        encoder=encoder,
        encoder_fingerprint=fingerprint,
        main_metric=benchmark.metric,
        scores={benchmark.metric: main} if state == "done" else {},
        n_evaluated=100 if state == "done" else 0,
        n_total=100 if state == "done" else 0,
        provenance=PROVENANCE,
        state=state,
        reason=reason,
        cost=COST if state == "done" else None,
    )
    result = replace(result, **changes)
    name = f"{adapter}-{settings}" + ("" if seed is None else f"-s{seed}")
    return ReportedCell(result.write(folder / f"{encoder}-{fingerprint[:8]}" / task / f"{name}.json"), result)


def write_judged(cell: ReportedCell, task: Task, predictions: Sequence[Any], **changes: Any) -> ReportedCell:
    """Write the cell again with the scores of predictions that `task` judges, and with their file."""
    scores = task.judge(predictions, "test", num_draws=100)
    changes = {"label_names": list(task.label_names), "data_digest": task.digest("test")} | changes
    result = replace(
        cell.result, scores=dict(scores.values), n_evaluated=scores.n_evaluated, n_total=scores.n_total, **changes
    )
    result.write(cell.path)
    samples = {sample.id: sample for sample in task.samples("test")}
    known = {name: {"video": one.clip.path, **task.describe_sample(one)} for name, one in samples.items()}
    records = (prediction_record(one) | known[one.sample_id] for one in predictions)
    write_text(cell.predictions_path, "".join(json.dumps(record) + "\n" for record in records))
    return replace(cell, result=result)


def class_task(name: str, samples: Mapping[str, Sequence[str]], classes: Sequence[str], **changes: Any) -> Task:
    """A classification benchmark over samples by id with their labels; an id is its video, up to a `#`."""
    benchmark = find_benchmark(name)
    return benchmark.family(
        name=name,
        splits={
            "test": tuple(Sample(one, Clip(one.partition("#")[0]), tuple(labels)) for one, labels in samples.items())
        },
        label_names=tuple(classes),
        metrics=(benchmark.metric, *benchmark.metrics),
        main_metric=benchmark.metric,
        protocol=benchmark.protocol,
        **{**benchmark.options, **changes},
    )


def class_scores(
    scores: Mapping[str, Sequence[float]], classes: Sequence[str], multi_label: bool = False
) -> list[ClassScores]:
    """Predictions by id."""
    return [ClassScores(one, torch.tensor(row), tuple(classes), multi_label) for one, row in scores.items()]
