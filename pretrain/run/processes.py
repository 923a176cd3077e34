"""The processes that run the parts of a recipe: how many share a batch, and how weights lie in them."""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import torch
from lightning.fabric import Fabric
from torch import nn

from core_encoder.errors import InputError
from core_encoder.models.layers import TransformerLayer
from fit.launch import Tell, Work, cores, start, started_outside, work_here
from pretrain.recipe import ComputeConfig
from pretrain.run.progress import PretrainingStopped

log = logging.getLogger(__name__)

_PATIENCE = timedelta(hours=12)  # of processes that wait while the first one indexes hundreds of millions of rows


class Processes:
    """Where the parts of a recipe run."""

    def __init__(self, compute: ComputeConfig) -> None:
        self.compute = compute
        self._joined: Fabric | None = None
        if started_outside():
            local = int(os.environ.get("LOCAL_WORLD_SIZE") or _count(compute))
            nodes = int(os.environ.get("WORLD_SIZE") or local * compute.num_nodes) // local
            self._joined = _fabric(compute, local, nodes)
            self._joined.launch()
        elif compute.num_nodes > 1:
            raise InputError(
                f"compute: num_nodes {compute.num_nodes}: start the command on every machine with torchrun"
                ", or set num_nodes to 1"
            )

    def first(self, act: Callable[[], None]) -> None:
        """Let the first process alone do something; the others wait for it."""
        if self._joined is None or self._joined.is_global_zero:
            act()
        if self._joined is not None:
            self._joined.barrier()

    def world(self, batch: int) -> int:
        """How many processes will share batches of `batch` clips.

        Raises:
            InputError: devices that are not here.
        """
        if self._joined is not None:
            return int(self._joined.world_size)
        asked, count = _count(self.compute), _fitting(self.compute, batch)
        _fabric(self.compute, 1 if _on_cpu(self.compute) else count)
        if count < asked and self.compute.devices != "auto":
            log.warning("%d processes share batches of %d clips evenly, %d would not", count, batch, asked)
        return count

    def run(self, work: Work, batch: int, tell: Tell) -> None:
        """Let every process do its work; those started here share batches of `batch` clips evenly.

        Raises:
            InputError, PretrainingStopped, KeyboardInterrupt: from any of the processes.
            RuntimeError: a process failed otherwise, or was killed.
        """
        if self._joined is not None:
            work_here(self._joined, work, tell)
            return
        count = _fitting(self.compute, batch)
        if count > 1 or self.compute.strategy == "fsdp":
            start(work, functools.partial(_fabric, self.compute), count, tell, (PretrainingStopped,))
            return
        fabric = _fabric(self.compute, 1)
        fabric.launch()
        work_here(fabric, work, tell)


def _fabric(compute: ComputeConfig, devices: int, nodes: int = 1, plugins: Any = None) -> Fabric:
    from lightning.fabric.strategies import DDPStrategy

    strategy: Any = DDPStrategy(timeout=_PATIENCE) if started_outside() else "auto"
    if compute.strategy == "fsdp":
        from fit.fsdp import fsdp

        strategy = fsdp(compute.precision, devices * nodes, _trained_layers, timeout=_PATIENCE)
    try:
        return Fabric(
            accelerator="cpu" if _on_cpu(compute) else compute.accelerator,
            devices=devices,
            num_nodes=nodes,
            strategy=strategy,
            precision=compute.precision,
            plugins=plugins,
        )
    except Exception as error:  # Lightning names an unknown or absent device in exceptions of many types
        raise InputError(f"compute: {' '.join(str(error).split())}") from error


def _on_cpu(compute: ComputeConfig) -> bool:
    return compute.accelerator == "cpu" or (compute.accelerator == "auto" and not torch.cuda.is_available())


def _count(compute: ComputeConfig) -> int:
    if isinstance(compute.devices, int):
        return compute.devices
    return cores() if _on_cpu(compute) else torch.cuda.device_count() or 1


def _fitting(compute: ComputeConfig, batch: int) -> int:
    """Processes to start: on a CPU, the largest number that shares a batch evenly."""
    asked = _count(compute)
    if not _on_cpu(compute):
        return asked
    return max(count for count in range(1, asked + 1) if batch % count == 0)


def _trained_layers(stage: nn.Module) -> Iterator[nn.Module]:
    for layer in stage.modules():
        if isinstance(layer, TransformerLayer) and any(p.requires_grad for p in layer.parameters()):
            yield layer
