"""Adafactor on parameters that FSDP2 has sharded: the rule of `torch.optim.Adafactor`, whose in-place code cannot."""

from __future__ import annotations

from typing import Any, TypeGuard

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, Replicate


class ShardedAdafactor(torch.optim.Adafactor):
    """Takes the steps of `torch.optim.Adafactor` and keeps its state; the factored moments are whole everywhere."""

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient; there is no use for a closure."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, parameter.grad, group)

    def _update(self, parameter: Tensor, grad: Tensor, group: dict[str, Any]) -> None:
        state, lr, eps2 = self.state[parameter], group["lr"], group["eps"][1]
        eps1 = torch.finfo(parameter.dtype).eps if group["eps"][0] is None else group["eps"][0]
        squares = grad.square()
        moments = {"variance": squares}
        if grad.ndim > 1:
            moments = {
                "row_var": _whole(squares.sum(-1, keepdim=True)) / grad.shape[-1],
                "col_var": _whole(squares.sum(-2, keepdim=True)) / grad.shape[-2],
            }
        if not state:
            state["step"] = torch.zeros(())
            state |= {name: torch.zeros_like(moment) for name, moment in moments.items()}
        state["step"] += 1
        step = state["step"].item()
        for name, moment in moments.items():
            state[name].lerp_(_placed(moment, state[name]), step ** group["beta2_decay"])
        alpha = max(eps2, _norm(parameter) / parameter.numel() ** 0.5) * min(lr, 1 / step**0.5)
        if group["weight_decay"]:
            parameter.mul_(1 - lr * group["weight_decay"])
        if grad.ndim > 1:
            estimate = state["row_var"] @ state["col_var"]
            estimate = estimate / state["row_var"].mean(-2, keepdim=True).clamp(min=eps1)
        else:
            estimate = state["variance"]
        update = _placed(estimate, grad).clamp(min=eps1 * eps1).rsqrt() * grad
        too_long = max(1.0, _norm(update) / (update.numel() ** 0.5 * group["d"]))
        parameter.add_(update, alpha=-alpha / too_long)


def _whole(tensor: Tensor) -> Tensor:
    """The same tensor in every process."""
    return tensor.redistribute(placements=[Replicate()] * tensor.device_mesh.ndim) if _sharded(tensor) else tensor


def _placed(tensor: Tensor, like: Tensor) -> Tensor:
    """The same values, shared out as those of `like`."""
    return tensor.redistribute(placements=like.placements) if _sharded(tensor) and _sharded(like) else tensor


def _sharded(tensor: Tensor) -> TypeGuard[DTensor]:
    return isinstance(tensor, DTensor)


def _norm(tensor: Tensor) -> float:
    norm = torch.linalg.vector_norm(tensor)
    return float(norm.full_tensor() if _sharded(norm) else norm)
