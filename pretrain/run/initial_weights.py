"""What a part of a recipe starts from: fresh weights, an image encoder's spatial half, or what the part before made."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from core_encoder.encoder import Encoder, load_encoder
from core_encoder.errors import InputError
from core_encoder.files.storage import read_json
from core_encoder.models.layers import TransformerLayer
from core_encoder.models.model_configs import VideoTextConfig
from core_encoder.models.text_tower import TextTokenizer, Tokenizer
from core_encoder.models.video_text import VideoTextModel
from core_encoder.models.vivit import ViViT, initialize
from pretrain.recipe import ContrastiveConfig, MaskedConfig, Recipe
from pretrain.run.export import RECORD, open_model
from pretrain.run.run_folder import ENCODER
from pretrain.stages.contrastive_stage import ContrastiveStage
from pretrain.stages.masked_stage import MaskedStage


def part_before(recipe: Recipe, part: str, out: Path) -> Path | None:
    """The encoder of the part that this one goes on from; None for the first part and for one with `start_from`.

    Raises:
        InputError: the part before is not finished.
    """
    before = recipe.parts[: recipe.parts.index(part)]
    if not before or getattr(recipe, part).start_from:
        return None
    folder = out / before[-1] / ENCODER
    if not (folder / RECORD).exists():
        raise InputError(f"{part} starts from {before[-1]}, which is not finished in {out}; run it first")
    return folder


def check_start(recipe: Recipe, part: str) -> None:
    """Refuse an encoder to start from that does not fit, before anything trains.

    Raises:
        InputError: `start_from` or `initialize_from` is missing, damaged, or has another shape or tokenizer.
    """
    config = getattr(recipe, part)
    if config.start_from:
        encoder = load_encoder(config.start_from)
        _whole_model(encoder, config.start_from, recipe)
        _check_tokenizer(encoder, config.start_from, recipe)
    if isinstance(config, ContrastiveConfig) and config.initialize_from:
        with torch.device("meta"):
            vision = ViViT(recipe.vision)
        _spatial_half(vision, config.initialize_from)


def start_fingerprint(recipe: Recipe, part: str, out: Path) -> str | None:
    """Which encoder a part goes on from, that of `start_from` or of the part before; None where weights are fresh.

    Raises:
        InputError: the part before is not finished, or `start_from` cannot be loaded.
    """
    if source := getattr(recipe, part).start_from:
        return load_encoder(source).fingerprint
    folder = part_before(recipe, part, out)
    return read_json(folder / RECORD)["fingerprint"] if folder else None


def initial_model(recipe: Recipe, part: str, out: Path) -> VideoTextModel:
    """What a part starts from: `start_from`, else the encoder of the part before, else fresh weights keyed by the seed.

    Raises:
        InputError: the part before is not finished, `start_from` or `initialize_from` has another shape.
    """
    config = getattr(recipe, part)
    folder = part_before(recipe, part, out)
    fresh = not folder and not config.start_from
    if config.start_from:
        model = _whole_model(load_encoder(config.start_from), config.start_from, recipe)
    elif folder:
        model, _ = open_model(folder)
    else:
        model = fresh_model(recipe.model, recipe.seed, recipe.position_scale)
    source = config.initialize_from if isinstance(config, ContrastiveConfig) else None
    if source:
        model.vision.load_state_dict(model.vision.state_dict() | _spatial_half(model.vision, source))
    if fresh and (part == "images" or source):
        start_as_identity(model.vision.temporal_layers)
    return model


def fresh_model(config: VideoTextConfig, seed: int, position_scale: float) -> VideoTextModel:
    """Fresh weights keyed by the seed; positions of the encoder have the standard deviation `position_scale`."""
    with torch.random.fork_rng(devices=[]):  # leaves the caller's random state alone
        model = VideoTextModel(config)
    initialize(model, torch.Generator().manual_seed(seed))
    generator = torch.Generator().manual_seed(seed + 1)
    for positions in (model.vision.spatial_positions, model.vision.temporal_positions):
        nn.init.normal_(positions, std=position_scale, generator=generator)
    return model


def initial_stage(recipe: Recipe, part: str, out: Path, tokenizer: Tokenizer) -> ContrastiveStage | MaskedStage:
    """The module that learns in a part, as it is before the first step.

    Raises:
        InputError: as `initial_model`.
    """
    model, config = initial_model(recipe, part, out), getattr(recipe, part)
    if not isinstance(config, MaskedConfig):
        return ContrastiveStage(model, tokenizer, config, part, recipe.seed)
    student = ViViT(recipe.vision)
    student.load_state_dict(model.vision.state_dict())
    stage = MaskedStage(student, model, config, recipe.seed)
    generator = torch.Generator().manual_seed(recipe.seed + 2)
    for name, child in stage.named_children():
        if name != "student":
            initialize(child, generator)
    for name, parameter in stage.named_parameters(recurse=False):
        if name in ("mask_token", "slot_positions"):
            nn.init.normal_(parameter, std=0.5, generator=generator)
    return stage


@torch.no_grad()
def start_as_identity(layers: nn.ModuleList) -> None:
    """Let fresh layers pass their input on at first, so that a trained spatial half is not drowned in noise."""
    for layer in layers:
        assert isinstance(layer, TransformerLayer)
        for linear in (layer.out, layer.fc2):
            linear.weight.zero_()
            linear.bias.zero_()


def _whole_model(encoder: Encoder, source: str, recipe: Recipe) -> VideoTextModel:
    model = encoder.model
    if not isinstance(model, VideoTextModel) or model.config != recipe.model:
        raise InputError(f"start_from {source!r}: not the model that the recipe describes; give one of the same shape")
    return model.requires_grad_(True).train()


def _check_tokenizer(encoder: Encoder, source: str, recipe: Recipe) -> None:
    theirs = encoder.tokenizer
    if not isinstance(theirs, TextTokenizer) or recipe.tokenizer is None:
        return
    if theirs.path.suffix == recipe.tokenizer.suffix and theirs.path.read_bytes() != recipe.tokenizer.read_bytes():
        raise InputError(f"start_from {source!r}: learned with another tokenizer; let `tokenizer` name {theirs.path}")


def _spatial_half(vision: ViViT, source: str) -> dict[str, Tensor]:
    """The weights of the spatial half of the encoder `source`, which fit those of `vision`."""
    given = load_encoder(source).model
    if not isinstance(given, VideoTextModel):
        raise InputError(f"initialize_from {source!r}: not a VideoPrism-like encoder, its layers are others")
    spatial = ("patch_projection.", "spatial_")
    theirs = {name: tensor for name, tensor in given.vision.state_dict().items() if name.startswith(spatial)}
    ours = {name: tensor for name, tensor in vision.state_dict().items() if name.startswith(spatial)}
    for name in sorted(theirs.keys() | ours.keys()):
        if name not in theirs or name not in ours or theirs[name].shape != ours[name].shape:
            raise InputError(f"initialize_from {source!r}: its spatial half has another shape at {name}")
    for key in ("heads", "cap"):  # they leave no trace in the shapes
        theirs_has, ours_has = getattr(given.vision.config, key), getattr(vision.config, key)
        if theirs_has != ours_has:
            raise InputError(f"initialize_from {source!r}: has {key} {theirs_has:g}, where `vision` has {ours_has:g}")
    return theirs
