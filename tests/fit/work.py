"""What started processes do in tests; they import it by name."""

from __future__ import annotations

import logging
import os
import signal
import time
from pathlib import Path
from typing import Any

import torch
from lightning.fabric import Fabric

from core_encoder.errors import InputError
from fit.launch import Interruption, Tell


class Gaveup(RuntimeError):
    """What only this work raises."""


def two_on_the_cpu(devices: int, plugins: Any = None) -> Fabric:
    return Fabric(accelerator="cpu", devices=devices, plugins=plugins)


def add_up(fabric: Fabric, interruption: Interruption, tell: Tell) -> None:
    """Tells the sum of the ranks, and warns from both processes."""
    logging.getLogger("work").warning("warned by %d", fabric.global_rank)
    total = fabric.all_reduce(torch.tensor(float(fabric.global_rank + 1)), reduce_op="sum")
    if fabric.is_global_zero:
        tell({"sum": float(total), "processes": fabric.world_size})


def refuse(fabric: Fabric, interruption: Interruption, tell: Tell) -> None:
    """The second process finds its input wrong, the first one waits for it."""
    if fabric.global_rank == 1:
        raise InputError("row 3: no such video")
    fabric.barrier()


def give_up(fabric: Fabric, interruption: Interruption, tell: Tell) -> None:
    raise Gaveup("nothing left to do")


def break_down(fabric: Fabric, interruption: Interruption, tell: Tell) -> None:
    raise ZeroDivisionError("one by nothing")


def be_killed(fabric: Fabric, interruption: Interruption, tell: Tell) -> None:
    if fabric.global_rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    fabric.barrier()


def work_until_asked(fabric: Fabric, interruption: Interruption, tell: Tell) -> None:
    """Tells that it is at work, until it is asked to stop; the first process then writes what it kept."""
    if fabric.is_global_zero:
        tell(os.getppid())
    while not interruption.asked:
        time.sleep(0.01)
    if fabric.is_global_zero:
        Path(os.environ["KEPT"]).write_text("kept")
    raise KeyboardInterrupt
