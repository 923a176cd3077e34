"""The loop of one part of a recipe, in each of its processes."""

from __future__ import annotations

import json
import logging
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from lightning.fabric import Fabric
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as recompute

from core_encoder.contrastive import VideoTextModel
from core_encoder.encoder import load_encoder
from core_encoder.errors import InputError
from core_encoder.layers import TransformerLayer
from core_encoder.run_log import RunLog
from core_encoder.storage import nearest, read_json
from core_encoder.text_tower import TextTokenizer
from core_encoder.vivit import ViViT, initialize
from pretrain.checkpoint import latest_checkpoint, load_checkpoint, save_checkpoint, whole
from pretrain.contrastive_stage import ContrastiveStage
from pretrain.corpus import Batch, Corpus
from pretrain.export import RECORD, export, open_model
from pretrain.manifest import Manifest
from pretrain.masked_stage import MaskedStage
from pretrain.optimizer import build_optimizer, learning_rate
from pretrain.probe import HeldOut, evaluate
from pretrain.progress import PartProgress, PretrainingStopped, ProgressCallback
from pretrain.recipe import PARTS, ContrastiveConfig, MaskedConfig, Recipe

log = logging.getLogger(__name__)

SKIPPED_FILE = "skipped.jsonl"
COLLAPSED = 1e-5  # spread of embeddings below which they say nothing; fresh encoders have 1e-3 and more
COLLAPSE_PATIENCE = 50  # steps in a row


def part_corpus(recipe: Recipe, manifest: Manifest, part: str) -> Corpus:
    """The tiers that a part trains on.

    Raises:
        InputError: a tier that the manifest lacks, or a corpus that cannot serve the part.
    """
    config = getattr(recipe, part)
    return Corpus(
        select(manifest, config.tiers),
        num_frames=config.num_frames,
        image_size=recipe.vision.image_size,
        seed=recipe.seed + 1000 * PARTS.index(part),
        mixing=config.mixing,
        need_captions=part != "stage2",
        max_unreadable=recipe.max_unreadable,
    )


def select(manifest: Manifest, names: Sequence[str]) -> Manifest:
    """The manifest with the tiers of these names alone; no name means all of them.

    Raises:
        InputError: a tier that it lacks.
    """
    known = [tier.name for tier in manifest.tiers]
    for name in names:
        if name not in known:
            raise InputError(f"tiers: the corpus has no tier {name!r}{nearest(name, known)}")
    return replace(manifest, tiers=tuple(tier for tier in manifest.tiers if not names or tier.name in names))


def initial_model(recipe: Recipe, part: str, out: Path) -> VideoTextModel:
    """What a part starts from: `start_from`, else the encoder of the part before, else fresh weights keyed by the seed.

    Raises:
        InputError: the part before is not finished, `start_from` or `initialize_from` has another shape.
    """
    before = recipe.parts[: recipe.parts.index(part)]
    start_from = getattr(recipe, part).start_from
    if start_from:
        model = _whole_model(start_from, recipe)
    elif before:
        folder = out / before[-1] / "encoder"
        if not (folder / RECORD).exists():
            raise InputError(f"{part} starts from {before[-1]}, which is not finished in {out}; run it first")
        model, _ = open_model(folder)
    else:
        with torch.random.fork_rng(devices=[]):  # leaves the caller's random state alone
            model = VideoTextModel(recipe.model)
        initialize(model, torch.Generator().manual_seed(recipe.seed))
        scale = recipe.position_scale
        generator = torch.Generator().manual_seed(recipe.seed + 1)
        for positions in (model.vision.spatial_positions, model.vision.temporal_positions):
            nn.init.normal_(positions, std=scale, generator=generator)
    config = getattr(recipe, part)
    if isinstance(config, ContrastiveConfig) and config.initialize_from:
        _take_spatial_half(model.vision, config.initialize_from)
    if not before and not start_from and (part == "images" or config.initialize_from):
        start_as_identity(model.vision.temporal_layers)
    return model


@torch.no_grad()
def start_as_identity(layers: nn.ModuleList) -> None:
    """Let fresh layers pass their input on at first, so that a trained spatial half is not drowned in noise."""
    for layer in layers:
        for linear in (layer.out, layer.fc2):
            linear.weight.zero_()
            linear.bias.zero_()


def _whole_model(source: str, recipe: Recipe) -> VideoTextModel:
    model = load_encoder(source).model
    if not isinstance(model, VideoTextModel) or model.config != recipe.model:
        raise InputError(f"start_from {source!r}: not the model that the recipe describes; give one of the same shape")
    return model.requires_grad_(True).train()


