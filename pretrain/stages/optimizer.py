"""The optimizer of a part, and its learning rate at each step."""

from __future__ import annotations

import torch
from torch import nn
from torch.distributed.tensor import DTensor

from fit.parameter_groups import parameter_groups
from fit.schedule import scheduled_rate
from pretrain.recipe import ContrastiveConfig, PartConfig
from pretrain.stages.sharded_adafactor import ShardedAdafactor

_SPARED = ("token_embedding.weight",)


def build_optimizer(module: nn.Module, config: PartConfig) -> torch.optim.Optimizer:
    """AdamW or Adafactor on everything trainable; biases, norms, positions, queries and embeddings do not decay."""
    spatial = config.spatial_lr if isinstance(config, ContrastiveConfig) else 1.0
    groups = parameter_groups(module, config.weight_decay, _SPARED, lambda name: spatial if _is_spatial(name) else 1.0)
    if config.optimizer == "adafactor":
        sharded = any(isinstance(parameter, DTensor) for parameter in module.parameters())
        return (ShardedAdafactor if sharded else torch.optim.Adafactor)(groups, lr=config.lr)
    return torch.optim.AdamW(groups, lr=config.lr, betas=(0.9, config.beta2))


def _is_spatial(name: str) -> bool:
    """Whether a parameter of a stage belongs to the half that sees one frame."""
    _, inside, part = name.partition("model.vision.")
    return bool(inside) and not part.startswith("temporal_")


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
