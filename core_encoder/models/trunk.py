"""The part of a model that makes its tokens, as tuning sees it: which layers there are, and in which order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from core_encoder.errors import InputError

_FIRST = ("embed", "position", "patch", "cls_token", "register", "mask_token")  # in names of what comes before layers


@dataclass(frozen=True)
class Trunk:
    """What tuning needs to know of a model.

    `root` is the model of `transformers` where there is one inside: PEFT's files call things by their names below it.
    `module` makes the tokens, and nothing else of the model trains. `layers` are its transformer layers, first to last.
    `theirs` says what `transformers` calls a map of a model of ours; one of several names is these maps in one, their
    rows in this order. `once` says that a forward pass runs each layer exactly once, whatever the clips are like: then
    processes can gather the weights of one layer after the other.
    """

    root: nn.Module
    module: nn.Module
    layers: tuple[nn.Module, ...]
    theirs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    once: bool = False

    def names_of(self, name: str) -> tuple[str, ...]:
        """What a linear map is called in a model of `transformers`."""
        return self.theirs.get(name, (name,))

    def linear_maps(self, attention: bool = True, mlp: bool = True) -> dict[str, nn.Linear]:
        """The linear maps of the layers by their names below `root`: those of attention, those of MLPs, or both."""
        inside = {id(module) for layer in self.layers for module in layer.modules()}
        found = {name: one for name, one in self.root.named_modules() if id(one) in inside}
        return {
            name: one
            for name, one in found.items()
            if isinstance(one, nn.Linear) and (attention if _is_attention(name) else mlp)
        }

    def depths(self) -> dict[int, int]:
        """For the id of each parameter of `module` how deep it lies: 0 before the layers, then 1, 2, ..., last behind.

        Norms between and behind the layers count as behind.
        """
        within = {
            id(parameter): depth for depth, layer in enumerate(self.layers, start=1) for parameter in layer.parameters()
        }
        return {
            id(parameter): within.get(id(parameter), 0 if _comes_first(name) else len(self.layers) + 1)
            for name, parameter in self.module.named_parameters()
        }


def trunk_of(model: Any, name: str) -> Trunk:
    """The trunk of a model; `name` is what its encoder is called.

    Raises:
        InputError: the model does not say, as one of another package that does not offer it.
    """
    if not hasattr(model, "trunk"):
        raise InputError(f"encoder {name!r} cannot be tuned: its {type(model).__name__} does not say what its trunk is")
    trunk: Trunk = model.trunk()
    return trunk


def _is_attention(name: str) -> bool:
    return "attn" in name or "attention" in name or name.rpartition(".")[2] in ("qkv", "out")


def _comes_first(name: str) -> bool:
    return "norm" not in name and any(part in name for part in _FIRST)
