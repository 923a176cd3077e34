"""The training loop itself: one pass over the features feeds every candidate; a checkpoint continues it exactly.

A checkpoint is one safetensors file, so it is whole or absent: weights, optimizer state and best weights of every
candidate, and in its header where the run stood. Order and dropout are keyed by (seed, epoch, step), so nothing else is
needed to go on as if nothing had happened.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from adapters.adapter import Adapter
from adapters.context import Context
from adapters.features import FeatureDataset, epoch_batches, read_ahead
from adapters.training.candidate import Candidate, any_active
from adapters.training.grid import Setting
from adapters.training.training_config import (
    MetricFactory,
    TrainingConfig,
    TrainingDiverged,
    TrainingProgress,
)
from adapters.training.validation import score_of, validate
from core_encoder.errors import InputError
from core_encoder.files.storage import read_tensors, write_tensors
from fit.checkpoint import header_for, read_header
from fit.launch import Interruption, Tell
from fit.run_log import RunLog

if TYPE_CHECKING:
    from lightning.fabric import Fabric

    from adapters.tuning.tuned_adapter import Tuning
    from fit.device import OneDevice

CHECKPOINT_FILE = "checkpoint.safetensors"
LOG_EVERY_STEPS = 10
log = logging.getLogger(__name__)


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
    context: Context
    config: TrainingConfig
    train_set: FeatureDataset
    val_set: FeatureDataset  # may be empty
    metric: MetricFactory | None
    run_dir: Path
    tuning: Tuning | None = None  # of the encoder, which is frozen without it

    def __call__(self, fabric: Fabric | OneDevice, interruption: Interruption, tell: Tell) -> None:
        """Train to the end, from the checkpoint in `run_dir` where there is one.

        Raises:
            TrainingDiverged: no candidate is left.
            KeyboardInterrupt: asked for and obeyed, in every process after the same step, which is kept.
        """
        if self.config.accumulate > 1 and self.kind.even_shares:
            raise InputError(f"accumulate: the loss of {self.kind.kind!r} needs the whole batch at once; leave it at 1")
        fewest = min(len(s) for s in (self.train_set, self.val_set) if len(s))
        if min(fewest, self.batch_size // 2) < fabric.world_size > 1:
            raise InputError(
                f"{fewest} samples in batches of {self.batch_size} cannot be shared by {fabric.world_size} "
                "devices; use fewer devices"
            )
        steps = len(epoch_batches(len(self.train_set), self.batch_size, 0, 0))
        candidates, first = [], self.train_set[0]
        for setting in self.settings:
            adapter = self.build(setting)
            adapter.check_example(first)
            if self.tuning is not None:  # the encoder is asked where it will train
                adapter.to(fabric.device)
            adapter.calibrate(self.train_set)
            total = steps * self.config.epochs
            candidates.append(Candidate(setting.name, adapter, setting.training, total, fabric))
        state = read_checkpoint(self.run_dir, candidates)
        with TrainingLoop(self, fabric, interruption, tell, candidates, state, steps) as loop:
            loop.go()

    @property
    def batch_size(self) -> int:
        """Samples a step, over all devices together."""
        return self.config.batch_size or self.kind.batch_size

    def build(self, setting: Setting) -> Adapter:
        """The fresh head of a setting, with its encoder where that trains, too."""
        head = self.kind.build(setting.head, self.context, seed=self.config.seed)
        if self.tuning is None:
            return head
        from adapters.tuning.tuned_adapter import TunedAdapter

        return TunedAdapter.around(head, self.tuning, self.config.seed)


class TrainingLoop:
    """One process's way through a run, from where `state` stands to the end."""

    def __init__(
        self,
        run: TrainingRun,
        fabric: Fabric | OneDevice,
        interruption: Interruption,
        tell: Tell,
        candidates: list[Candidate],
        state: RunState,
        steps_per_epoch: int,
    ) -> None:
        self.run, self.fabric, self.candidates, self.state = run, fabric, candidates, state
        self.interruption, self.tell = interruption, tell
        self.steps_per_epoch = steps_per_epoch
        self.log = RunLog(run.run_dir, self.step) if fabric.is_global_zero else None
        self.started_s = self.saved_s = time.monotonic()
        self.samples = 0
        self.first_step = self.step

    def __enter__(self) -> TrainingLoop:
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
            scores, losses = self._validate() if len(self.run.val_set) else ({}, {})
            self._close_epoch(scores, losses)
            state.epoch, state.step = state.epoch + 1, 0
            self._keep_if_due()
        state.done = True
        self._checkpoint()
        self.fabric.barrier()  # nobody reads it before the writer is through

    def _train_epoch(self) -> None:
        config, state = self.run.config, self.state
        rank, world = self.fabric.global_rank, self.fabric.world_size
        plan = epoch_batches(len(self.run.train_set), self.run.batch_size, config.seed, state.epoch)[state.step :]
        even = self.run.kind.even_shares
        mine = [indices[rank : len(indices) // world * world if even else None : world] for indices in plan]
        parts = [
            equal_parts(share, config.accumulate, -(-len(indices) // world), len(indices) // world)
            for indices, share in zip(plan, mine, strict=True)
        ]
        of_epoch = getattr(self.run.train_set, "of_epoch", None)
        seen = self.run.train_set if of_epoch is None else of_epoch(state.epoch, config.seed)
        reader = read_ahead(seen, [part for share in parts for part in share], self.candidates[0].collate)
        for indices, share in zip(plan, parts, strict=True):
            batches = [next(reader).to(self.fabric.device) for _ in share]
            for candidate in self.candidates:
                if candidate.active:
                    candidate.step(batches, self.step)
                    self._check(candidate)
            state.step += 1
            self.samples += len(indices)
            if self.step % LOG_EVERY_STEPS == 0 and self.log:
                for candidate in self.candidates:
                    if candidate.active:
                        rate = candidate.learning_rate(self.step - 1)
                        self.log.add(self.step, {"loss": candidate.last_loss, "lr": rate}, setting=candidate.name)
            self._report("train")
            self._keep_if_due()

    def _check(self, candidate: Candidate) -> None:
        if not candidate.progression.diverged:
            return
        batch = min(self.state.step + 1, self.steps_per_epoch)
        where = (
            f"setting {candidate.name!r}: {candidate.progression.stopped} "
            f"(epoch {self.state.epoch + 1}, batch {batch} of {self.steps_per_epoch})"
        )
        if all(other.progression.diverged for other in self.candidates):
            raise TrainingDiverged(f"{where}; lower the learning rate, or check the features")
        log.warning("%s; it trains no further, the other settings go on", where)

    def _validate(self) -> tuple[dict[str, float], dict[str, float]]:
        """Validation scores and losses of the active candidates."""
        active = [candidate for candidate in self.candidates if candidate.active]
        judgements = validate(active, self.run.val_set, self.run.batch_size, self.fabric, self._validated)
        scores, losses = {}, {}
        for candidate, judgement in zip(active, judgements, strict=True):
            if judgement.broken == "features":
                raise InputError("the validation features hold NaN or infinity: encode them again")
            if judgement.broken:
                candidate.diverge(f"the validation scores became NaN or infinite after step {self.step}")
                self._check(candidate)
                continue
            losses[candidate.name] = judgement.loss
            scores[candidate.name] = score_of(candidate, judgement, self.run.metric)
        return scores, losses

    def _close_epoch(self, scores: dict[str, float], losses: dict[str, float]) -> None:
        for candidate in self.candidates:
            if not candidate.active:
                continue
            score = scores.get(candidate.name)
            values = {"train_loss": candidate.close_epoch(score)}
            if score is not None:
                values |= {"val_loss": losses[candidate.name], "val_score": score}
            self.state.history.append({"epoch": self.state.epoch, "setting": candidate.name, **values})
            if self.log:
                self.log.add(self.step, values, setting=candidate.name, epoch=self.state.epoch)

    def _validated(self) -> None:
        self._report("validate")
        if self.fabric.world_size == 1 and self.interruption.asked:  # several may have other numbers of batches
            self._keep_if_due()

    def _keep_if_due(self) -> None:
        """Keep the step where any process finds it time, or was asked to stop, which all obey together.

        Raises:
            KeyboardInterrupt: somebody was asked.
        """
        due = time.monotonic() - self.saved_s >= self.run.config.checkpoint_every_s
        wishes = torch.tensor([float(due), float(self.interruption.asked)], device=self.fabric.device)
        due, asked = self.fabric.all_reduce(wishes, reduce_op="sum").bool().tolist()
        if due or asked:
            self._checkpoint()
        if asked:
            self.fabric.barrier()  # the writer is through
            raise KeyboardInterrupt

    def _report(self, phase: Any) -> None:
        if not self.fabric.is_global_zero:
            return
        spent_s = max(time.monotonic() - self.started_s, 1e-9)
        total = self.steps_per_epoch * self.run.config.epochs
        left = (total - self.step) * spent_s / max(self.step - self.first_step, 1)
        best = {c.name: c.progression.best_score for c in self.candidates}
        losses = {c.name: c.last_loss for c in self.candidates if c.active}
        known = {name: score for name, score in best.items() if score is not None}
        epoch = min(self.state.epoch + 1, self.run.config.epochs)
        rate, epochs = self.samples / spent_s, self.run.config.epochs
        self.tell(TrainingProgress(phase, epoch, epochs, self.step, total, losses, known, rate, left))

    def _checkpoint(self) -> None:
        write_checkpoint(self.run.run_dir, self.state, self.candidates, self.fabric.is_global_zero)
        self.saved_s = time.monotonic()


def equal_parts(share: Sequence[int], count: int, largest: int, smallest: int) -> list[list[int]]:
    """A process's share of a batch in at most `count` parts, as many as in the others, whose shares are of these sizes.

    With sharded weights all processes have to take them together.
    """
    size = -(-largest // count)
    parts = min(-(-largest // size), smallest)
    return [part.tolist() for part in np.array_split(np.asarray(share), parts)]


def write_checkpoint(run_dir: Path, state: RunState, candidates: Sequence[Candidate], is_writer: bool) -> None:
    """Write the checkpoint of a run, atomically.

    Every process calls it, since sharded weights are gathered; `is_writer` names the one that writes.
    """
    tensors: dict[str, Tensor] = {}
    for index, candidate in enumerate(candidates):
        tensors |= {f"{index}/{name}": tensor for name, tensor in candidate.tensors().items()}
    about = vars(state) | {"candidates": [candidate.counters() for candidate in candidates]}
    if is_writer:
        write_tensors(run_dir / CHECKPOINT_FILE, tensors, header_for(about))


def read_state(run_dir: Path) -> RunState | None:
    """Where the run in `run_dir` stands; None when it has no checkpoint yet.

    Raises:
        InputError: the checkpoint is damaged.
    """
    file = run_dir / CHECKPOINT_FILE
    if not file.exists():
        return None
    try:
        return RunState(**read_header(file, "restart the run"))
    except TypeError as error:
        raise InputError(f"{file}: not the checkpoint of a run of adapters; restart the run") from error


def read_checkpoint(run_dir: Path, candidates: Sequence[Candidate]) -> RunState:
    """Restore the candidates from the checkpoint in `run_dir`; a fresh state when there is none."""
    state = read_state(run_dir)
    if state is None:
        return RunState()
    tensors = read_split(run_dir / CHECKPOINT_FILE, len(candidates))
    for index, candidate in enumerate(candidates):
        candidate.restore(tensors[index], state.candidates[index], str(run_dir / CHECKPOINT_FILE))
    return state


def read_split(file: Path, count: int) -> list[dict[str, Tensor]]:
    """The tensors of a checkpoint by setting, of which there are so many: `{"0/model/x": ...}` -> `[{"model/x": ...}]`.

    Raises:
        InputError: the file is damaged, or of another run.
    """
    found: list[dict[str, Tensor]] = [{} for _ in range(count)]
    for name, tensor in read_tensors(file).items():
        index, _, rest = name.partition("/")
        if not index.isdecimal() or int(index) >= count or rest.partition("/")[0] not in ("model", "best", "optimizer"):
            raise InputError(f"{file}: not the checkpoint of a run of adapters ({name!r}); restart the run")
        found[int(index)][rest] = tensor
    return found
