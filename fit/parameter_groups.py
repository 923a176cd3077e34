"""Which parameters an optimizer trains, and which of them weight decay applies to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn


def parameter_groups(
    module: nn.Module,
    weight_decay: float,
    spared: tuple[str, ...] = (),
    share: Callable[[str], float] = lambda name: 1.0,
) -> list[dict[str, Any]]:
    """The trainable parameters as groups of an optimizer: those that decay, then the others; no group is empty.

    `share` says of a parameter's name which share of the learning rate it gets; a group has one, under `share`.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            decay = weight_decay if decays(name, parameter, spared) else 0.0
            groups.setdefault((share(name), decay), []).append(parameter)
    order = sorted(groups, key=lambda key: (-key[0], -key[1]))
    return [{"params": groups[key], "weight_decay": key[1], "share": key[0]} for key in order]


def decays(name: str, parameter: torch.Tensor, spared: tuple[str, ...] = ()) -> bool:
    """Whether weight decay applies: to the weights of linear maps; not to norms, biases, positions or learned queries.

    `spared` are endings of names that do not decay either, such as those of embeddings.
    """
    return parameter.ndim > 1 and name.rpartition(".")[2] == "weight" and not name.endswith(spared)
