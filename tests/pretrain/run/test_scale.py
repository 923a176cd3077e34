"""Dry runs: the paper's sizes, and arithmetic and memory against what torch itself counts on small models."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from core_encoder.errors import InputError
from core_encoder.models.known_encoders import encoders
from core_encoder.models.model_configs import TextConfig, VideoHeadConfig, ViViTConfig
from core_encoder.models.video_text import VideoTextModel
from core_encoder.models.vivit import ViViT
from pretrain.recipe import ComputeConfig, ContrastiveConfig, MaskedConfig, Recipe
from pretrain.run.scale import H100_FLOPS, dry_run
from pretrain.stages.contrastive_stage import ContrastiveStage
from pretrain.stages.masked_stage import MaskedStage
from pretrain.stages.optimizer import build_optimizer
from tests import ROOT

RECIPES = ROOT / "pretrain" / "recipes"
SHIPPED = [path for path in sorted(RECIPES.glob("*.yaml")) if "\ntiers:" not in path.read_text()]  # no manifests
SMALL = Recipe(
    name="small",
    vision=ViViTConfig(32, 4, 64, 3, 2, patch_size=8, image_size=48, num_frames=8),
    video_head=VideoHeadConfig(auxiliary_layers=1, pooling_dim=64),
    text=TextConfig(vocab_size=100, width=32, heads=4, mlp_dim=64, layers=2, max_length=12),
    corpus=Path("none.yaml"),
    images=ContrastiveConfig(batch_size=4, num_frames=1, optimizer="adafactor"),
    stage1=ContrastiveConfig(batch_size=4, optimizer="adafactor"),
    stage2=MaskedConfig(batch_size=4, decoder_width=16, decoder_heads=2, decoder_mlp=32, decoder_layers=2),
    alignment=ContrastiveConfig(batch_size=4),
)


def small_stage(part: str, batch: int = 4) -> tuple[nn.Module, Callable[[], Tensor]]:
    """The stage itself, on a batch of captions of the greatest length."""
    torch.manual_seed(0)
    model = VideoTextModel(SMALL.model)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.02)
    config = getattr(SMALL, part)

    def tokenizer(texts: list[str]) -> tuple[Tensor, Tensor]:
        return torch.ones(len(texts), 12, dtype=torch.long), torch.ones(len(texts), 12, dtype=torch.bool)

    stage: ContrastiveStage | MaskedStage
    if isinstance(config, MaskedConfig):
        stage = MaskedStage(ViViT(SMALL.vision), model, config, 0)
    else:
        stage = ContrastiveStage(model, tokenizer, config, part, 0)  # type: ignore[arg-type]
    frames = torch.randint(0, 256, (batch, config.num_frames, 48, 48, 3), dtype=torch.uint8)
    return stage, lambda: stage.training_step(frames, ["text"] * batch, 0, range(batch))["loss"]


@pytest.mark.parametrize("part", ["images", "stage1", "stage2", "alignment"])
def test_arithmetic_is_what_torch_counts(part: str) -> None:
    _, loss_of = small_stage(part)
    with sdpa_kernel(SDPBackend.MATH):  # the counter knows no fused attention of a CPU
        with FlopCounterMode(display=False) as forward:
            loss = loss_of()
        with FlopCounterMode(display=False) as backward:
            loss.backward()
    expected = next(row for row in dry_run(SMALL).parts if row.part == part)
    # What remains: the query of the pooling, a single vector, and in stage 2 the padding of unequal groups.
    assert forward.get_total_flops() == pytest.approx(expected.forward_flops, rel=0.02)
    # Fused kernels compute the decoders' logits again, clips x layers x 2 L^2 W; the plain ones here have kept them.
    logits = 4 * 2 * 2 * (288**2 + 101**2) * 16 if part == "stage2" else 0
    assert backward.get_total_flops() + logits == pytest.approx(expected.backward_flops, rel=0.02)


@pytest.mark.parametrize("part", ["images", "stage1", "stage2"])
def test_activations_are_what_autograd_keeps(part: str) -> None:
    stage, loss_of = small_stage(part)
    weights = {parameter.untyped_storage().data_ptr() for parameter in stage.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = loss_of()
    assert loss.requires_grad
    memory = next(row for row in dry_run(SMALL).parts if row.part == part).memory
    assert sum(kept.values()) == pytest.approx(memory.activations, rel=0.15)


@pytest.mark.parametrize("part", ["images", "stage1", "stage2", "alignment"])
@pytest.mark.parametrize("optimizer", ["adamw", "adafactor"])
def test_parameters_gradients_and_optimizer_states_are_what_a_step_leaves(part: str, optimizer: str) -> None:
    recipe = replace(SMALL, **{part: replace(getattr(SMALL, part), optimizer=optimizer)})
    stage, loss_of = small_stage(part, batch=2)
    built = build_optimizer(stage, getattr(recipe, part))
    loss_of().backward()
    built.step()
    numbers = sum(
        value.numel() for state in built.state.values() for name, value in state.items() if name not in ("step",)
    )
    expected = next(row for row in dry_run(recipe).parts if row.part == part)
    trained = sum(parameter.numel() for parameter in stage.parameters() if parameter.requires_grad)
    gradients = sum(parameter.grad.numel() for parameter in stage.parameters() if parameter.grad is not None)
    assert expected.memory.parameters == 4 * sum(parameter.numel() for parameter in stage.parameters())
    assert expected.trained_parameters == trained
    assert expected.memory.gradients == 4 * trained == 4 * gradients
    assert expected.memory.optimizer == 4 * numbers


def test_sharding_divides_what_each_gpu_holds() -> None:
    recipe = replace(SMALL, compute=ComputeConfig(devices=1, strategy="fsdp", precision="bf16-mixed"))
    one, four = dry_run(recipe), dry_run(recipe, gpus=4)
    for alone, shared in zip(one.parts, four.parts, strict=True):
        assert shared.clips_per_gpu == alone.clips_per_gpu / 4
        for share in ("parameters", "gradients", "optimizer", "activations"):
            assert getattr(shared.memory, share) == pytest.approx(getattr(alone.memory, share) / 4)
        assert shared.memory.teacher == alone.memory.teacher
        assert shared.flops == alone.flops
    with pytest.raises(InputError, match="3 GPUs cannot share 4 clips"):
        dry_run(recipe, gpus=3)
    with pytest.raises(InputError, match="utilisation"):
        dry_run(recipe, utilisation=0.0)


def test_computing_activations_again_trades_memory_for_arithmetic() -> None:
    recipe = replace(SMALL, compute=ComputeConfig(devices=1, activation_checkpointing=True))
    for kept, again in zip(dry_run(SMALL).parts[:3], dry_run(recipe).parts[:3], strict=True):
        assert again.memory.activations == kept.activations_recomputed < kept.memory.activations
        assert again.flops > kept.flops
        assert again.recompute_flops < again.forward_flops


def test_the_table_says_the_numbers_and_json_keeps_them() -> None:
    run = dry_run(SMALL)
    table = run.table()
    assert table[0] == ("", "images", "stage1", "stage2", "alignment")
    assert {len(row) for row in table} == {5}
    rows = {row[0]: row[1:] for row in table}
    assert rows["tokens per clip"] == ("18", "144", "101", "288")
    assert rows["tokens per step"] == ("72", "576", "404", "1,152")
    described = json.loads(json.dumps(run.describe()))
    stage1 = described["parts"][1]
    assert stage1["tokens_per_step"] == 576
    assert stage1["memory"]["total"] == sum(v for k, v in stage1["memory"].items() if k != "total")
    assert stage1["h100_days"] == pytest.approx(run.parts[1].flops * 1000 / (0.4 * H100_FLOPS * 86400))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_recipes_load_and_can_be_sized(path: Path) -> None:
    run = dry_run(Recipe.load(path))
    assert run.name == path.stem
    assert run.gpu_days > 0
    head = path.read_text(encoding="utf-8").partition("\n\n")[0]
    assert "prismhub pretrain" in head and path.name in head, "a recipe opens with its command"


KNOWN = {
    info.name.split("-")[-2]: info.parameters for info in encoders() if "videoprism-" in info.name and not info.text
}
KNOWN_WITH_TEXT = {info.name.split("-")[-2]: info.parameters for info in encoders() if "-lvt-" in info.name}


@pytest.mark.parametrize(
    ("name", "millions", "width", "layers", "frames", "stage1_lr"),
    [("base", 114, 768, 16, 16, 1e-4), ("large", 354, 1024, 28, 8, None), ("giant", 1100, 1408, 44, 8, 5e-5)],
)
def test_full_scale_recipes_say_what_the_paper_says(
    name: str, millions: int, width: int, layers: int, frames: int, stage1_lr: float | None
) -> None:
    recipe = Recipe.load(RECIPES / f"{name}.yaml")
    vision, stage1, stage2 = recipe.vision, recipe.stage1, recipe.stage2
    assert stage1 is not None and stage2 is not None
    assert recipe.parts[:2] == ("stage1", "stage2")
    assert (vision.width, vision.num_layers, vision.num_frames, vision.image_size) == (width, layers, frames, 288)
    for part in (stage1, stage2):
        assert (part.optimizer, part.batch_size, part.num_frames) == ("adafactor", 4096, 8)
        assert part.mixing == "alternate" and part.ema == 0.0
    assert (stage1.steps, stage1.warmup_steps, stage1.schedule, stage1.final_lr) == (200_000, 20_000, "linear", 0.0)
    assert (stage1.weight_decay, stage1.drop) == (1e-4, 0.5)
    assert stage1_lr is None or stage1.lr == stage1_lr
    assert (stage2.steps, stage2.warmup_steps, stage2.schedule, stage2.final_lr) == (300_000, 25_000, "cosine", 1e-5)
    assert (stage2.lr, stage2.weight_decay, stage2.mask) == (5e-4, 0.05, 0.65)
    assert (stage2.decoder_layers, stage2.decoder_width, stage2.decoder_mlp) == (4, 512, 2048)
    assert stage2.shuffle and stage2.token_distillation and stage2.global_distillation

    run = dry_run(recipe)
    first, second = run.parts[:2]
    assert first.parameters["encoder"] / 1e6 == pytest.approx(millions, rel=0.02)
    assert first.tokens_per_step == 4096 * 8 * 128
    assert second.tokens_per_step == 4096 * (2048 - round(0.65 * 2048))
    assert max(part.memory.total for part in run.parts) < 78e9  # an 80 GB card, with room for temporaries
    if name in KNOWN:
        assert first.parameters["encoder"] == KNOWN[name]
        # The learned temperature comes on top of what the published checkpoint holds.
        assert first.trained_parameters == KNOWN_WITH_TEXT[name] + 1
