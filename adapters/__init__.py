"""Floor 2: heads on frozen features, their training loop, registry, saving and loading."""

from __future__ import annotations

import importlib
import importlib.metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adapters.adapter import Adapter, Loss
    from adapters.card import AdapterInfo
    from adapters.context import Context, TargetSchema
    from adapters.features import Batch, ClipFeatures, Example, FeatureDataset, InMemoryFeatures, Times
    from adapters.hub import Answers, Gate, Hub
    from adapters.lightning_adapter import FeatureDataModule, LightningAdapter
    from adapters.predictions import (
        Box,
        Boxes,
        ClassScores,
        Embedding,
        Prediction,
        Segment,
        Segments,
        Text,
        Timeline,
        Truth,
    )
    from adapters.registry import (
        adapter_kinds,
        list_adapters,
        load_adapter,
        pull,
        register_adapter,
        remove_adapter,
        save_to_registry,
    )
    from adapters.scores import Score, Scores
    from adapters.training.train_grid import TrainingResult, train
    from adapters.training.training_config import TrainingConfig, TrainingDiverged, TrainingProgress

_HOME = {
    "Adapter": "adapter",
    "Loss": "adapter",
    "AdapterInfo": "card",
    "Context": "context",
    "TargetSchema": "context",
    "Batch": "features",
    "ClipFeatures": "features",
    "Example": "features",
    "FeatureDataset": "features",
    "InMemoryFeatures": "features",
    "Times": "features",
    "Truth": "predictions",
    "Answers": "hub",
    "Gate": "hub",
    "Hub": "hub",
    "FeatureDataModule": "lightning_adapter",
    "LightningAdapter": "lightning_adapter",
    "Box": "predictions",
    "Boxes": "predictions",
    "ClassScores": "predictions",
    "Embedding": "predictions",
    "Prediction": "predictions",
    "Segment": "predictions",
    "Segments": "predictions",
    "Timeline": "predictions",
    "Text": "predictions",
    "Score": "scores",
    "Scores": "scores",
    "adapter_kinds": "registry",
    "list_adapters": "registry",
    "load_adapter": "registry",
    "pull": "registry",
    "register_adapter": "registry",
    "remove_adapter": "registry",
    "save_to_registry": "registry",
    "TrainingConfig": "training.training_config",
    "TrainingDiverged": "training.training_config",
    "TrainingProgress": "training.training_config",
    "TrainingResult": "training.train_grid",
    "train": "training.train_grid",
}
__all__ = [
    "Adapter",
    "Loss",
    "AdapterInfo",
    "Context",
    "TargetSchema",
    "Batch",
    "ClipFeatures",
    "Example",
    "FeatureDataset",
    "InMemoryFeatures",
    "Times",
    "Truth",
    "Answers",
    "Gate",
    "Hub",
    "FeatureDataModule",
    "LightningAdapter",
    "Box",
    "Boxes",
    "ClassScores",
    "Embedding",
    "Prediction",
    "Segment",
    "Segments",
    "Text",
    "Timeline",
    "Score",
    "Scores",
    "adapter_kinds",
    "list_adapters",
    "load_adapter",
    "pull",
    "register_adapter",
    "remove_adapter",
    "save_to_registry",
    "TrainingConfig",
    "TrainingDiverged",
    "TrainingProgress",
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
