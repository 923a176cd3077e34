"""One setting of a grid while it trains: head, optimizer, schedule, and the best weights so far.

Everything a candidate does depends on its own configuration, the seed and the batches: never on who trains beside it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from lightning.fabric import Fabric
from torch import Tensor

from adapters.adapter import Adapter
from adapters.features import Batch
from adapters.training.training_config import TrainingConfig


@dataclass
class Progression:
    """What a candidate has reached; everything beside its tensors that a checkpoint must keep."""

    best_score: float | None = None
    best_epoch: int = -1
    epochs: int = 0
    stopped: str = ""  # why it trains no more
    diverged: bool = False
    loss_sum: float = 0.0  # of the running epoch
    loss_samples: int = 0


class Candidate:
    """A head in training under one setting."""

    def __init__(self, name: str, adapter: Adapter, config: TrainingConfig, total_steps: int, fabric: Fabric) -> None:
        self.name = name
        self.adapter = adapter
        self.config = config
        self.total_steps = total_steps
        self.reached = Progression()
        self.best: dict[str, Tensor] = {}
        self.last_loss = math.nan
        self._fabric = fabric
        self._optimizer = torch.optim.AdamW(_parameter_groups(adapter, config.weight_decay), lr=config.lr, fused=True)
        self._module, self._stepper = fabric.setup(adapter, self._optimizer)
        self._module.mark_forward_method("loss")

    @property
    def active(self) -> bool:
        """Whether it still trains."""
        return not self.reached.stopped

    def step(self, batch: Batch, step: int, batch_size: int) -> None:
        """Train on this process's part of a batch that has `batch_size` samples over all processes.

        A loss or gradient that is not finite changes no weight and stops the candidate.
        """
        fabric, device = self._fabric, self._fabric.device
        self._module.train()
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(_step_seed(self.config.seed, step, fabric.global_rank))
            share = len(batch) * fabric.world_size / batch_size  # processes are averaged, whatever their parts' sizes
            loss = self._module.loss(batch) * share
        total = fabric.all_reduce(loss.detach(), reduce_op="mean") if fabric.world_size > 1 else loss.detach()
        self.last_loss = float(total)
        if not math.isfinite(self.last_loss):
            return self.diverge(f"the loss became {self.last_loss} at step {step + 1}")
        fabric.backward(loss)
        limit = self.config.clip_grad_norm or math.inf
        norm = fabric.clip_gradients(self._module, self._stepper, max_norm=limit, error_if_nonfinite=False)
        if not math.isfinite(float(norm)):
            return self.diverge(f"the gradient norm became {float(norm)} at step {step + 1}")
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate(self.config, step, self.total_steps)
        self._stepper.step()
        self._stepper.zero_grad()
        self.reached.loss_sum += self.last_loss * batch_size
        self.reached.loss_samples += batch_size

    def diverge(self, reason: str) -> None:
        """Stop training this candidate; its best epoch, if there was one, is kept."""
        self.reached.stopped, self.reached.diverged = reason, True

    @torch.no_grad()
    def judge(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Scores `(B, K)` and the loss sum of a validation batch, in evaluation mode."""
        self.adapter.eval()
        with self._fabric.autocast():
            return self.adapter.scores(batch.features, batch.mask).float(), self.adapter.loss(batch) * len(batch)

    def close_epoch(self, score: float | None) -> float:
        """Note the end of an epoch with its validation score (higher is better); returns its training loss."""
        reached = self.reached
        loss = reached.loss_sum / max(reached.loss_samples, 1)
        reached.loss_sum, reached.loss_samples = 0.0, 0
        reached.epochs += 1
        if score is None or reached.best_score is None or score > reached.best_score:
            reached.best_score, reached.best_epoch = score, reached.epochs - 1
            self.best = {name: tensor.cpu().clone() for name, tensor in self.adapter.state_dict().items()}
        elif self.config.patience is not None and reached.epochs - 1 - reached.best_epoch >= self.config.patience:
            reached.stopped = f"no better score for {self.config.patience} epochs"
        return loss

    def tensors(self) -> dict[str, Tensor]:
        """Everything a checkpoint must keep as tensors: weights, best weights, optimizer state."""
        kept = {f"model/{name}": tensor for name, tensor in self.adapter.state_dict().items()}
        kept |= {f"best/{name}": tensor for name, tensor in self.best.items()}
        for index, state in self._optimizer.state_dict()["state"].items():
            kept |= {f"optimizer/{index}/{name}": torch.as_tensor(value) for name, value in state.items()}
        return kept

    def restore(self, tensors: Mapping[str, Tensor], counters: Mapping[str, Any], where: str) -> None:
        """Take over what `tensors` and `counters` gave."""
        parts: dict[str, dict[str, Tensor]] = {"model": {}, "best": {}, "optimizer": {}}
        for name, tensor in tensors.items():
            part, _, rest = name.partition("/")
            parts[part][rest] = tensor
        self.adapter.load_weights(parts["model"], where)
        self.best = parts["best"]
        whole = self._optimizer.state_dict()
        whole["state"] = {}
        for name, tensor in parts["optimizer"].items():
            index, _, key = name.partition("/")
            whole["state"].setdefault(int(index), {})[key] = tensor
        self._optimizer.load_state_dict(whole)
        self.reached = Progression(**counters)

    def counters(self) -> dict[str, Any]:
        """Everything a checkpoint must keep beside the tensors."""
        return asdict(self.reached)


def learning_rate(config: TrainingConfig, step: int, total_steps: int) -> float:
    """The learning rate of `step` (from 0): linear warm-up, then a cosine that ends at 0."""
    warmup = round(config.warmup_fraction * total_steps)
    if step < warmup:
        return config.lr * (step + 1) / warmup
    return config.lr * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(total_steps - warmup, 1)))


def _parameter_groups(adapter: Adapter, weight_decay: float) -> list[dict[str, Any]]:
    """Matrices decay; norms, biases and learned queries do not."""
    matrices: list[Tensor] = []
    others: list[Tensor] = []
    for name, parameter in adapter.named_parameters():
        is_matrix = parameter.ndim > 1 and name.rpartition(".")[2] == "weight"
        (matrices if is_matrix else others).append(parameter)
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]


def _step_seed(seed: int, step: int, rank: int) -> int:
    return int(np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint32)[0])


def any_active(candidates: Iterable[Candidate]) -> bool:
    """Whether anyone still trains."""
    return any(candidate.active for candidate in candidates)
