"""One setting of a grid while it trains: head, optimizer, schedule, and the best weights so far.

Everything a candidate does depends on its own configuration, the seed and the batches: never on who trains beside it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from adapters.adapter import Adapter, Loss
from adapters.features import Batch, Collate, stack
from adapters.predictions import Prediction
from adapters.training.training_config import TrainingConfig
from core_encoder.errors import InputError
from fit.checkpoint import full_tensor, load_optimizer, optimizer_tensors, sharded_like
from fit.contrastive import gather
from fit.parameter_groups import parameter_groups
from fit.schedule import scheduled_rate

if TYPE_CHECKING:
    from lightning.fabric import Fabric

    from fit.device import OneDevice


@dataclass
class Progression:
    """What a candidate has reached; everything beside its tensors that a checkpoint must keep."""

    best_score: float | None = None
    best_epoch: int = -1
    epochs: int = 0
    stopped: str = ""  # why it trains no more
    diverged: bool = False
    loss_sum: float = 0.0  # of the running epoch
    loss_weight: float = 0.0


class Candidate:
    """A head in training under one setting."""

    def __init__(
        self, name: str, adapter: Adapter, config: TrainingConfig, total_steps: int, fabric: Fabric | OneDevice
    ) -> None:
        self.name = name
        self.adapter = adapter
        self.config = config
        self.total_steps = total_steps
        self.progression = Progression()
        self.best: dict[str, Tensor] = {}
        self.last_loss = math.nan
        self._fabric = fabric
        self._module: Any = fabric.setup_module(adapter)
        self._optimizer = build_optimizer(adapter, config)  # of what each process holds, if weights are sharded now
        self._stepper: Any = fabric.setup_optimizers(self._optimizer)
        mark = getattr(self._module, "mark_forward_method", None)
        if mark is not None:  # wrapped by Fabric
            mark("loss")

    @property
    def collate(self) -> Collate:
        """How the candidate's examples become a batch; the plain way where the kind has none of its own."""
        return stack if type(self.adapter).collate is Adapter.collate else self.adapter.collate

    @property
    def active(self) -> bool:
        """Whether it still trains."""
        return not self.progression.stopped

    def step(self, parts: Sequence[Batch], step: int) -> None:
        """Train on this process's share of a batch, given in one part or in several to be accumulated.

        Every process and every part counts by the weight of its loss. A loss or gradient that is not finite changes no
        weight and stops the candidate.
        """
        fabric, device = self._fabric, self._fabric.device
        self._module.train()
        if fabric.world_size > 1 and self.adapter.even_shares:  # only here have all processes as many rows
            self.adapter.gather = gather  # type: ignore[method-assign]
        sums = torch.zeros(2, dtype=torch.float64)  # loss times weight, weight
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(_step_seed(self.config.seed, step, fabric.global_rank))
            for place, part in enumerate(parts):
                with fabric.no_backward_sync(self._module, enabled=place + 1 < len(parts)):
                    with fabric.autocast():
                        value, weight = as_loss(self._module.loss(part), self.adapter.kind)
                    fabric.backward(value * (weight * fabric.world_size))  # gradients are averaged over processes
                sums += torch.tensor([float(value.detach()) * weight, weight], dtype=torch.float64)
        vars(self.adapter).pop("gather", None)
        if fabric.world_size > 1:
            sums = fabric.all_reduce(sums.to(device, torch.float32), reduce_op="sum").cpu().double()
        total, weight = sums.tolist()
        self.last_loss = total / weight if weight else 0.0
        if not math.isfinite(self.last_loss):
            return self.diverge(f"the loss became {self.last_loss} at step {step + 1}")
        for parameter in self.adapter.parameters():
            if parameter.grad is not None:
                parameter.grad.div_(weight or 1.0)
        limit = self.config.clip_grad_norm or math.inf
        whole = fabric.clip_gradients(self._module, self._stepper, max_norm=limit, error_if_nonfinite=False)
        norm = float(full_tensor(whole))
        if not math.isfinite(norm):
            return self.diverge(f"the gradient norm became {norm} at step {step + 1}")
        for group in self._optimizer.param_groups:
            group["lr"] = group["share"] * self.learning_rate(step)
        self._stepper.step()
        self._stepper.zero_grad()
        self.progression.loss_sum += total
        self.progression.loss_weight += weight

    def learning_rate(self, step: int) -> float:
        """The learning rate of `step`, from 0."""
        return learning_rate(self.config, step, self.total_steps, self.adapter.trained_kind)

    def diverge(self, reason: str) -> None:
        """Stop training this candidate; its best epoch, if there was one, is kept."""
        self._stepper.zero_grad()
        self.progression.stopped, self.progression.diverged = reason, True

    @torch.no_grad()
    def answer_with_loss(self, batch: Batch) -> tuple[list[Prediction], Loss]:
        """The answers and the loss of a validation batch, in evaluation mode."""
        self.adapter.eval()
        with self._fabric.autocast():
            return self.adapter.answer_with_loss(batch)

    def close_epoch(self, score: float | None) -> float:
        """Note the end of an epoch with its validation score (higher is better); returns its training loss."""
        now = self.progression
        loss = now.loss_sum / (now.loss_weight or 1.0)
        now.loss_sum, now.loss_weight = 0.0, 0.0
        now.epochs += 1
        if score is None or now.best_score is None or score > now.best_score:
            now.best_score, now.best_epoch = score, now.epochs - 1
            self.best = {name: full_tensor(tensor).clone() for name, tensor in self.adapter.saved_state().items()}
        elif self.config.patience is not None and now.epochs - 1 - now.best_epoch >= self.config.patience:
            now.stopped = f"no better score for {self.config.patience} epochs"
        return loss

    def tensors(self) -> dict[str, Tensor]:
        """Everything a checkpoint must keep as tensors, whole: weights, best weights, optimizer state.

        Every process asks for it, since sharded weights are gathered.
        """
        kept = {f"model/{name}": full_tensor(tensor) for name, tensor in self.adapter.saved_state().items()}
        kept |= {f"best/{name}": tensor for name, tensor in self.best.items()}
        state = optimizer_tensors(self.adapter, self._optimizer)
        return kept | {f"optimizer/{name}": tensor for name, tensor in state.items()}

    def restore(self, tensors: Mapping[str, Tensor], counters: Mapping[str, Any], where: str) -> None:
        """Take over what `tensors` and `counters` gave."""
        parts: dict[str, dict[str, Tensor]] = {"model": {}, "best": {}, "optimizer": {}}
        for name, tensor in tensors.items():
            part, _, rest = name.partition("/")
            parts[part][rest] = tensor
        own = self.adapter.saved_state()
        weights = {name: sharded_like(tensor, own.get(name, tensor)) for name, tensor in parts["model"].items()}
        self.adapter.load_weights(weights, where)
        self.best = parts["best"]
        load_optimizer(self.adapter, self._optimizer, parts["optimizer"])
        self.progression = Progression(**counters)

    def counters(self) -> dict[str, Any]:
        """Everything a checkpoint must keep beside the tensors."""
        return asdict(self.progression)


