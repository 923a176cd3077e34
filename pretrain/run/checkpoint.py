"""Checkpoints of a pretraining run: one safetensors file each, whole or absent, the newest few are kept.

A file holds the weights, the optimizer's state and, where there is one, the moving average; its header says where the
run stood. Order, masks and shuffling are functions of the step, so this is all it takes to go on exactly.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from core_encoder.errors import InputError
from core_encoder.files.storage import read_tensors, write_tensors

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
    tensors = {_WEIGHTS + name: whole(tensor) for name, tensor in module.state_dict().items()}
    for name, parameter in module.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            tensors[f"{_OPTIMIZER}{name}/{key}"] = whole(torch.as_tensor(value))
    tensors |= {_EMA + name: whole(tensor) for name, tensor in ema.items()}
    path = folder / f"checkpoint-{step:08d}.safetensors"
    if is_writer:
        write_tensors(path, tensors, {"about": json.dumps(about | {"step": step})})
        for old in checkpoints(folder)[:-keep]:
            old.unlink(missing_ok=True)
    return path


def load_checkpoint(
    path: Path, module: nn.Module, optimizer: torch.optim.Optimizer, ema: dict[str, Tensor]
) -> dict[str, Any]:
    """Bring module, optimizer and moving average to where the checkpoint stood; what its header says comes back.

    Raises:
        InputError: the file is damaged, or its tensors are not this module's.
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
    with torch.no_grad():
        for name, tensor in targets.items():
            _copy(tensors[name], tensor)
    for name, parameter in module.named_parameters():
        prefix = f"{_OPTIMIZER}{name}/"
        kept = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        if kept:
            optimizer.state[parameter] = {key: _as_state(value, parameter) for key, value in kept.items()}
    return about


def read_about(path: Path) -> dict[str, Any]:
    """The header of a checkpoint: where the run stood.

    Raises:
        InputError: the file is damaged.
    """
    try:
        with safe_open(str(path), framework="pt") as file:
            about: dict[str, Any] = json.loads((file.metadata() or {})["about"])
            return about
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise InputError(f"{path}: not a whole checkpoint ({error}); delete it to go on from an older one") from error


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in a folder, oldest first."""
    return sorted(path for path in folder.glob("checkpoint-*.safetensors") if _NAME.fullmatch(path.name))


def latest_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint in a folder, None when there is none; asides of killed writers are removed."""
    for aside in folder.glob(".checkpoint-*.tmp"):
        aside.unlink(missing_ok=True)
    return checkpoints(folder)[-1] if checkpoints(folder) else None


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor that may be sharded over processes."""
    gathered = getattr(tensor, "full_tensor", None)
    return (gathered() if gathered else tensor).detach().cpu()


def _copy(value: Tensor, target: Tensor) -> None:
    target.copy_(_shared_like(value.to(target.device, target.dtype), target))


def _as_state(value: Tensor, parameter: Tensor) -> Tensor:
    if value.ndim == 0:
        return value
    return _shared_like(value.to(parameter.device), parameter)


def _shared_like(value: Tensor, target: Tensor) -> Tensor:
    """`value` sharded as `target` is; as it is where that is whole, or of another shape (factored moments)."""
    mesh = getattr(target, "device_mesh", None)
    if mesh is None:
        return value
    from torch.distributed.tensor import DTensor, Replicate, distribute_tensor

    assert isinstance(target, DTensor)
    placements = target.placements if value.shape == target.shape else [Replicate()] * mesh.ndim
    return distribute_tensor(value, mesh, placements)
