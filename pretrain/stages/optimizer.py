"""The optimizer of a part, and its learning rate at each step."""

from __future__ import annotations

import torch
from torch import nn
from torch.distributed.tensor import DTensor

from fit.parameter_groups import parameter_groups
from fit.schedule import scheduled_rate
from pretrain.recipe import ContrastiveConfig, MaskedConfig, PartConfig
from pretrain.stages.sharded_adafactor import ShardedAdafactor

_SPARED = ("token_embedding.weight",)


def build_optimizer(module: nn.Module, config: PartConfig) -> torch.optim.Optimizer:
    """AdamW or Adafactor on everything trainable; biases, norms, positions, queries and embeddings do not decay."""
    groups = parameter_groups(module, config.weight_decay, _SPARED, lambda name: _share(name, config))
    if config.optimizer == "adafactor":
        sharded = any(isinstance(parameter, DTensor) for parameter in module.parameters())
        return (ShardedAdafactor if sharded else torch.optim.Adafactor)(groups, lr=config.lr)
    return torch.optim.AdamW(groups, lr=config.lr, betas=(0.9, config.beta2))


def _share(name: str, config: PartConfig) -> float:
    """The share of the rate for a parameter of a stage; the half that sees one frame and a student have their own."""
    if isinstance(config, ContrastiveConfig):
        _, inside, part = name.partition("model.vision.")
        return config.spatial_lr if inside and not part.startswith("temporal_") else 1.0
    return config.student_lr if isinstance(config, MaskedConfig) and name.startswith("student.") else 1.0


def set_learning_rates(optimizer: torch.optim.Optimizer, config: PartConfig, step: int) -> None:
    """Give every group its share of the rate of step 0, 1, ...: the whole rate outside of the steps of `spatial_lr`."""
    shared = not isinstance(config, ContrastiveConfig) or config.shares_lr_at(step)
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(config, step) * (group["share"] if shared else 1.0)


def learning_rate(config: PartConfig, step: int) -> float:
    """The rate of step 0, 1, ...: linear warm-up, then down to `final_lr` at the last step.

    Each restart begins a cycle that ends where the next one begins. Source: SGDR, arXiv 1608.03983.
    """
    begin = max((0, *(at for at in config.restarts if at <= step)))
    end = min((config.steps, *(at for at in config.restarts if at > step)))
    return scheduled_rate(
        step - begin,
        lr=config.lr,
        warmup_steps=config.warmup_steps,
        end_step=end - begin - 1,
        final_lr=config.final_lr,
        schedule=config.schedule,
    )
