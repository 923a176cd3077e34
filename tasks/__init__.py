"""Floor 3: what the benchmarks are. A task offers samples and judges predictions; it never sees a model."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tasks.benchmark import Benchmark
    from tasks.families.classification import ClassificationTask
    from tasks.metrics.bootstrap import bootstrap_interval
    from tasks.metrics.class_statistics import average_views
    from tasks.metrics.classification import (
        ConfusionMatrix,
        MacroAccuracy,
        MeanClassAccuracy,
        MultiLabelMAP,
        SampleMetric,
        TopKAccuracy,
    )
    from tasks.readers.annotations import label_names, read_samples
    from tasks.readers.dataset_folder import DatasetFolder
    from tasks.registry import benchmark_names, find_benchmark, register_benchmark
    from tasks.sample import Sample
    from tasks.splits import split_samples
    from tasks.task import LazySplits, Task

_HOME = {
    "Sample": "sample",
    "label_names": "readers.annotations",
    "read_samples": "readers.annotations",
    "split_samples": "splits",
    "Task": "task",
    "LazySplits": "task",
    "Benchmark": "benchmark",
    "DatasetFolder": "readers.dataset_folder",
    "benchmark_names": "registry",
    "find_benchmark": "registry",
    "register_benchmark": "registry",
    "ClassificationTask": "families.classification",
    "ConfusionMatrix": "metrics.classification",
    "MacroAccuracy": "metrics.classification",
    "MeanClassAccuracy": "metrics.classification",
    "MultiLabelMAP": "metrics.classification",
    "SampleMetric": "metrics.classification",
    "TopKAccuracy": "metrics.classification",
    "average_views": "metrics.class_statistics",
    "bootstrap_interval": "metrics.bootstrap",
}
__all__ = [
    "Sample",
    "label_names",
    "read_samples",
    "split_samples",
    "Task",
    "LazySplits",
    "Benchmark",
    "DatasetFolder",
    "benchmark_names",
    "find_benchmark",
    "register_benchmark",
    "ClassificationTask",
    "ConfusionMatrix",
    "MacroAccuracy",
    "MeanClassAccuracy",
    "MultiLabelMAP",
    "SampleMetric",
    "TopKAccuracy",
    "average_views",
    "bootstrap_interval",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
