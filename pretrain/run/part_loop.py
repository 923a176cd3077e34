"""The loop of one part of a recipe, in each of its processes."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.fabric import Fabric
from torch import Tensor, nn

from core_encoder.errors import InputError
from core_encoder.files.storage import read_json, write_text, writing_to
from core_encoder.models.layers import TransformerLayer
from core_encoder.models.video_text import VideoTextModel
from fit.checkpoint import full_tensor
from fit.launch import Interruption, Tell
from fit.recompute import recompute_activations
from fit.run_log import RunLog
from pretrain.corpus.batch import ClipBatch, Skipped
from pretrain.run.checkpoint import checkpoints, latest_checkpoint, load_checkpoint, read_about, save_checkpoint
from pretrain.run.export import RECORD, export, published
from pretrain.run.initial_weights import part_before
from pretrain.run.part_run import PartRun
from pretrain.run.probe import HeldOut, evaluate
from pretrain.run.progress import PartProgress, PretrainingStopped
from pretrain.run.run_folder import ENCODER, RUN_FILE
from pretrain.stages.masked_stage import MaskedStage
from pretrain.stages.optimizer import build_optimizer, learning_rate, set_learning_rates

log = logging.getLogger(__name__)

SKIPPED_FILE = "skipped.jsonl"
COLLAPSED = 1e-5  # spread of embeddings below which they say nothing; fresh encoders have 1e-3 and more
COLLAPSE_PATIENCE = 50  # steps in a row


@dataclass(frozen=True)
class PartLoop:
    """The work of one process on a part: from the newest checkpoint to the end, then the encoder's folder.

    Raises:
        PretrainingStopped: a NaN or a collapse, in every process at the same step.
        KeyboardInterrupt: asked for and obeyed, in every process after the same step, which is kept.
        InputError: more unreadable clips than allowed, a full disk, a damaged checkpoint.
    """

    run: PartRun

    def __call__(self, fabric: Fabric, interruption: Interruption, tell: Tell) -> None:
        PartTraining(self.run, fabric, interruption, tell).go()


@dataclass
class _Window:
    """What has been seen since the last record, for rates."""

    began: float
    clips: int = 0
    tokens: int = 0
    waited_s: float = 0.0

    def rates(self) -> dict[str, float]:
        span = max(time.monotonic() - self.began, 1e-9)
        return {"clips_per_s": self.clips / span, "tokens_per_s": self.tokens / span, "waiting": self.waited_s / span}


class PartTraining:
    """One process's pass from the newest checkpoint to the end."""

    def __init__(self, run: PartRun, fabric: Fabric, interruption: Interruption, tell: Tell) -> None:
        self.run, self.fabric, self.config = run, fabric, run.config
        self.interruption, self.tell = interruption, tell
        self.world, self.is_writer = fabric.world_size, bool(fabric.is_global_zero)
        compute = run.recipe.compute
        self.stage = run.stage()
        prepare_layers(self.stage, compute.activation_checkpointing, compute.compile)
        # Lightning sends `training_step` through DDP alone: precision and FSDP2 act on `forward`, with any strategy.
        self.stage.forward = self.stage.training_step
        self.module = fabric.setup_module(self.stage)
        self.bare_optimizer = build_optimizer(self.module, self.config)
        self.optimizer = fabric.setup_optimizers(self.bare_optimizer)
        self.ema = {n: p.detach().clone() for n, p in self.stage.named_parameters()} if self.config.ema else {}
        self.step = 0
        self.seconds = 0.0  # of training, over all starts
        self.skipped = 0  # clips, over all processes
        self.last: dict[str, float] = {}  # what was measured at the last step
        self.scores: dict[str, float] = {}
        self.stream_state: Any = None
        self.held_out: HeldOut | None = None
        self.judged = 0  # held-out clips that the scores are of
        self.flat = 0  # steps in a row with collapsed embeddings
        self._resume()

    def _resume(self) -> None:
        newest = latest_checkpoint(self.run.folder)
        if newest is not None:
            about = load_checkpoint(newest, self.stage, self.bare_optimizer, self.ema)
            self.step, self.seconds, self.skipped = about["step"], about["seconds"], about["skipped"]
            self.last, self.scores, self.stream_state = about["last"], about.get("scores", {}), about["stream_state"]
            self.flat, self.judged = about.get("flat", 0), about.get("judged", 0)
            if about["world"] != self.world and self.is_writer:
                log.warning(
                    "%s: begun by %d process%s, goes on with %d: the same batches, shared out otherwise",
                    *(self.run.part, about["world"], "" if about["world"] == 1 else "es", self.world),
                )
        if self.is_writer:
            self._cut_skipped()
        self.corpus = self.run.corpus  # on another machine it may be indexed now, for which the others wait below
        self.fabric.barrier()  # nobody notes a skipped clip before

    def go(self) -> None:
        """Train to the end and export."""
        config, first = self.config, self.step
        started, before_s = time.monotonic(), self.seconds
        batches = self.corpus.batches(
            self.run.micro_batch,
            first_step=first * config.accumulate,
            steps=config.steps * config.accumulate,
            rank=self.fabric.global_rank,
            world=self.world,
            workers=self.run.recipe.compute.workers,
            stream_state=self.stream_state,
            skipped=round(self.skipped / self.world),
            tell_skipped=self._note_skipped,
        )
        source = iter(batches)
        window = _Window(started)
        with RunLog(self.run.folder, first) if self.is_writer else nullcontext() as record:
            while self.step < config.steps:
                set_learning_rates(self.bare_optimizer, config, self.step)
                with self._kept(before_s, started):
                    tier, interrupted = self._advance(source, window)
                self.seconds = before_s + time.monotonic() - started
                if self.step % config.log_every == 0 or self.step == config.steps:
                    rates = window.rates()
                    if record:
                        watched = {"lr": learning_rate(config, self.step - 1), "skipped": self.skipped}
                        record.add(self.step, self.last | watched | rates, tier=tier)
                    self._report(rates["clips_per_s"], (time.monotonic() - started) / (self.step - first))
                    window = _Window(time.monotonic())
                if self._evaluates():
                    self.scores = {}  # those of an earlier step are not what `_kept` may save with this one
                    with self._kept(before_s, started):
                        self.scores = self._evaluate()
                    if record and self.scores:
                        record.add(self.step, self.scores)
                    window = _Window(time.monotonic())
                if interrupted or self.step % config.checkpoint_every == 0 or self.step == config.steps:
                    self._save()
                if interrupted and self.step < config.steps:
                    self.fabric.barrier()  # the writer is through
                    raise KeyboardInterrupt
        if first == config.steps and not self.scores:  # its last step was kept, but could not be judged
            self.scores = self._evaluate()
        self._export()
        self.fabric.barrier()

    @contextmanager
    def _kept(self, before_s: float, started: float) -> Iterator[None]:
        """Keep the last step where clips cannot be read: once they are repaired, the run goes on from there."""
        try:
            yield
        except InputError:
            self.seconds = before_s + time.monotonic() - started
            self._keep()
            raise

    def _advance(self, source: Any, window: _Window) -> tuple[str, bool]:
        """Take one step; the tier of its batch, "mixed" of several, and whether anybody asked to stop.

        Raises:
            PretrainingStopped: as `_check`.
        """
        config = self.config
        sums: dict[str, Tensor] = {}
        tiers: set[str] = set()
        skipped = 0
        for micro in range(config.accumulate):
            asked = time.monotonic()
            batch: ClipBatch = next(source)
            window.waited_s += time.monotonic() - asked
            tiers.add(batch.tier)
            skipped += len(batch.skipped)
            with self.fabric.no_backward_sync(self.module, enabled=micro + 1 < config.accumulate):
                values = self.module(batch.frames, batch.captions, batch.step, batch.positions)
                self.fabric.backward(values["loss"] / config.accumulate)
            for name, value in values.items():
                sums[name] = sums.get(name, 0.0) + value.detach().float() / config.accumulate
            window.clips += len(batch.frames) * self.world
            window.tokens += self.stage.num_tokens(batch.frames) * self.world
            self.stream_state = batch.stream_state
        norm = self._clip()
        wishes = {"skipped": float(skipped), "interrupted": float(self.interruption.asked)}
        means = self._mean({**sums, **wishes})  # the same numbers in all processes, so that all decide alike
        interrupted = means.pop("interrupted") > 0
        self.skipped += round(means.pop("skipped") * self.world)
        self.last = {**means, "gradient_norm": norm}
        self._check(means["loss"], norm, means["embedding_variance"])
        self.optimizer.step()
        self.stage.on_before_zero_grad(self.bare_optimizer)
        self.optimizer.zero_grad()
        self._average()
        self.step += 1
        return tiers.pop() if len(tiers) == 1 else "mixed", interrupted

    def _clip(self) -> float:
        """The gradients' norm, after which they are clipped."""
        limit = self.config.clip_grad_norm or math.inf
        norm = self.fabric.clip_gradients(self.module, self.optimizer, max_norm=limit, error_if_nonfinite=False)
        return float(full_tensor(norm)) if norm is not None else 0.0

    def _mean(self, values: dict[str, Any]) -> dict[str, float]:
        """Means over all processes."""
        row = torch.stack([torch.as_tensor(value, device=self.fabric.device).reshape(()) for value in values.values()])
        return dict(zip(values, self.fabric.all_reduce(row, reduce_op="mean").tolist(), strict=True))

    def _check(self, loss: float, norm: float, spread: float) -> None:
        """Stop on a NaN and on collapsed embeddings.

        Raises:
            PretrainingStopped: with the step and the last good checkpoint.
        """
        self.flat = self.flat + 1 if spread < COLLAPSED else 0
        reason = ""
        if not (math.isfinite(loss) and math.isfinite(norm)):
            reason = f"the {'loss' if not math.isfinite(loss) else 'gradient'} became NaN or infinite"
        elif self.flat >= COLLAPSE_PATIENCE:
            reason = f"the embeddings collapsed (variance {spread:.1e} for {self.flat} steps)"
        if reason:
            good = self._last_good()
            where = f"the last good checkpoint is {good}" if good else "there is no good checkpoint yet"
            raise PretrainingStopped(
                f"{self.run.part}: {reason} at step {self.step + 1} of {self.config.steps}; {where}; "
                f"lower lr or raise warmup_steps, and run again with --stage {self.run.part} --restart"
            )

    def _last_good(self) -> Path | None:
        """The newest checkpoint from which a step was taken that went well."""
        for path in reversed(checkpoints(self.run.folder)):
            about = read_about(path)
            if about["step"] < self.step and not about.get("flat", 0):
                return path
        return None

    @torch.no_grad()
    def _average(self) -> None:
        for name, parameter in self.stage.named_parameters():
            if name in self.ema:
                self.ema[name].lerp_(parameter.detach(), 1 - self.config.ema)

    def _note_skipped(self, skipped: Sequence[Skipped]) -> None:
        path = self.run.folder / SKIPPED_FILE
        with writing_to(path), path.open("a", encoding="utf-8") as file:
            file.write("".join(json.dumps(asdict(one)) + "\n" for one in skipped))

    def _cut_skipped(self) -> None:
        """Drop what a killed run noted beyond its last checkpoint."""
        file = self.run.folder / SKIPPED_FILE
        if file.exists():
            lines = file.read_text(encoding="utf-8").split("\n")[:-1]
            kept = [line for line in lines if _step_of(line) < self.step * self.config.accumulate]
            write_text(file, "".join(f"{line}\n" for line in kept))

    def _report(self, clips_per_s: float, step_s: float) -> None:
        if self.is_writer:
            left_s = (self.config.steps - self.step) * step_s
            self.tell(PartProgress(self.run.part, self.step, self.config.steps, self.last["loss"], clips_per_s, left_s))

    def _save(self) -> None:
        about = {
            "seconds": self.seconds,
            "skipped": self.skipped,
            "last": self.last,
            "scores": self.scores,
            "judged": self.judged,
            "flat": self.flat,
            "world": self.world,
            "stream_state": self._states(),
        }
        keep = self.run.recipe.compute.keep_checkpoints + self.flat  # the last good ones outlive a collapse
        save_checkpoint(
            self.run.folder, self.step, self.stage, self.bare_optimizer, self.ema, about, keep, self.is_writer
        )

    def _keep(self) -> None:
        """Save the last step that was taken, where no other process has to join in and no step is half taken."""
        if self.world > 1 or self.config.accumulate > 1 or not self.step:
            return
        newest = latest_checkpoint(self.run.folder)  # it sweeps the folder: no other process may be saving
        if newest is None or read_about(newest)["step"] < self.step:
            self._save()

    def _states(self) -> Any:
        """Where the streams of all processes stand."""
        if self.world == 1 or self.stream_state is None:
            return self.stream_state
        states: list[Any] = [None] * self.world
        torch.distributed.all_gather_object(states, self.stream_state)
        return states

    def _evaluates(self) -> bool:
        every = self.config.evaluate_every
        return self.step == self.config.steps or bool(every and self.step % every == 0)

    def _evaluate(self) -> dict[str, float]:
        """Scores on the held-out clips, in the writing process."""
        if self.run.recipe.held_out is None:
            return {}
        model = self._made()
        if not self.is_writer:
            return {}
        if self.held_out is None:
            self.held_out = self.run.held_out()
        assert self.held_out is not None
        self.judged = len(self.held_out.captions)
        device = self.fabric.device
        return evaluate(model.to(device), self.run.tokenizer, self.held_out, device, self.run.recipe.seed)

    def _made(self) -> VideoTextModel:
        """A copy of what the part has made so far: whole weights, averaged where that is asked for."""
        model, _ = self.stage.exported()
        copy = VideoTextModel(model.config)
        own, theirs = ("student.", "vision.") if isinstance(self.stage, MaskedStage) else ("model.", "")
        averaged = {theirs + name.removeprefix(own): value for name, value in self.ema.items() if name.startswith(own)}
        made = {name: averaged.get(name, value) for name, value in model.state_dict().items()}
        copy.load_state_dict({name: full_tensor(value) for name, value in made.items()})
        return copy

    def _export(self) -> None:
        run, recipe = self.run, self.run.recipe
        model = self._made()
        learned = self.stage.exported()[1]  # in every process: it may be sharded
        if not self.is_writer:
            return
        before = part_before(recipe, run.part, run.out)
        earlier = read_json(before / RECORD) if before else {"parts": {}, "corpus": []}
        for part in list(earlier["parts"].values())[-1:]:
            part["fingerprint"] = earlier["fingerprint"]  # of the encoder that it left
        tiers = {tier["name"]: tier for tier in [*earlier["corpus"], *self.corpus.describe()]}
        start = read_json(run.folder / RUN_FILE).get("start")
        mine = {
            "steps": self.config.steps,
            "clips": self.config.steps * self.config.batch_size,
            "loss": self.last["loss"],
            "seconds": self.seconds,
            "skipped": self.skipped,
            "processes": self.world,
            "device": self.fabric.device.type,
            "scores": self.scores,
            **({"started_from": start} if self.config.start_from and start else {}),
            **learned,
        }
        record = {
            "recipe": published(recipe),
            "corpus": list(tiers.values()),
            "held_out_clips": self.judged,
            "parts": {**earlier["parts"], run.part: mine},
        }
        export(recipe, model, run.tokenizer, run.folder / ENCODER, record)


def _step_of(line: str) -> float:
    """The step that a line of the skipped clips is of; infinity for one that a killed process tore."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf


def prepare_layers(module: nn.Module, activation_checkpointing: bool, compiled: bool) -> None:
    """Switch on recomputation of activations and compilation, layer by layer; names and outputs stay as they are."""
    for layer in module.modules():
        if isinstance(layer, TransformerLayer):
            if activation_checkpointing:
                recompute_activations([layer])
            if compiled:
                layer.compile()