def learning_rate(config: TrainingConfig, step: int, total_steps: int, kind: type[Adapter] = Adapter) -> float:
    """The learning rate of `step` (from 0): linear warm-up, then a cosine towards 0.

    The warm-up has at least as many steps as the kind asks for, but never more of them than half of all.
    """
    fraction = kind.warmup_fraction if config.warmup_fraction is None else config.warmup_fraction
    warmup_steps = max(round(fraction * total_steps), min(kind.least_warmup_steps, total_steps // 2))
    return scheduled_rate(step, lr=config.lr, warmup_steps=warmup_steps, end_step=total_steps)


def build_optimizer(adapter: Adapter, config: TrainingConfig) -> torch.optim.Optimizer:
    """AdamW on what is trainable; norms, biases and learned queries do not decay.

    Raises:
        InputError: nothing is.
    """
    groups = parameter_groups(adapter, config.weight_decay, share=adapter.learning_rate_share)
    if not groups:
        raise InputError(f"adapter {adapter.kind!r} has no parameter to train: all are frozen, or there is none")
    for group in groups:
        group["lr"] = group["share"] * config.lr
    return torch.optim.AdamW(groups, lr=config.lr, fused=True)


def _step_seed(seed: int, step: int, rank: int) -> int:
    return int(np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint32)[0])


def as_loss(loss: Any, kind: str) -> Loss:
    """What `Adapter.loss` gave, checked.

    Raises:
        InputError: it is no value with a weight, as in prismhub before 0.2.
    """
    if isinstance(loss, Tensor) or not isinstance(loss, tuple) or len(loss) != 2:
        raise InputError(
            f"adapter {kind!r}: `loss` must return Loss(value, weight), not {type(loss).__name__}; "
            "see docs/write-an-adapter.md"
        )
    return Loss(loss[0], float(loss[1]))


def any_active(candidates: Iterable[Candidate]) -> bool:
    """Whether anyone still trains."""
    return any(candidate.active for candidate in candidates)
