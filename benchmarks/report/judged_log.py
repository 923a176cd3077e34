"""The predictions of a cell with what is right, and a task that judges them: no data set is needed for it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from adapters.prediction_records import read_prediction
from benchmarks.report.result_folder import ReportedCell
from benchmarks.rescoring import benchmark_of
from core_encoder.errors import InputError
from tasks.sample import Sample
from tasks.task import LazySplits, Task

SPLIT = "test"
_AGAIN = "delete {json} and run `prismhub bench` again"


@dataclass(frozen=True)
class JudgedLog:
    """Predictions, one a sample, and a task whose samples are those that they are of.

    `videos_known` is whether the lines name their videos; in older ones every sample counts as a video.
    """

    task: Task
    predictions: list[Any]
    videos_known: bool

    @property
    def samples(self) -> Mapping[str, Sample]:
        """The samples by id, in the order of the lines."""
        return {sample.id: sample for sample in self.task.samples(SPLIT)}

    def only(self, ids: Sequence[str]) -> JudgedLog:
        """The same of some samples alone, in the order of their ids."""
        samples, said = self.samples, {one.sample_id: one for one in self.predictions}
        task = replace(self.task, splits={SPLIT: tuple(samples[name] for name in ids)})
        return replace(self, task=task, predictions=[said[name] for name in ids])


def read_log(cell: ReportedCell, task: Task) -> JudgedLog:
    """The predictions of a finished cell; `task` is that of `task_of`.

    Raises:
        InputError: the file is not there, was cut or is damaged.
    """
    path = cell.predictions_path
    samples: list[Sample] = []
    predictions: list[Any] = []
    seen: set[str] = set()
    videos_known = True
    for number, record in _records(path):
        where = f"{path}: line {number}"
        videos_known = videos_known and "video" in record
        try:
            said = read_prediction(record, cell.result.label_names, task.schema.multi_label)
            samples.append(task.read_sample({"video": record["id"], **record}))
        except (InputError, KeyError, TypeError, ValueError, AttributeError) as error:
            what = f"lacks {error}" if isinstance(error, KeyError) else str(error)
            raise InputError(f"{where}: {what}; {_again(cell)}") from error
        if said.sample_id in seen:
            raise InputError(f"{where}: {said.sample_id!r} was predicted before; {_again(cell)}")
        seen.add(said.sample_id)
        predictions.append(_sharing_names(said, predictions))
    if len(predictions) != cell.result.n_evaluated:
        raise InputError(
            f"{path}: holds {len(predictions)} predictions, its result was made of {cell.result.n_evaluated}; "
            + _again(cell)
        )
    return JudgedLog(replace(task, splits={SPLIT: tuple(samples)}), predictions, videos_known)


def _records(path: Path) -> Any:
    """The lines of a file as objects, with their numbers."""
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                try:
                    record = json.loads(line)
                except ValueError as error:
                    reason = f"not JSON ({error})"
                    raise InputError(f"{path}: line {number}: {reason}; {_again_for(path)}") from error
                if not isinstance(record, dict) or not isinstance(record.get("id"), str):
                    raise InputError(f"{path}: line {number}: no prediction; {_again_for(path)}")
                yield number, record
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); {_again_for(path)}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 ({error.reason}); {_again_for(path)}") from error


def task_of(cell: ReportedCell) -> Task:
    """The task of a cell's benchmark, without samples.

    Raises:
        InputError: the benchmark is no longer known, or has another protocol by now.
    """
    result = cell.result
    benchmark = benchmark_of(result)
    task = benchmark.family(
        name=benchmark.name,
        splits=LazySplits({}),
        label_names=tuple(result.label_names),
        metrics=(benchmark.metric, *(name for name in benchmark.metrics if name != benchmark.metric)),
        main_metric=benchmark.metric,
        protocol=benchmark.protocol,
        **benchmark.options,
    )
    if (task.protocol, task.main_metric) != (result.protocol, result.main_metric):
        raise InputError(
            f"judged by {result.protocol} ({result.main_metric}), this version has {task.protocol} "
            f"({task.main_metric}); `prismhub rescore` judges it again"
        )
    return task


def _sharing_names(said: Any, before: Sequence[Any]) -> Any:
    """The prediction with the class names of the first one, where they are equal: 20,000 lines repeat them."""
    names = getattr(said, "label_names", None)
    if before and names is not None and names == before[0].label_names:
        return replace(said, label_names=before[0].label_names)
    return said


def _again(cell: ReportedCell) -> str:
    return _AGAIN.format(json=cell.path.name)


def _again_for(path: Path) -> str:
    return _AGAIN.format(json=path.name.replace(".predictions.jsonl", ".json"))
