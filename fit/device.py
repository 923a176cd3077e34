"""The device of a training in one process: Lightning's words for it, and what the loops ask of a Fabric, without one.

Importing Lightning takes as long as importing torch twice over; a head on stored features is trained in less.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Literal, get_args

from core_encoder.errors import InputError
from core_encoder.files.storage import nearest

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

Accelerator = Literal["auto", "cpu", "gpu", "cuda", "mps"]


def find_device(accelerator: str) -> str:
    """PyTorch's word for Lightning's word.

    Raises:
        InputError: the accelerator is unknown or not in this machine.
    """
    if accelerator not in get_args(Accelerator):
        raise InputError(f"accelerator {accelerator!r} is unknown{nearest(accelerator, get_args(Accelerator))}")
    import torch

    present = {
        "cpu": True,
        "gpu": torch.cuda.is_available(),
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if accelerator == "auto":
        accelerator = next((name for name in ("gpu", "mps") if present[name]), "cpu")
    if not present[accelerator]:
        raise InputError(f"accelerator {accelerator!r} is not in this machine; take auto, or cpu")
    return {"gpu": "cuda"}.get(accelerator, accelerator)


class OneDevice:
    """What a training loop asks of Lightning's `Fabric`, for one process on one device.

    Raises:
        InputError: the accelerator is unknown or not in this machine.
    """

    world_size = 1
    global_rank = 0
    is_global_zero = True

    def __init__(self, accelerator: str, precision: Literal["32-true", "bf16-mixed"]) -> None:
        import torch

        self.device = torch.device(find_device(accelerator))
        self.precision = precision

    def setup_module(self, module: nn.Module) -> nn.Module:
        """The module as it is, on the device."""
        return module.to(self.device)

    def setup_optimizers(self, optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
        """The optimizer as it is."""
        return optimizer

    def autocast(self) -> AbstractContextManager[Any]:
        """Products in bf16 inside, where that is the precision."""
        import torch

        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16-mixed")

    def no_backward_sync(self, module: nn.Module, enabled: bool = True) -> AbstractContextManager[None]:
        """There is nobody to wait for."""
        return nullcontext()

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of `loss`."""
        loss.backward()

    def clip_gradients(
        self, module: nn.Module, optimizer: torch.optim.Optimizer, *, max_norm: float, error_if_nonfinite: bool
    ) -> Tensor:
        """Bound the norm of all gradients; returns what it was."""
        import torch

        trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        return torch.nn.utils.clip_grad_norm_(trained, max_norm, error_if_nonfinite=error_if_nonfinite)

    def all_reduce(self, value: Tensor, reduce_op: str = "mean") -> Tensor:
        """The value itself: there is no other."""
        return value

    def barrier(self) -> None:
        """There is nobody to wait for."""
