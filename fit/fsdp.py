"""FSDP2: weights, gradients and optimizer states shared out over processes, which gather what they need layer by layer.

Every process has to gather the same, in the same order: what runs more often for some data than for other data cannot
be gathered by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from typing import Any

import torch
from lightning.fabric.strategies import ModelParallelStrategy
from torch import nn
from torch.distributed.constants import default_pg_timeout
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method

from core_encoder.errors import InputError


def fsdp(
    precision: str,
    world: int,
    layers_of: Callable[[Any], Iterable[nn.Module]],
    *,
    whole_of: Callable[[Any], Iterable[nn.Parameter]] = lambda module: (),
    methods: Sequence[str] = (),
    timeout: timedelta = default_pg_timeout,
) -> ModelParallelStrategy:
    """A strategy of Fabric that shards a module over `world` processes: each of its layers, then the rest in one piece.

    With bf16-mixed the layers' weights travel in bf16, in which the products read them. Temperature, positions and
    queries stay in fp32, as between the layers the tokens do: they are summed, and steps of bf16 are too coarse.

    Args:
        precision: Lightning's word.
        world: how many processes there are.
        layers_of: the layers of the module that is set up.
        whole_of: its parameters beside them that are not sharded, which must be frozen.
        methods: what is called of it beside `forward`, also where no way back follows.
        timeout: how long processes wait for one another (default: PyTorch's).
    """
    layers_dtype = torch.bfloat16 if precision == "bf16-mixed" else torch.float32
    of_layers, of_rest = (
        MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32, cast_forward_inputs=False)
        for dtype in (layers_dtype, torch.float32)
    )

    def shard(module: nn.Module, mesh: Any) -> nn.Module:
        over, whole = mesh["data_parallel"], {*whole_of(module)}
        for name, parameter in module.named_parameters():
            if not parameter.ndim and parameter not in whole:
                raise InputError(f"strategy fsdp: {name} is a single number, which cannot be shared out; take ddp")
        for layer in layers_of(module):
            fully_shard(layer, mesh=over, mp_policy=of_layers)
        # the rest stays gathered from the way there to the way back, unless there may be no way back
        again = True if methods else None
        fully_shard(module, mesh=over, mp_policy=of_rest, ignored_params=whole, reshard_after_forward=again)
        for method in methods:
            register_fsdp_forward_method(module, method)
        return module

    return ModelParallelStrategy(shard, data_parallel_size=world, tensor_parallel_size=1, timeout=timeout)
