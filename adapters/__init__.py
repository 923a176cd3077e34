"""Floor 2: heads on frozen features, their training loop, registry, saving and loading."""

from __future__ import annotations

import importlib
import importlib.metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adapters.adapter import Adapter
    from adapters.card import AdapterInfo, MetricValue
    from adapters.features import Batch, ClipFeatures, FeatureDataset, InMemoryFeatures, Sample
    from adapters.predictions import ClassScores
    from adapters.registry import (
        adapter_kinds,
        list_adapters,
        load_adapter,
        pull,
        register_adapter,
        remove_adapter,
        save_to_registry,
    )
    from adapters.training.train_grid import TrainingResult, train
    from adapters.training.training_config import Progress, TrainingConfig, TrainingDiverged

_HOME = {
    "Adapter": "adapter",
    "AdapterInfo": "card",
    "MetricValue": "card",
    "Batch": "features",
    "ClipFeatures": "features",
    "FeatureDataset": "features",
    "InMemoryFeatures": "features",
    "Sample": "features",
    "ClassScores": "predictions",
    "adapter_kinds": "registry",
    "list_adapters": "registry",
    "load_adapter": "registry",
    "pull": "registry",
    "register_adapter": "registry",
    "remove_adapter": "registry",
    "save_to_registry": "registry",
    "Progress": "training.training_config",
    "TrainingConfig": "training.training_config",
    "TrainingDiverged": "training.training_config",
    "TrainingResult": "training.train_grid",
    "train": "training.train_grid",
}
__all__ = [
    "Adapter",
    "AdapterInfo",
    "MetricValue",
    "ClassScores",
    "adapter_kinds",
    "list_adapters",
    "load_adapter",
    "save_to_registry",
    "remove_adapter",
    "pull",
    "register_adapter",
    "Batch",
    "ClipFeatures",
    "FeatureDataset",
    "InMemoryFeatures",
    "Sample",
    "Progress",
    "TrainingConfig",
    "TrainingDiverged",
    "TrainingResult",
    "train",
]


def _refuse_mixed_installation() -> None:
    """AdapterHub's library on PyPI is also imported as `adapters`; in one folder the two would shadow each other."""
    try:
        other = importlib.metadata.distribution("adapters")
    except importlib.metadata.PackageNotFoundError:
        return
    raise ImportError(
        f"prismhub's package 'adapters' and the library 'adapters' {other.version} (AdapterHub) are installed in one "
        "environment and hide each other: uninstall that one or give prismhub an environment of its own"
    )


_refuse_mixed_installation()


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
