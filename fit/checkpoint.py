"""Where a run stood, in one safetensors file that is whole or absent: tensors, and a header that says the rest."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from core_encoder.errors import InputError
from core_encoder.files.storage import check_regular

_HEADER = "about"


def header_for(about: Mapping[str, Any]) -> dict[str, str]:
    """The metadata under which `read_header` finds `about`."""
    return {_HEADER: json.dumps(about)}


def read_header(path: Path, advice: str) -> dict[str, Any]:
    """What the header of a checkpoint says of where the run stood, without reading its tensors.

    Raises:
        InputError: the file is damaged; the line ends in `advice`.
    """
    check_regular(path)
    try:
        with safe_open(str(path), framework="pt") as file:
            about: dict[str, Any] = json.loads((file.metadata() or {})[_HEADER])
            return about
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise InputError(f"{path}: not a whole checkpoint ({error}); {advice}") from error


def optimizer_tensors(module: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's state as `{"<parameter>/<key>": tensor}`, whole and on the CPU."""
    return {
        f"{name}/{key}": full_tensor(torch.as_tensor(value))
        for name, parameter in module.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def load_optimizer(module: nn.Module, optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put what `optimizer_tensors` gave back, sharded as the parameters are now.

    Raises:
        InputError: the state is of a parameter that the module does not have, or of more axes than it has.
    """
    parameters = dict(module.named_parameters())
    counts_on_device = any(group.get("fused") or group.get("capturable") for group in optimizer.param_groups)
    for place, value in tensors.items():
        name, _, key = place.rpartition("/")
        if name not in parameters:
            raise InputError(f"the checkpoint holds the state of another model ({name}); restart the run")
        parameter = parameters[name]
        if value.ndim > parameter.ndim:  # moments have its shape, or fewer axes where they are factored
            raise InputError(f"the checkpoint holds state of another shape ({place}); restart the run")
        if value.ndim or counts_on_device:
            value = value.to(parameter.device)
        optimizer.state[parameter][key] = sharded_like(value, parameter) if value.ndim else value


def full_tensor(tensor: Tensor) -> Tensor:
    """All of a tensor that may be sharded over processes, on the CPU."""
    gathered = getattr(tensor, "full_tensor", None)
    return (gathered() if gathered else tensor).detach().cpu()


def sharded_like(value: Tensor, target: Tensor) -> Tensor:
    """`value` sharded as `target` is; as it is where that is whole, or of another shape (factored moments)."""
    mesh = getattr(target, "device_mesh", None)
    if mesh is None:
        return value
    from torch.distributed.tensor import DTensor, Replicate, distribute_tensor

    assert isinstance(target, DTensor)
    placements = target.placements if value.shape == target.shape else [Replicate()] * mesh.ndim
    return distribute_tensor(value, mesh, placements)
