"""The training loop itself: one pass over the features feeds every candidate; a checkpoint continues it exactly.

A checkpoint is one safetensors file, so it is whole or absent: weights, optimizer state and best weights of every
candidate, and in its header where the run stood. Order and dropout are keyed by (seed, epoch, step), so nothing else is
needed to go on as if nothing had happened.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lightning.fabric import Fabric
from safetensors import SafetensorError, safe_open
from torch import Tensor

from adapters.adapter import Adapter
from adapters.features import FeatureDataset, epoch_batches, even_batches, ids_of, read_ahead
from adapters.training.candidate import Candidate, any_active, learning_rate
from adapters.training.training_config import (
    MetricFactory,
    Progress,
    ProgressCallback,
    TrainingConfig,
    TrainingDiverged,
)
from core_encoder.errors import InputError
from core_encoder.files.storage import read_tensors, write_tensors
from fit.run_log import RunLog

CHECKPOINT_FILE = "checkpoint.safetensors"
LOG_EVERY_STEPS = 10
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Setting:
    """One point of the grid, resolved: its readable name, what it overrides, and the two configs that result."""

    name: str
    overrides: dict[str, Any]
    head: Any
    training: TrainingConfig


@dataclass
class RunState:
    """Where a run stands: `step` batches of `epoch` are done."""

    epoch: int = 0
    step: int = 0
    done: bool = False
    history: list[dict[str, Any]] = field(default_factory=list)
    candidates: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class TrainingRun:
    """Everything a run is made of; goes to other processes by pickling when there are several devices."""

    kind: type[Adapter]
    settings: tuple[Setting, ...]
    label_names: tuple[str, ...]
    dim: int
    config: TrainingConfig
    train_set: FeatureDataset
    val_set: FeatureDataset  # may be empty
    metric: MetricFactory | None
    run_dir: Path
    progress: ProgressCallback | None

    def __call__(self, fabric: Fabric) -> None:
        """Train to the end, from the checkpoint in `run_dir` where there is one.

        Raises:
            TrainingDiverged: no candidate is left.
        """
        fewest = min(len(s) for s in (self.train_set, self.val_set) if len(s))
        if min(fewest, self.config.batch_size // 2) < fabric.world_size > 1:
            raise InputError(
                f"{fewest} samples in batches of {self.config.batch_size} cannot be shared by {fabric.world_size} "
                "devices; use fewer devices"
            )
        steps = len(epoch_batches(len(self.train_set), self.config.batch_size, 0, 0))
        candidates = []
        for setting in self.settings:
            adapter = self.build(setting)
            adapter.calibrate(self.train_set)
            total = steps * self.config.epochs
            candidates.append(Candidate(setting.name, adapter, setting.training, total, fabric))
        state = read_checkpoint(self.run_dir, candidates)
        with _Pass(self, fabric, candidates, state, steps) as this_pass:
            this_pass.go()

    def build(self, setting: Setting) -> Adapter:
        """The fresh head of a setting."""
        return self.kind.build(setting.head, dim=self.dim, label_names=self.label_names, seed=self.config.seed)


class _Pass:
    """One process's pass through a run, from where `state` stands to the end."""

    def __init__(
        self, run: TrainingRun, fabric: Fabric, candidates: list[Candidate], state: RunState, steps_per_epoch: int
    ) -> None:
        self.run, self.fabric, self.candidates, self.state = run, fabric, candidates, state
        self.steps_per_epoch = steps_per_epoch
        self.val_ids = ids_of(run.val_set)
        self.log = RunLog(run.run_dir, self.step) if fabric.is_global_zero else None
        self.started_s = self.saved_s = time.monotonic()
        self.samples = 0
        self.first_step = self.step

    def __enter__(self) -> _Pass:
        return self

    def __exit__(self, *error: Any) -> None:
        if self.log:
            self.log.__exit__(*error)

    @property
    def step(self) -> int:
        """Steps done since the beginning of the run."""
        return self.state.epoch * self.steps_per_epoch + self.state.step

    def go(self) -> None:
        config, state = self.run.config, self.state
        while state.epoch < config.epochs and any_active(self.candidates):
            self._train_epoch()
            scores, losses = self._validate() if len(self.val_ids) else ({}, {})
            self._close_epoch(scores, losses)
            state.epoch, state.step = state.epoch + 1, 0
            self._checkpoint_if_due()
        state.done = True
        self._checkpoint()

    def _train_epoch(self) -> None:
        config, state = self.run.config, self.state
        rank, world = self.fabric.global_rank, self.fabric.world_size
        plan = epoch_batches(len(self.run.train_set), config.batch_size, config.seed, state.epoch)[state.step :]
        mine = [indices[rank::world] for indices in plan]
        for indices, batch in zip(plan, read_ahead(self.run.train_set, mine), strict=True):
            batch = batch.to(self.fabric.device)
            for candidate in self.candidates:
                if candidate.active:
                    candidate.step(batch, self.step, len(indices))
                    self._check(candidate)
            state.step += 1
            self.samples += len(indices)
            if self.step % LOG_EVERY_STEPS == 0 and self.log:
                for candidate in self.candidates:
                    if candidate.active:
                        rate = learning_rate(candidate.config, self.step - 1, candidate.total_steps)
                        self.log.add(self.step, {"loss": candidate.last_loss, "lr": rate}, setting=candidate.name)
            self._report("train")
            self._checkpoint_if_due()

    def _check(self, candidate: Candidate) -> None:
        if not candidate.reached.diverged:
            return
        batch = min(self.state.step + 1, self.steps_per_epoch)
        where = (
            f"setting {candidate.name!r}: {candidate.reached.stopped} "
            f"(epoch {self.state.epoch + 1}, batch {batch} of {self.steps_per_epoch})"
        )
        if all(other.reached.diverged for other in self.candidates):
            raise TrainingDiverged(f"{where}; lower the learning rate, or check the features")
        log.warning("%s; it trains no further, the other settings go on", where)

    def _validate(self) -> tuple[dict[str, float], dict[str, float]]:
        """Validation scores and losses of the active candidates; processes share the samples and see all scores."""
        val_set, config = self.run.val_set, self.run.config
        rank, world = self.fabric.global_rank, self.fabric.world_size
        active = [candidate for candidate in self.candidates if candidate.active]
        metrics = [self.run.metric() for _ in active] if self.run.metric else []
        losses = [0.0] * len(active)
        plan = even_batches(range(len(val_set)), config.batch_size)
        mine = [indices[rank::world] for indices in plan]
        for indices, batch in zip(plan, read_ahead(val_set, mine), strict=True):
            batch = batch.to(self.fabric.device)
            for place, candidate in enumerate(active):
                if not candidate.active:
                    continue
                scores, loss = candidate.judge(batch)
                targets, ids = batch.targets, list(batch.ids)
                if world > 1:
                    scores, targets = (_whole(self.fabric, part, len(indices)) for part in (scores, targets))
                    ids = [self.val_ids[i] for i in indices]
                    loss = self.fabric.all_reduce(loss, reduce_op="sum")
                if not bool(scores.isfinite().all()):
                    if not bool(batch.features.isfinite().all()):
                        raise InputError("the validation features hold NaN or infinity: encode them again")
                    candidate.diverge(f"the validation scores became NaN or infinite after step {self.step}")
                    self._check(candidate)
                    continue
                losses[place] += float(loss)
                if metrics:
                    metrics[place].update(scores.cpu(), targets.cpu() if isinstance(targets, Tensor) else targets, ids)
            self._report("validate")
        means = {c.name: loss / len(val_set) for c, loss in zip(active, losses, strict=True) if c.active}
        if not metrics:
            return {name: -loss for name, loss in means.items()}, means
        return {c.name: float(m.compute()) for c, m in zip(active, metrics, strict=True) if c.active}, means

    def _close_epoch(self, scores: dict[str, float], losses: dict[str, float]) -> None:
        for candidate in self.candidates:
            if not candidate.active:
                continue
            score = scores.get(candidate.name)
            if score is not None and math.isnan(score):
                raise InputError(
                    "the validation metric is NaN: does every class that it averages occur in the validation split?"
                )
            values = {"train_loss": candidate.close_epoch(score)}
            if score is not None:
                values |= {"val_loss": losses[candidate.name], "val_score": score}
            self.state.history.append({"epoch": self.state.epoch, "setting": candidate.name, **values})
            if self.log:
                self.log.add(self.step, values, setting=candidate.name, epoch=self.state.epoch)

    def _report(self, phase: Any) -> None:
        if not self.run.progress or not self.fabric.is_global_zero:
            return
        spent_s = max(time.monotonic() - self.started_s, 1e-9)
        total = self.steps_per_epoch * self.run.config.epochs
        left = (total - self.step) * spent_s / max(self.step - self.first_step, 1)
        best = {c.name: c.reached.best_score for c in self.candidates}
        losses = {c.name: c.last_loss for c in self.candidates if c.active}
        known = {name: score for name, score in best.items() if score is not None}
        epoch = min(self.state.epoch + 1, self.run.config.epochs)
        rate = self.samples / spent_s
        self.run.progress(Progress(phase, epoch, self.run.config.epochs, self.step, total, losses, known, rate, left))

    def _checkpoint_if_due(self) -> None:
        if time.monotonic() - self.saved_s >= self.run.config.checkpoint_every_s:
            self._checkpoint()

    def _checkpoint(self) -> None:
        if self.fabric.is_global_zero:
            write_checkpoint(self.run.run_dir, self.state, self.candidates)
        self.saved_s = time.monotonic()