def _take_spatial_half(vision: ViViT, source: str) -> None:
    given = load_encoder(source).model
    if not isinstance(given, VideoTextModel):
        raise InputError(f"initialize_from {source!r}: not a VideoPrism-like encoder, its layers are others")
    spatial = ("patch_projection.", "spatial_")
    theirs = {name: tensor for name, tensor in given.vision.state_dict().items() if name.startswith(spatial)}
    ours = {name: tensor for name, tensor in vision.state_dict().items() if name.startswith(spatial)}
    for name in sorted(theirs.keys() | ours.keys()):
        if name not in theirs or name not in ours or theirs[name].shape != ours[name].shape:
            raise InputError(f"initialize_from {source!r}: its spatial half has another shape at {name}")
    vision.load_state_dict(vision.state_dict() | theirs)


@dataclass(frozen=True)
class PartRun:
    """One part of a recipe on its way; goes to other processes by pickling."""

    recipe: Recipe
    part: str
    out: Path
    tokenizer_file: Path
    progress: ProgressCallback | None = None

    @property
    def folder(self) -> Path:
        return self.out / self.part

    @property
    def config(self) -> ContrastiveConfig | MaskedConfig:
        config: ContrastiveConfig | MaskedConfig = getattr(self.recipe, self.part)
        return config

    def __call__(self, fabric: Fabric) -> None:
        """Train from the newest checkpoint to the end and export the encoder.

        Raises:
            PretrainingStopped: a NaN or a collapse, in every process at the same step.
            InputError: more unreadable clips than allowed, a full disk, a damaged checkpoint.
        """
        _Loop(self, fabric).go()

    def stage(self) -> ContrastiveStage | MaskedStage:
        """The module that learns."""
        model = initial_model(self.recipe, self.part, self.out)
        if isinstance(self.config, MaskedConfig):
            student = ViViT(self.recipe.vision)
            student.load_state_dict(model.vision.state_dict())
            stage = MaskedStage(student, model, self.config, self.recipe.seed)
            generator = torch.Generator().manual_seed(self.recipe.seed + 2)
            for name, child in stage.named_children():
                if name != "student":
                    initialize(child, generator)
            for parameter in (getattr(stage, n, None) for n in ("mask_token", "slot_positions")):
                if parameter is not None:
                    torch.nn.init.normal_(parameter, std=0.5, generator=generator)
            return stage
        return ContrastiveStage(model, self.tokenizer(), self.config, self.part, self.recipe.seed)

    def tokenizer(self) -> TextTokenizer:
        text = self.recipe.text
        return TextTokenizer(self.tokenizer_file, text.vocab_size, text.max_length)

    def held_out(self) -> HeldOut | None:
        """The clips that scores come from."""
        if self.recipe.held_out is None:
            return None
        recipe, frames = self.recipe, max(self.config.num_frames, 2)
        corpus = Corpus(
            Manifest.load(recipe.held_out),
            num_frames=frames,
            image_size=recipe.vision.image_size,
            seed=0,
            need_captions=False,
            max_unreadable=recipe.max_unreadable,
        )
        batches = [corpus.batch(step, 32) for step in range(math.ceil(recipe.held_out_clips / 32))]
        count = recipe.held_out_clips
        captions = tuple(caption for batch in batches for caption in batch.captions)
        labels = tuple(label for batch in batches for label in batch.labels)
        return HeldOut(torch.cat([batch.frames for batch in batches])[:count], captions[:count], labels[:count])


