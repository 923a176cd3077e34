"""Floor 3: what the benchmarks are. A task offers samples and judges predictions; it never sees a model."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tasks.families.classification import ClassificationTask
    from tasks.metrics.bootstrap import bootstrap_interval
    from tasks.metrics.classification import (
        ConfusionMatrix,
        MacroAccuracy,
        MeanClassAccuracy,
        MultiLabelMAP,
        TopKAccuracy,
        average_views,
    )
    from tasks.readers.annotations import Sample, label_names, read_samples
    from tasks.splits import split_samples
    from tasks.task import Score, Scores, Task

_HOME = {
    "Sample": "readers.annotations",
    "label_names": "readers.annotations",
    "read_samples": "readers.annotations",
    "split_samples": "splits",
    "Score": "task",
    "Scores": "task",
    "Task": "task",
    "ClassificationTask": "families.classification",
    "ConfusionMatrix": "metrics.classification",
    "MacroAccuracy": "metrics.classification",
    "MeanClassAccuracy": "metrics.classification",
    "MultiLabelMAP": "metrics.classification",
    "TopKAccuracy": "metrics.classification",
    "average_views": "metrics.classification",
    "bootstrap_interval": "metrics.bootstrap",
}
__all__ = [
    "Sample",
    "read_samples",
    "split_samples",
    "label_names",
    "Task",
    "ClassificationTask",
    "Score",
    "Scores",
    "TopKAccuracy",
    "MeanClassAccuracy",
    "MacroAccuracy",
    "MultiLabelMAP",
    "ConfusionMatrix",
    "average_views",
    "bootstrap_interval",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
