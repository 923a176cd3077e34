"""The device of one process: Lightning's words, and the same training as under Lightning's Fabric."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from lightning.fabric import Fabric
from torch import Tensor

from adapters.context import Context
from adapters.kinds.map_classifier import MapClassifier
from adapters.training.grid import resolve_settings
from adapters.training.training_config import TrainingConfig
from adapters.training.training_loop import CHECKPOINT_FILE, TrainingRun
from core_encoder.errors import InputError
from core_encoder.files.storage import read_tensors
from fit.device import OneDevice, find_device
from fit.launch import work_here
from tests.adapters.toy import DIM, LABELS, toy_features

Precision = Literal["32-true", "bf16-mixed"]


def trained(folder: Path, fabric: Any, precision: Precision) -> dict[str, Tensor]:
    """Everything that a short run leaves in its checkpoint."""
    config = TrainingConfig(epochs=3, batch_size=8, accelerator="cpu", precision=precision, accumulate=2)
    settings = resolve_settings(MapClassifier, {"dropout": 0.2}, config, [{"lr": 3e-3}, {"clip_grad_norm": 0.1}])
    context = Context.of_classes(DIM, LABELS)
    sets = toy_features(27), toy_features(9, seed=1)
    run = TrainingRun(MapClassifier, settings, context, config, *sets, None, folder)
    work_here(fabric, run, lambda now: None)
    return read_tensors(folder / CHECKPOINT_FILE)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_it_trains_as_fabric_does(precision: Precision, tmp_path: Path) -> None:
    ours = trained(tmp_path / "ours", OneDevice("cpu", precision), precision)
    fabric = Fabric(accelerator="cpu", devices=1, precision=precision)
    fabric.launch()
    theirs = trained(tmp_path / "theirs", fabric, precision)
    assert ours.keys() == theirs.keys() and any(name.startswith("optimizer/") or "/optimizer/" in name for name in ours)
    for name, tensor in ours.items():
        assert torch.equal(tensor, theirs[name]), name


def test_words_for_devices() -> None:
    assert find_device("cpu") == "cpu"
    assert find_device("auto") in ("cpu", "cuda", "mps")
    with pytest.raises(InputError, match="accelerator 'gpux' is unknown; did you mean 'gpu'?"):
        find_device("gpux")
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="accelerator 'gpu' is not in this machine; take auto, or cpu"):
            OneDevice("gpu", "32-true")
