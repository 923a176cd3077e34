"""Which parameters an optimizer trains, and which of them weight decay applies to."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


def parameter_groups(module: nn.Module, weight_decay: float, spared: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    """The trainable parameters as groups of an optimizer: those that decay, then the others; no group is empty."""
    decayed: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            (decayed if decays(name, parameter, spared) else others).append(parameter)
    groups = ((decayed, weight_decay), (others, 0.0))
    return [{"params": parameters, "weight_decay": decay} for parameters, decay in groups if parameters]


def decays(name: str, parameter: torch.Tensor, spared: tuple[str, ...] = ()) -> bool:
    """Whether weight decay applies: to the weights of linear maps; not to norms, biases, positions or learned queries.

    `spared` are endings of names that do not decay either, such as those of embeddings.
    """
    return parameter.ndim > 1 and name.rpartition(".")[2] == "weight" and not name.endswith(spared)
