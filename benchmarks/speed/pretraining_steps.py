"""One training step of each stage on random frames: the real modules and optimizers, with fresh weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

import pretrain
from core_encoder.models.vivit import ViViT
from pretrain.recipe import ContrastiveConfig, MaskedConfig, Recipe
from pretrain.run.initial_weights import fresh_model
from pretrain.run.part_loop import prepare_layers
from pretrain.stages.contrastive_stage import ContrastiveStage
from pretrain.stages.masked_stage import MaskedStage
from pretrain.stages.optimizer import build_optimizer

RECIPES = Path(pretrain.__file__).parent / "recipes"
CAPTION_TOKENS = 12


@dataclass(frozen=True)
class RandomTokenizer:
    """Every text becomes `CAPTION_TOKENS` random tokens."""

    vocab_size: int

    def __call__(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        ids = torch.randint(self.vocab_size, (len(texts), CAPTION_TOKENS))
        return ids, torch.ones_like(ids, dtype=torch.bool)

    def save(self, folder: Path) -> None:
        raise NotImplementedError("random tokens are for measurements alone")


def random_frames(recipe: Recipe, clips: int, num_frames: int) -> Tensor:
    """uint8 frames (clips, T, H, W, 3)."""
    size = recipe.vision.image_size
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (clips, num_frames, size, size, 3), dtype=torch.uint8, generator=generator)


def training_step(
    recipe: Recipe,
    config: ContrastiveConfig | MaskedConfig,
    clips: int,
    device: str = "cpu",
    bf16: bool = False,
    compiled: bool = False,
) -> Callable[[], object]:
    """A function that takes one step of stage 1 or stage 2: loss, gradients, optimizer, until the device is done.

    Args:
        bf16: products in bf16 (autocast), as with the precision bf16-mixed.
        compiled: `torch.compile` each layer.
    """
    stage: ContrastiveStage | MaskedStage
    model = fresh_model(recipe.model, seed=0, position_scale=recipe.position_scale)
    if isinstance(config, MaskedConfig):
        student = ViViT(recipe.vision)
        student.load_state_dict(model.vision.state_dict())
        stage = MaskedStage(student, model, config, seed=0)
    else:
        stage = ContrastiveStage(model, RandomTokenizer(recipe.text.vocab_size), config, "stage1", seed=0)
    stage.to(device)
    on_gpu = torch.device(device).type == "cuda"
    prepare_layers(stage, activation_checkpointing=False, compiled=compiled)
    optimizer = build_optimizer(stage, config)
    frames, captions = random_frames(recipe, clips, config.num_frames), ["a caption"] * clips
    steps = iter(range(1_000_000))

    def take_step() -> None:
        with torch.autocast(stage.device.type, torch.bfloat16, enabled=bf16):
            loss = stage.training_step(frames, captions, next(steps), range(clips))["loss"]
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if on_gpu:
            torch.cuda.synchronize(device)

    return take_step
