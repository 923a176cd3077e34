"""Optimizers, which parameters decay, and the learning rate of each step."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.distributed.tensor import DTensor

from pretrain.recipe import PartConfig
from pretrain.stages.sharded_adafactor import ShardedAdafactor

_NEVER_DECAYED = ("positions", "query", "class_embedding", "mask_token", "token_embedding.weight")


def build_optimizer(module: nn.Module, config: PartConfig) -> torch.optim.Optimizer:
    """AdamW or Adafactor on everything trainable; biases, norms, positions, queries and embeddings do not decay."""
    decayed: list[nn.Parameter] = []
    spared: list[nn.Parameter] = []
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            (decayed if decays(name, parameter) else spared).append(parameter)
    groups = [
        {"params": parameters, "weight_decay": decay}
        for parameters, decay in ((decayed, config.weight_decay), (spared, 0.0))
        if parameters
    ]
    if config.optimizer == "adafactor":
        sharded = any(isinstance(parameter, DTensor) for parameter in module.parameters())
        return (ShardedAdafactor if sharded else torch.optim.Adafactor)(groups, lr=config.lr)
    return torch.optim.AdamW(groups, lr=config.lr, betas=(0.9, config.beta2))


def decays(name: str, parameter: torch.Tensor) -> bool:
    """Whether weight decay applies to a parameter: to matrices that multiply features, to nothing else."""
    return parameter.ndim > 1 and not name.endswith(_NEVER_DECAYED)


def learning_rate(config: PartConfig, step: int) -> float:
    """The rate of step 0, 1, ...: linear warm-up, then down to `final_lr` at the last step."""
    if step < config.warmup_steps:
        return config.lr * (step + 1) / config.warmup_steps
    if config.schedule == "constant":
        return config.lr
    done = (step - config.warmup_steps) / max(config.steps - 1 - config.warmup_steps, 1)
    left = 0.5 * (1 + math.cos(math.pi * done)) if config.schedule == "cosine" else 1 - done
    return config.final_lr + (config.lr - config.final_lr) * left