def write_checkpoint(run_dir: Path, state: RunState, candidates: Sequence[Candidate]) -> None:
    """Write the checkpoint of a run, atomically."""
    tensors: dict[str, Tensor] = {}
    for index, candidate in enumerate(candidates):
        tensors |= {f"{index}/{name}": tensor for name, tensor in candidate.tensors().items()}
    whole = vars(state) | {"candidates": [candidate.counters() for candidate in candidates]}
    write_tensors(run_dir / CHECKPOINT_FILE, tensors, {"state": json.dumps(whole)})


def read_state(run_dir: Path) -> RunState | None:
    """Where the run in `run_dir` stands; None when it has no checkpoint yet.

    Raises:
        InputError: the checkpoint is damaged.
    """
    file = run_dir / CHECKPOINT_FILE
    if not file.exists():
        return None
    try:
        with safe_open(str(file), "pt") as opened:
            return RunState(**json.loads(opened.metadata()["state"]))
    except (SafetensorError, TypeError, KeyError, json.JSONDecodeError) as error:
        raise InputError(f"{file}: not a whole checkpoint ({error}); restart the run") from error


def read_checkpoint(run_dir: Path, candidates: Sequence[Candidate]) -> RunState:
    """Restore the candidates from the checkpoint in `run_dir`; a fresh state when there is none."""
    state = read_state(run_dir)
    if state is None:
        return RunState()
    tensors = split_tensors(read_tensors(run_dir / CHECKPOINT_FILE))
    for index, candidate in enumerate(candidates):
        candidate.restore(tensors[index], state.candidates[index], str(run_dir / CHECKPOINT_FILE))
    return state


def split_tensors(tensors: dict[str, Tensor]) -> dict[int, dict[str, Tensor]]:
    """`{"0/model/x": ...}` -> `{0: {"model/x": ...}}`."""
    found: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        index, _, rest = name.partition("/")
        found.setdefault(int(index), {})[rest] = tensor
    return found


def _whole(fabric: Fabric, part: Tensor, total: int) -> Tensor:
    """The `total` rows of a batch, in order, from the parts that the processes hold."""
    whole = part.new_zeros(total, *part.shape[1:])
    whole[fabric.global_rank :: fabric.world_size] = part
    return fabric.all_reduce(whole, reduce_op="sum")