class _Loop:
    """One process's pass from the newest checkpoint to the end."""

    def __init__(self, run: PartRun, fabric: Fabric) -> None:
        self.run, self.fabric, self.config = run, fabric, run.config
        self.world, self.rank = fabric.world_size, fabric.global_rank
        if fabric.device.type == "cpu" and self.world > 1:
            torch.set_num_threads(max(1, (os.cpu_count() or 1) // self.world))  # threads of two processes would collide
        compute = run.recipe.compute
        self.stage = run.stage()
        prepare_layers(self.stage, compute.activation_checkpointing, compute.compile)
        self.module = fabric.setup_module(self.stage)
        self.stage_optimizer = build_optimizer(self.module, self.config)
        self.optimizer = fabric.setup_optimizers(self.stage_optimizer)
        self.manifest = Manifest.load(run.recipe.corpus)
        self.corpus = part_corpus(run.recipe, self.manifest, run.part)
        self.ema = {n: p.detach().clone() for n, p in self.stage.named_parameters()} if self.config.ema else {}
        self.step = 0
        self.stream_state: Any = None
        self.seconds = 0.0  # of training, over all starts
        self.skipped = 0
        self.last: dict[str, float] = {}
        self.scores: dict[str, float] = {}
        self.flat = 0  # steps in a row with collapsed embeddings
        newest = latest_checkpoint(run.folder)
        if newest is not None:
            about = load_checkpoint(newest, self.stage, self.stage_optimizer, self.ema)
            self.step, self.seconds, self.skipped = about["step"], about["seconds"], about["skipped"]
            self.last, self.stream_state = about["last"], about["stream_state"]
            if about["world"] != self.world and self.rank == 0:
                log.warning("%s: started by %d processes, goes on with %d: the same batches, shared out otherwise",
                            run.part, about["world"], self.world)  # fmt: skip
        self._held_out: HeldOut | None = None
        self._last_state: Any = self.stream_state

    @property
    def is_writer(self) -> bool:
        return bool(self.fabric.is_global_zero)

    def go(self) -> None:
        config, run = self.config, self.run
        first = self.step
        started = marked = time.monotonic()
        before_s, waited_s, clips, tokens = self.seconds, 0.0, 0, 0
        record = RunLog(run.folder, first) if self.is_writer else None
        batches = self.corpus.batches(
            config.batch_size // config.accumulate,
            first_step=first * config.accumulate,
            steps=config.steps * config.accumulate,
            rank=self.rank,
            world=self.world,
            workers=run.recipe.compute.workers,
            stream_state=self.stream_state,
        )
        source = iter(batches)
        while self.step < config.steps:
            for group in self.stage_optimizer.param_groups:
                group["lr"] = learning_rate(config, self.step)
            sums: dict[str, Tensor] = {}
            for micro in range(config.accumulate):
                asked = time.monotonic()
                batch = next(source)
                waited_s += time.monotonic() - asked
                self._note_skipped(batch)
                with self.fabric.no_backward_sync(self.module, enabled=micro + 1 < config.accumulate):
                    values = self.module.training_step(batch.frames, batch.captions, batch.step, batch.positions)
                    self.fabric.backward(values["loss"] / config.accumulate)
                for name, value in values.items():
                    sums[name] = sums.get(name, torch.zeros(())) + value.detach().float().cpu() / config.accumulate
                clips += len(batch.frames) * self.world
                tokens += self.stage.num_tokens(batch.frames) * self.world
                self._last_state = batch.stream_state
            norm = self._clip()
            self._check(sums, norm)
            self.optimizer.step()
            self.optimizer.zero_grad()
            self._average()
            self.step += 1
            if self.step % config.log_every == 0 or self.step == config.steps:
                self.last = {
                    name: float(self.fabric.all_reduce(value, reduce_op="mean")) for name, value in sums.items()
                }
                now = time.monotonic()
                span = max(now - marked, 1e-9)
                speeds = {"clips_per_s": clips / span, "tokens_per_s": tokens / span, "waiting": waited_s / span}
                watched = {"lr": learning_rate(config, self.step - 1), "gradient_norm": norm, "skipped": self.skipped}
                if record:
                    record.add(self.step, self.last | watched | speeds, tier=batch.tier)
                self._tell(clips / span, (now - started) / max(self.step - first, 1))
                marked, waited_s, clips, tokens = now, 0.0, 0, 0
            self.seconds = before_s + time.monotonic() - started
            if self._evaluates():
                self.scores = self._evaluate()
                if record and self.scores:
                    record.add(self.step, self.scores)
                marked = time.monotonic()
            if self.step % config.checkpoint_every == 0 and self.step < config.steps:
                self._save()
        self._save()
        self._export()
        if record:
            record.__exit__(None, None, None)
        self.fabric.barrier()

    def _clip(self) -> float:
        """The gradients' norm, after which they are clipped."""
        limit = self.config.clip_grad_norm or math.inf
        norm = self.fabric.clip_gradients(self.module, self.optimizer, max_norm=limit, error_if_nonfinite=False)
        return float(whole(norm)) if norm is not None else 0.0

    def _check(self, sums: dict[str, Tensor], norm: float) -> None:
        """Stop on a NaN and on collapsed embeddings; all processes see the same numbers.

        Raises:
            PretrainingStopped: with the step and the last good checkpoint.
        """
        loss = float(self.fabric.all_reduce(sums["loss"], reduce_op="mean"))
        spread = float(self.fabric.all_reduce(sums["embedding_variance"], reduce_op="mean"))
        self.flat = self.flat + 1 if spread < COLLAPSED else 0
        reason = ""
        if not (math.isfinite(loss) and math.isfinite(norm)):
            reason = f"the {'loss' if not math.isfinite(loss) else 'gradient'} became NaN or infinite"
        elif self.flat >= COLLAPSE_PATIENCE:
            reason = f"the embeddings collapsed (variance {spread:.1e} for {self.flat} steps)"
        if reason:
            newest = latest_checkpoint(self.run.folder) if self.is_writer else None
            kept = f"the last good checkpoint is {newest}" if newest else "there is no checkpoint yet"
            raise PretrainingStopped(
                f"{self.run.part}: {reason} at step {self.step + 1} of {self.config.steps}; {kept}; "
                "lower lr or raise warmup_steps, and run again with --restart"
            )

    @torch.no_grad()
    def _average(self) -> None:
        for name, parameter in self.stage.named_parameters():
            if name in self.ema:
                self.ema[name].lerp_(parameter.detach(), 1 - self.config.ema)

    def _note_skipped(self, batch: Batch) -> None:
        self.skipped += len(batch.skipped)
        if batch.skipped:
            path = self.run.folder / SKIPPED_FILE
            with path.open("a", encoding="utf-8") as file:
                for skipped in batch.skipped:
                    file.write(json.dumps(asdict(skipped)) + "\n")

    def _tell(self, clips_per_s: float, step_s: float) -> None:
        if self.run.progress and self.is_writer:
            left = (self.config.steps - self.step) * step_s
            self.run.progress(
                PartProgress(self.run.part, self.step, self.config.steps, self.last["loss"], clips_per_s, left)
            )

    def _save(self) -> None:
        about = {
            "seconds": self.seconds,
            "skipped": self.skipped,
            "last": self.last,
            "world": self.world,
            "stream_state": self._states(),
        }
        keep = self.run.recipe.compute.keep_checkpoints
        save_checkpoint(
            self.run.folder, self.step, self.stage, self.stage_optimizer, self.ema, about, keep, self.is_writer
        )

    def _states(self) -> Any:
        """Where the streams of all processes stand."""
        if self.world == 1 or self._last_state is None:
            return self._last_state
        states: list[Any] = [None] * self.world
        torch.distributed.all_gather_object(states, self._last_state)
        return states

    def _evaluates(self) -> bool:
        every = self.config.evaluate_every
        return self.step == self.config.steps or bool(every and self.step % every == 0)

    def _evaluate(self) -> dict[str, float]:
        if self._held_out is None:
            self._held_out = self.run.held_out()
        if self._held_out is None:
            return {}
        model = self._whole_model()
        tokenizer = self.run.tokenizer()
        return evaluate(
            model.to(self.fabric.device), tokenizer, self._held_out, self.fabric.device, self.run.recipe.seed
        )

    def _whole_model(self) -> VideoTextModel:
        """A copy of what the part has made so far: whole weights, averaged where that is asked for."""
        model, _ = self.stage.exported()
        copy = VideoTextModel(model.config)
        prefix = "" if isinstance(self.stage, MaskedStage) else "model."
        averaged = {name.removeprefix(prefix): value for name, value in self.ema.items()}
        if isinstance(self.stage, MaskedStage):
            averaged = {name.replace("student.", "vision."): value for name, value in averaged.items()}
        copy.load_state_dict({name: whole(averaged.get(name, value)) for name, value in model.state_dict().items()})
        return copy

    def _export(self) -> None:
        run, recipe = self.run, self.run.recipe
        model = self._whole_model()
        if not self.is_writer:
            return
        earlier: dict[str, Any] = {}
        before = recipe.parts[: recipe.parts.index(run.part)]
        if before and not self.config.start_from:
            earlier = read_json(run.out / before[-1] / "encoder" / RECORD)["parts"]
        mine = {
            "steps": self.config.steps,
            "clips": self.config.steps * self.config.batch_size,
            "loss": self.last["loss"],
            "seconds": self.seconds,
            "skipped": self.skipped,
            "processes": self.world,
            "device": self.fabric.device.type,
            "scores": self.scores,
            **self.stage.exported()[1],
        }
        record = {
            "recipe": recipe.describe(),
            "corpus": self.corpus.describe(),
            "corpus_clips": len(self.corpus),
            "held_out_clips": recipe.held_out_clips if recipe.held_out else 0,
            "parts": {**earlier, run.part: mine},
        }
        export(recipe, model, run.tokenizer(), run.folder / "encoder", record)


def prepare_layers(module: nn.Module, activation_checkpointing: bool, compiled: bool) -> None:
    """Switch on recomputation of activations and compilation, layer by layer; names and outputs stay as they are."""
    for layer in module.modules():
        if isinstance(layer, TransformerLayer):
            if activation_checkpointing:
                layer.forward = _recomputed(layer.forward)  # type: ignore[method-assign]
            if compiled:
                layer.compile()


def _recomputed(forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def run(*args: Any, **kwargs: Any) -> Tensor:
        out: Tensor = recompute(forward, *args, use_reentrant=False, **kwargs)
        return out

    return run
