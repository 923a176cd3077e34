"""What a recipe will cost, before anything is trained: parameters, tokens, memory of a GPU, arithmetic, GPU-days.

Models are built on the meta device, where weights have shapes and no values. Arithmetic counts matrix products alone,
two operations for each multiply-add, with the shapes that the layers really compute; memory counts what lives through
a step (allocator and temporary buffers come on top, about 2 GB).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, cast

import torch
from torch import nn

from core_encoder.errors import InputError
from core_encoder.models.layers import TransformerLayer
from core_encoder.models.text_tower import Tokenizer
from core_encoder.models.video_text import VideoTextModel
from core_encoder.models.vivit import ViViT
from pretrain.recipe import ContrastiveConfig, MaskedConfig, Recipe
from pretrain.run.forward_cost import Cost, CostModel, masked_group_sizes
from pretrain.stages.contrastive_stage import ContrastiveStage
from pretrain.stages.masked_stage import MaskedStage
from pretrain.stages.masking import hidden_tokens, visible_patches

H100_FLOPS = 989e12
"""Dense bf16 matrix products of one H100 SXM in a second, by its data sheet."""

UTILISATION = 0.4
"""Share of `H100_FLOPS` that a well-fed training run of such models sustains; an assumption, not a measurement."""

_FLOAT32 = 4


@dataclass(frozen=True)
class Memory:
    """Bytes on each GPU at the height of a step."""

    parameters: float  # float32, this GPU's share
    gradients: float
    optimizer: float  # and the moving average of the weights, where one is kept
    compute_copies: float  # weights and gradients in the precision of the products: gathered layers, or all with DDP
    teacher: float  # whole on every GPU
    inputs: float
    activations: float

    @property
    def total(self) -> float:
        return sum(asdict(self).values())


@dataclass(frozen=True)
class PartScale:
    """One part of a recipe; flops are those of a step over all GPUs."""

    part: str
    steps: int
    clips_per_step: int
    clips_per_gpu: int  # at once: a step accumulates as many batches as the recipe says
    parameters: dict[str, int]
    trained_parameters: int
    tokens_per_clip: int
    forward_flops: float
    backward_flops: float
    recompute_flops: float  # 0 without activation checkpointing
    memory: Memory
    activations_kept: float  # bytes of a GPU without activation checkpointing, and with it
    activations_recomputed: float

    @property
    def tokens_per_step(self) -> int:
        """Tokens that the trained encoder computes."""
        return self.clips_per_step * self.tokens_per_clip

    @property
    def flops(self) -> float:
        """Of a step."""
        return self.forward_flops + self.backward_flops + self.recompute_flops

    def gpu_days(self, utilisation: float = UTILISATION) -> float:
        """H100-days of all steps."""
        return self.flops * self.steps / (utilisation * H100_FLOPS) / 86400


@dataclass(frozen=True)
class DryRun:
    """The scale of every part of a recipe on so many GPUs."""

    name: str
    gpus: int
    strategy: str
    precision: str
    activation_checkpointing: bool
    utilisation: float
    parts: tuple[PartScale, ...]

    @property
    def gpu_days(self) -> float:
        return sum(part.gpu_days(self.utilisation) for part in self.parts)

    def describe(self) -> dict[str, Any]:
        """Every number, ready for JSON."""
        about = asdict(self) | {"h100_days": self.gpu_days}
        for row, part in zip(about["parts"], self.parts, strict=True):
            row |= {"tokens_per_step": part.tokens_per_step, "h100_days": part.gpu_days(self.utilisation)}
            row["memory"]["total"] = part.memory.total
        about["parts"] = list(about["parts"])
        return about

    def table(self) -> list[tuple[str, ...]]:
        """Rows of text, the head first: what, and one column for each part."""
        parts = self.parts

        def row(what: str, values: Iterable[str]) -> tuple[str, ...]:
            return (what, *values)

        rows = [row("", (part.part for part in parts))]
        for name in dict.fromkeys(name for part in parts for name in part.parameters):
            counts = (part.parameters.get(name) for part in parts)
            rows.append(row(f"parameters: {name}", (_millions(count) if count else "-" for count in counts)))
        kept = "activations, all kept" if self.activation_checkpointing else "activations, if computed again"
        other = [
            part.activations_kept if self.activation_checkpointing else part.activations_recomputed for part in parts
        ]
        rows += [
            row("parameters that learn", (_millions(part.trained_parameters) for part in parts)),
            row("steps", (f"{part.steps:,}" for part in parts)),
            row("clips per step", (f"{part.clips_per_step:,}" for part in parts)),
            row("clips at once on a GPU", (f"{part.clips_per_gpu:,}" for part in parts)),
            row("tokens per clip", (f"{part.tokens_per_clip:,}" for part in parts)),
            row("tokens per step", (f"{part.tokens_per_step:,}" for part in parts)),
            row("operations per step, forward", (_scaled(part.forward_flops, "FLOP") for part in parts)),
            row("operations per step, backward", (_scaled(part.backward_flops, "FLOP") for part in parts)),
            row("operations per step, computed again", (_scaled(part.recompute_flops, "FLOP") for part in parts)),
            *(
                row(
                    f"memory of a GPU: {name.replace('_', ' ')}", (_scaled(getattr(p.memory, name), "B") for p in parts)
                )
                for name in asdict(parts[0].memory)
            ),
            row("memory of a GPU", (_scaled(part.memory.total, "B") for part in parts)),
            row(f"({kept})", (_scaled(count, "B") for count in other)),
            row("H100-days", (f"{part.gpu_days(self.utilisation):,.3g}" for part in parts)),
            row(f"days on {self.gpus} H100", (f"{part.gpu_days(self.utilisation) / self.gpus:,.3g}" for part in parts)),
        ]
        return rows


def dry_run(recipe: Recipe, gpus: int | None = None, utilisation: float = UTILISATION) -> DryRun:
    """The scale of `recipe` on `gpus` GPUs (default: as many as it names, one when it leaves that open).

    Raises:
        InputError: a batch that so many GPUs cannot share evenly, or a utilisation outside (0, 1].
    """
    compute = recipe.compute
    if gpus is None:
        gpus = compute.num_nodes * (compute.devices if isinstance(compute.devices, int) else 1)
    if gpus < 1 or not 0 < utilisation <= 1:
        raise InputError(
            f"a dry run needs at least 1 GPU and a utilisation above 0 and up to 1, not {gpus}, {utilisation}"
        )
    parts = tuple(_part(recipe, part, gpus) for part in recipe.parts)
    return DryRun(
        recipe.name,
        gpus,
        compute.strategy,
        compute.precision,
        compute.activation_checkpointing,
        utilisation,
        parts,
    )


def _part(recipe: Recipe, part: str, gpus: int) -> PartScale:
    config: ContrastiveConfig | MaskedConfig = getattr(recipe, part)
    together = config.batch_size // config.accumulate
    if together % gpus:
        raise InputError(f"{part}: {gpus} GPUs cannot share {together} clips evenly; give a number that divides them")
    clips = together // gpus
    stage, parameters = _stage(recipe, part, config)
    float_bytes = 2 if recipe.compute.precision == "bf16-mixed" else _FLOAT32
    costs = CostModel(float_bytes)
    if isinstance(config, MaskedConfig):
        cost, tokens = masked_cost(costs, recipe, config)
    else:
        cost, tokens = contrastive_cost(costs, recipe, config, part)
    recomputed = recipe.compute.activation_checkpointing
    kept, again = clips * cost.kept, clips * cost.kept_recomputing + clips * cost.largest_layer
    trained = [parameter for parameter in stage.parameters() if parameter.requires_grad]
    size, learning = _count(stage.parameters()), _count(trained)
    sharded = recipe.compute.strategy == "fsdp"
    share = gpus if sharded else 1
    state = sum(_state_size(parameter, config.optimizer) for parameter in trained) + (learning if config.ema else 0)
    teacher = sum(_count(parameter for parameter in one.parameters()) for one in getattr(stage, "_teacher", ()))
    vision = recipe.vision
    memory = Memory(
        parameters=_FLOAT32 * size / share,
        gradients=_FLOAT32 * learning / share,
        optimizer=_FLOAT32 * state / share,
        compute_copies=_compute_copies(stage, float_bytes, sharded),
        teacher=_FLOAT32 * teacher,
        inputs=clips * config.num_frames * 3 * vision.image_size**2 * _FLOAT32,
        activations=again if recomputed else kept,
    )
    return PartScale(
        part=part,
        steps=config.steps,
        clips_per_step=config.batch_size,
        clips_per_gpu=clips,
        parameters=parameters,
        trained_parameters=learning,
        tokens_per_clip=tokens,
        forward_flops=cost.forward * config.batch_size,
        backward_flops=cost.backward * config.batch_size,
        recompute_flops=cost.recompute * config.batch_size if recomputed else 0.0,
        memory=memory,
        activations_kept=kept,
        activations_recomputed=again,
    )


def _stage(recipe: Recipe, part: str, config: ContrastiveConfig | MaskedConfig) -> tuple[nn.Module, dict[str, int]]:
    """The module that learns, without values, and its parameters by what they belong to."""
    with torch.device("meta"):
        model = VideoTextModel(recipe.model)
        head, text = model.video_head, model.text_tower
        assert head is not None and text is not None
        names = {"encoder": model.vision, "video head": head, "text tower": text}
        counts = {name: _count(module.parameters()) for name, module in names.items()}
        if isinstance(config, ContrastiveConfig):
            return ContrastiveStage(model, cast(Tokenizer, None), config, part, recipe.seed), counts  # reads no text
        masked = MaskedStage(ViViT(recipe.vision), model, config, recipe.seed)
        decoders = _count(masked.parameters()) - counts["encoder"]
        return masked, {"encoder": counts["encoder"], "decoders": decoders, "frozen teacher": sum(counts.values())}


def contrastive_cost(costs: CostModel, recipe: Recipe, config: ContrastiveConfig, part: str) -> tuple[Cost, int]:
    """What one clip costs in `images`, `stage1` or `alignment`, and its visible tokens."""
    vision, head, text = recipe.vision, recipe.video_head, recipe.text
    patches = vision.grid**2
    per_frame = patches if part == "alignment" else visible_patches(patches, config.drop)
    tokens = config.num_frames * per_frame
    temporal = 0 if part == "images" else config.num_frames
    cost = costs.encoder(vision, tokens, per_frame, temporal, trained=part != "alignment")
    cost += costs.video_head(vision, head, tokens)
    cost += costs.layers(text.layers, text.max_length + 1, text.max_length + 1, text.width, text.mlp_dim)
    together = config.batch_size // config.accumulate
    return cost + costs.linear(2, vision.width, together), tokens  # similarities to all texts and to all videos


def masked_cost(costs: CostModel, recipe: Recipe, config: MaskedConfig) -> tuple[Cost, int]:
    """What one clip costs in `stage2`, teacher included, and its visible tokens."""
    vision, width, mlp = recipe.vision, config.decoder_width, config.decoder_mlp
    patches, frames = vision.grid**2, config.num_frames
    length = frames * patches
    visible = length - hidden_tokens(length, config.mask)
    in_frame, in_place = masked_group_sizes(frames, vision.grid, vision.grid, config.mask)
    cost = costs.encoder(vision, length, patches, frames, trained=False)
    if config.global_distillation:
        cost += costs.video_head(vision, recipe.video_head, length, trained=False)
    cost += costs.encoder(vision, visible, in_frame, in_place)
    if config.token_distillation:
        cost += costs.linear(visible, vision.width, width)
        cost += costs.layers(config.decoder_layers, length, length, width, mlp)
        cost += costs.linear(length, width, vision.width)
        cost += costs.cosine(length, vision.width)
    if config.global_distillation:
        cost += costs.linear(visible, vision.width, width)
        cost += costs.layers(config.decoder_layers, visible, visible, width, mlp)
        cost += costs.pooling(visible, config.decoder_heads, width, width)
        cost += costs.linear(1, width, vision.width)
    return cost, visible


def _compute_copies(stage: nn.Module, float_bytes: int, sharded: bool) -> float:
    """Weights as the products read them, and their gradients before these are summed over the GPUs."""
    if not sharded:
        return 0.0 if float_bytes == _FLOAT32 else float_bytes * _count(stage.parameters())
    layers = [_count(layer.parameters()) for layer in stage.modules() if isinstance(layer, TransformerLayer)]
    outside = _count(stage.parameters()) - sum(layers)
    # One layer at work and the next one on its way; what is in no layer stays gathered in float32 through the step.
    return 2.0 * (_FLOAT32 * outside + float_bytes * 2 * max(layers, default=0))


def _state_size(parameter: torch.Tensor, optimizer: str) -> int:
    """Numbers that the optimizer keeps for a parameter: Adafactor row and column means, AdamW two whole moments."""
    if optimizer == "adamw":
        return 2 * parameter.numel()
    if parameter.ndim < 2:
        return parameter.numel()
    return parameter.numel() // parameter.shape[-1] + parameter.numel() // parameter.shape[-2]


def _count(parameters: Iterable[torch.Tensor]) -> int:
    return sum(parameter.numel() for parameter in parameters)


def _millions(count: int) -> str:
    return f"{count / 1e6:,.1f} M" if count >= 1e6 else f"{count:,}"


def _scaled(value: float, unit: str) -> str:
    """`1.17e15, "FLOP"` -> `1.17 PFLOP`; small values in millions."""
    for power, prefix in ((15, "P"), (12, "T"), (9, "G")):
        if value >= 10**power:
            return f"{value / 10**power:,.2f} {prefix}{unit}"
    return f"{value / 1e6:,.2f} M{unit}"
