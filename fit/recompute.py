"""Activation checkpointing: layers compute their activations again on the way back, for less memory and more time."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint


def recompute_activations(layers: Iterable[nn.Module]) -> None:
    """Switch it on for some layers, in place; names, outputs and gradients stay as they are."""
    for layer in layers:
        layer.forward = _recomputed(layer.forward)


def keep_activations(layers: Iterable[nn.Module]) -> None:
    """Switch it off again; before layers are copied, whose copies would go on calling the originals."""
    for layer in layers:
        vars(layer).pop("forward", None)


def _recomputed(forward: Callable[..., Any]) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        return checkpoint(forward, *args, use_reentrant=False, **kwargs)

    return run
