"""Checkpoints of a pretraining run: one safetensors file each, whole or absent, the newest few are kept.

A file holds the weights, the optimizer's state and, where there is one, the moving average; its header says where the
run stood. Order, masks and shuffling are functions of the step, so this is all it takes to go on exactly.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from core_encoder.errors import InputError
from core_encoder.files.storage import check_finite, read_tensors, write_tensors
from fit.checkpoint import full_tensor, header_for, load_optimizer, optimizer_tensors, read_header, sharded_like

_NAME = re.compile(r"checkpoint-(\d{8})\.safetensors")
_WEIGHTS, _OPTIMIZER, _EMA = "weights/", "optimizer/", "ema/"


def save_checkpoint(
    folder: Path,
    step: int,
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    ema: dict[str, Tensor],
    about: dict[str, Any],
    keep: int,
    is_writer: bool = True,
) -> Path:
    """Write where a run stands after `step` steps, then remove all but the newest `keep` checkpoints.

    Every process calls it, since sharded weights are gathered; `is_writer` names the one that writes.

    Raises:
        InputError: the disk is full; older checkpoints are still there.
    """
    tensors = {_WEIGHTS + name: full_tensor(tensor) for name, tensor in module.state_dict().items()}
    tensors |= {_OPTIMIZER + name: tensor for name, tensor in optimizer_tensors(module, optimizer).items()}
    tensors |= {_EMA + name: full_tensor(tensor) for name, tensor in ema.items()}
    path = folder / f"checkpoint-{step:08d}.safetensors"
    if is_writer:
        write_tensors(path, tensors, header_for(about | {"step": step}))
        for old in checkpoints(folder)[:-keep]:
            old.unlink(missing_ok=True)
    return path


def load_checkpoint(
    path: Path, module: nn.Module, optimizer: torch.optim.Optimizer, ema: dict[str, Tensor]
) -> dict[str, Any]:
    """Bring module, optimizer and moving average to where the checkpoint stood; what its header says comes back.

    Raises:
        InputError: the file is damaged, or its tensors are not this module's, or not finite.
    """
    about = read_about(path)
    tensors = read_tensors(path)
    targets = {_WEIGHTS + name: tensor for name, tensor in module.state_dict().items()}
    targets |= {_EMA + name: tensor for name, tensor in ema.items()}
    found = {name: tensor.shape for name, tensor in tensors.items() if not name.startswith(_OPTIMIZER)}
    wanted = {name: tensor.shape for name, tensor in targets.items()}
    for name in sorted(found.keys() | wanted.keys()):
        if found.get(name) != wanted.get(name):
            raise InputError(f"{path}: holds another model's weights ({name}); restart the run")
    check_finite({name: tensors[name] for name in targets}, path)
    with torch.no_grad():
        for name, tensor in targets.items():
            tensor.copy_(sharded_like(tensors[name].to(tensor.device, tensor.dtype), tensor))
    state = {key.removeprefix(_OPTIMIZER): value for key, value in tensors.items() if key.startswith(_OPTIMIZER)}
    load_optimizer(module, optimizer, state)
    return about


def read_about(path: Path) -> dict[str, Any]:
    """The header of a checkpoint: where the run stood.

    Raises:
        InputError: the file is damaged.
    """
    return read_header(path, "delete it to go on from an older one")


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in a folder, oldest first."""
    return sorted(path for path in folder.glob("checkpoint-*.safetensors") if _NAME.fullmatch(path.name))


def latest_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint in a folder, None when there is none; asides of killed writers are removed."""
    for aside in folder.glob(".checkpoint-*.tmp"):
        aside.unlink(missing_ok=True)
    return checkpoints(folder)[-1] if checkpoints(folder) else None
