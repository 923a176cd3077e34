"""A saved head is not built many times larger than its files are: options that ask for it are refused beforehand."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from core_encoder.errors import InputError
from core_encoder.models.checkpoints import far_too_many

_MOST_TENSORS = 4_000  # of a head whose files hold few
_DRAWN = {torch.rand: torch.empty, torch.randn: torch.empty}  # of the same arguments and shape
_MAKERS = {torch.empty, torch.zeros, torch.ones, torch.full, torch.arange, torch.eye, torch.linspace, *_DRAWN}
_elsewhere: ContextVar[bool] = ContextVar("elsewhere", default=False)


class HeadSize(TorchFunctionMode):
    """Counts the values of the tensors that are made while it is on, each before memory is taken for it.

    Raises:
        InputError: they are far more than the `held` values, or far more tensors than the `tensors`, of the files.
    """

    def __init__(self, held: int, tensors: int, where: str) -> None:
        super().__init__()
        self._held, self._most_tensors, self._where = held, _MOST_TENSORS + 4 * tensors, where
        self._values = self._tensors = 0

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in _MAKERS and not _elsewhere.get() and str(kwargs.get("device")) != "meta":
            self._values += _count(func, args, kwargs)
            self._tensors += 1
            if far_too_many(self._values, self._held) or self._tensors > self._most_tensors:
                raise InputError(
                    f"{self._where}: its options describe a head of far more weights than the {self._held:,} that "
                    "its files hold; fetch or train again"
                )
        return func(*args, **kwargs)


def _count(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    """How many values a tensor would have, that is not made."""
    shown = {name: value for name, value in kwargs.items() if name not in ("generator", "out", "pin_memory")}
    try:
        return int(_DRAWN.get(func, func)(*args, **shown | {"device": "meta"}).numel())
    except (RuntimeError, TypeError) as error:  # what is wrong will be told when it is made
        return 1 << 62 if "overflow" in str(error).lower() else 0


@contextmanager
def of_other_files() -> Iterator[None]:
    """What is made while the block runs is of files that are no part of the head, and is not counted."""
    before = _elsewhere.set(True)
    try:
        yield
    finally:
        _elsewhere.reset(before)
