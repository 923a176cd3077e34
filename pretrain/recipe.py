"""A recipe: everything that decides how an encoder is made, read from one YAML file.

Parts run in the order of `PARTS`, each starting from what the one before it made: image-text contrast for the spatial
half (`images`), video-text contrast (`stage1`), masked distillation (`stage2`), and at the end text tower and video
head tuned to the locked encoder (`alignment`), because stage 2 moves the tokens away from the space they share with
texts.

Source: VideoPrism (arXiv 2402.13217), sections 3.2 and 3.3, appendix; LiT (arXiv 2111.07991) for the alignment.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal

from core_encoder.config import config_from_dict, option
from core_encoder.errors import InputError
from core_encoder.files.storage import check_name, expanded, nearest, parse_yaml, read_yaml
from core_encoder.models.model_configs import PRESETS, TextConfig, VideoHeadConfig, VideoTextConfig, ViViTConfig
from pretrain.stages.masking import hidden_tokens, visible_patches

PARTS = ("images", "stage1", "stage2", "alignment")
_LATE: dict[str, Any] = {
    "start_from": None,
    "curriculum": [],
    "rehearsal": [],
    "text_uniformity": 0.0,
    "text_uniformity_from": 0,
    "spatial_lr": 1.0,
    "spatial_lr_from": 0,
    "spatial_lr_until": None,
    "student_lr": 1.0,
    "restarts": [],
}
"""What parts of recipes had not from the start, with what it was until then: runs of before lack it."""
WATCHING = ("evaluate_every", "log_every", "checkpoint_every")  # of a part; may change between a run and a resume


@dataclass(frozen=True)
class PartConfig:
    """What every part of a recipe has: how long, on what, and how it is optimized."""

    steps: int = option(1000, "optimizer steps")
    batch_size: int = option(128, "clips a step, over all processes and accumulated batches together")
    accumulate: int = option(1, "a step averages the gradients of so many batches; each has its own negatives")
    num_frames: int = option(8, "frames of a clip (default: those of the encoder)")
    start_from: str | None = option(
        None, "encoder to go on from, whole (folder, Hub id); by default what the part before made"
    )
    curriculum: tuple[tuple[str, int], ...] = option(
        (), "pairs of a tier and steps: the first steps see these tiers, one after the other"
    )
    rehearsal: tuple[str, ...] = option(
        (), "tiers that take every second batch of the curriculum, so that what was learned before is kept"
    )
    tiers: tuple[str, ...] = option((), "tiers of the corpus to train on, after the curriculum (default: all)")
    mixing: Literal["alternate", "mix"] = option("alternate", "a batch comes from one tier, or from all by weight")
    optimizer: Literal["adamw", "adafactor"] = option("adamw", "the optimizer")
    lr: float = option(1e-3, "peak learning rate")
    final_lr: float = option(0.0, "learning rate of the last step")
    schedule: Literal["linear", "cosine", "constant"] = option("cosine", "how the learning rate falls after warm-up")
    warmup_steps: int = option(100, "steps in which the learning rate rises from 0")
    restarts: tuple[int, ...] = option((), "steps at which the learning rate begins anew, with its warm-up")
    weight_decay: float = option(0.05, "decoupled weight decay; biases, norms, positions, queries are left out")
    beta2: float = option(0.98, "memory of AdamW's second moment")
    clip_grad_norm: float = option(1.0, "the largest gradient norm of a step; 0 leaves gradients alone")
    ema: float = option(0.0, "decay of the moving average of the weights that is exported; 0 exports the weights")
    evaluate_every: int = option(0, "steps between evaluations on the held-out clips; 0 evaluates at the end alone")
    log_every: int = option(20, "steps between records in metrics.jsonl")
    checkpoint_every: int = option(500, "steps between checkpoints")

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "accumulate", "num_frames", "log_every", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("final_lr", "weight_decay", "clip_grad_norm", "warmup_steps", "evaluate_every"):
            if getattr(self, name) < 0:
                raise InputError(f"{name} must not be negative, not {getattr(self, name)}")
        for tier, steps in self.curriculum:
            if steps < 1 or [name for name, _ in self.curriculum].count(tier) > 1:
                raise InputError(f"curriculum: name tier {tier!r} once, with at least 1 step")
        if self.rehearsal and not self.curriculum:
            raise InputError("rehearsal is of a curriculum, which there is none; name its tiers in `tiers`")
        if list(self.restarts) != sorted(set(self.restarts)) or not all(0 < at < self.steps for at in self.restarts):
            raise InputError(f"restarts are steps between 0 and {self.steps}, in order, not {list(self.restarts)}")
        for name in ("ema", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 0 and below 1, not {getattr(self, name)}")
        if not self.lr > 0:
            raise InputError(f"lr must be above 0, not {self.lr}")
        if self.batch_size % self.accumulate:
            raise InputError(f"accumulate {self.accumulate} must divide batch_size {self.batch_size}")

    @property
    def curriculum_steps(self) -> int:
        """Steps of the curriculum, in which `text_uniformity` counts; all where there is none."""
        return sum(steps for _, steps in self.curriculum) or self.steps


@dataclass(frozen=True)
class ContrastiveConfig(PartConfig):
    """Video-text (or image-text) contrast: parts `images`, `stage1` and `alignment`."""

    drop: float = option(0.5, "share of the tokens dropped, the same patch places in every frame")
    spatial_lr: float = option(1.0, "share of lr that the spatial half gets; 0 leaves it as it was")
    spatial_lr_from: int = option(0, "step from which spatial_lr counts; before it the spatial half gets all of lr")
    spatial_lr_until: int | None = option(None, "step from which it gets all of lr again (default: never)")
    temperature: float = option(0.1, "temperature of the similarities at the start")
    min_temperature: float = option(0.01, "the learned temperature is clamped to at least this")
    text_uniformity: float = option(
        0.0, "weight of the uniformity of the texts, which keeps captions apart until the curriculum, if any, is over"
    )
    text_uniformity_from: int = option(0, "step from which text_uniformity counts")
    initialize_from: str | None = option(None, "encoder whose spatial half to start from (folder, Hub id)")

    def shares_lr_at(self, step: int) -> bool:
        """Whether the spatial half gets only `spatial_lr` of the rate at a step."""
        return self.spatial_lr_from <= step and (self.spatial_lr_until is None or step < self.spatial_lr_until)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("text_uniformity", "text_uniformity_from", "spatial_lr", "spatial_lr_from", "spatial_lr_until"):
            if (getattr(self, name) or 0) < 0:
                raise InputError(f"{name} must not be negative, not {getattr(self, name)}")
        if not 0 <= self.drop < 1:
            raise InputError(f"drop must be at least 0 and below 1, not {self.drop}")
        if self.start_from and self.initialize_from:
            raise InputError("start_from gives all weights and initialize_from the spatial half: name one of them")
        if not 0 < self.min_temperature <= self.temperature:
            raise InputError("temperature must be at least min_temperature, both above 0")


@dataclass(frozen=True)
class MaskedConfig(PartConfig):
    """Masked distillation from the frozen stage-1 encoder: part `stage2`; every ingredient can be switched off."""

    mask: float = option(0.65, "share of the tokens hidden from the student, in BEVT blocks")
    shuffle: bool = option(True, "shuffle the tokens before the decoder's positions are added")
    token_distillation: bool = option(True, "predict the teacher's tokens at all places")
    global_distillation: bool = option(True, "predict the teacher's pooled embedding from the visible tokens")
    center_targets: bool = option(False, "subtract the running mean from the teacher's tokens before the cosine")
    target_layers: tuple[int, ...] = option(
        (), "teacher layers whose mean, normalized, is the target (default: tokens)"
    )
    student_lr: float = option(1.0, "share of lr that the student gets; the decoders, which are fresh, get all of it")
    decoder_layers: int = option(4, "layers of each of the two decoders")
    decoder_width: int = option(512, "width of the decoders")
    decoder_heads: int = option(8, "attention heads of the decoders")
    decoder_mlp: int = option(2048, "inner width of the decoders' MLPs")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.mask < 1:
            raise InputError(f"mask must be between 0 and 1, not {self.mask}")
        if self.student_lr < 0:
            raise InputError(f"student_lr must not be negative, not {self.student_lr}")
        if not (self.token_distillation or self.global_distillation):
            raise InputError("token_distillation and global_distillation are both off: nothing is left to learn from")
        for name in ("decoder_layers", "decoder_width", "decoder_heads", "decoder_mlp"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.decoder_width % self.decoder_heads:
            raise InputError(f"decoder_heads {self.decoder_heads} must divide decoder_width {self.decoder_width}")


@dataclass(frozen=True)
class ComputeConfig:
    """On what a recipe runs; none of it changes what is computed, up to rounding."""

    accelerator: str = option("auto", "Lightning's accelerator: auto, cpu, gpu")
    devices: int | Literal["auto"] = option(
        "auto", "processes, one per GPU; on a CPU one per core with one thread each"
    )
    num_nodes: int = option(1, "machines; start the same command on each with torchrun")
    strategy: Literal["ddp", "fsdp"] = option("ddp", "whole weights in every process, or sharded (FSDP2)")
    precision: Literal["32-true", "bf16-mixed"] = option("32-true", "Lightning's precision")
    activation_checkpointing: bool = option(False, "compute activations again on the way back: less memory, more time")
    compile: bool = option(False, "torch.compile the training step")
    workers: int = option(0, "processes that read and draw clips, for each training process")
    keep_checkpoints: int = option(2, "the newest checkpoints that are kept")

    def __post_init__(self) -> None:
        if isinstance(self.devices, int) and self.devices < 1:
            raise InputError(f"devices must be at least 1, not {self.devices}")
        if self.workers < 0 or self.keep_checkpoints < 1 or self.num_nodes < 1:
            raise InputError("workers must not be negative, keep_checkpoints and num_nodes at least 1")


@dataclass(frozen=True)
class Recipe:
    """One encoder's making; paths are absolute once loaded."""

    name: str
    vision: ViViTConfig
    video_head: VideoHeadConfig
    text: TextConfig
    corpus: Path
    seed: int = 0
    tokenizer: Path | None = None  # a tokenizer.json or SentencePiece model; None trains one on the corpus's captions
    held_out: Path | None = None  # manifest of clips to evaluate on, never trained on
    held_out_clips: int = 512
    max_unreadable: float = 0.05
    position_scale: float = 1.0  # standard deviation of the encoder's fresh position embeddings
    images: ContrastiveConfig | None = None
    stage1: ContrastiveConfig | None = None
    stage2: MaskedConfig | None = None
    alignment: ContrastiveConfig | None = None
    compute: ComputeConfig = ComputeConfig()

    @classmethod
    def load(cls, path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
        """Read a recipe; an override is `key=value` or `part.key=value`, its value YAML.

        Raises:
            InputError: a file that is missing or no mapping, an unknown key (the nearest is named), a wrong value.
        """
        path = Path(path)
        given = _read_mapping(path)
        for text in overrides:
            _override(given, text)
        return cls.from_dict(given, path)

    @classmethod
    def from_dict(cls, given: Mapping[str, Any], path: Path) -> Recipe:
        """Build a recipe from a mapping as in its YAML file; `path` is where relative paths start."""
        known = [field.name for field in fields(cls)]
        for key in given:
            if key not in known:
                raise InputError(f"{path}: unknown key {key!r}{nearest(str(key), known)}")
        for key in ("vision", "corpus"):
            if given.get(key) is None:
                raise InputError(f"{path}: {key!r} is missing; a recipe names its vision model and its corpus")

        def section(kind: Any, key: str, **defaults: Any) -> Any:
            value = given.get(key)
            if value is None:
                return None
            if not isinstance(value, Mapping):
                raise InputError(f"{path}: {key} must hold keys and values, not {value!r}")
            try:
                return config_from_dict(kind, {**defaults, **value}, f"{path}: {key}")
            except (ValueError, TypeError) as error:
                text = str(error).partition("\n")[0]
                raise InputError(text if text.startswith(str(path)) else f"{path}: {key}: {text}") from error

        def place(key: str) -> Path | None:
            value = given.get(key)
            if value is None:
                return None
            if not isinstance(value, str):
                raise InputError(f"{path}: {key} must be a path, not {value!r}")
            return (path.parent / expanded(value)).absolute()

        vision = _vision(given["vision"], path)
        simple = {
            key: given[key] for key in ("seed", "held_out_clips", "max_unreadable", "position_scale") if key in given
        }
        numbers = config_from_dict(_Numbers, simple, str(path))
        corpus = place("corpus")
        assert corpus is not None
        recipe = cls(
            name=check_name(str(given.get("name", path.stem)), f"{path}: name"),
            vision=vision,
            video_head=section(VideoHeadConfig, "video_head", pooling_dim=vision.mlp_dim)
            or VideoHeadConfig(pooling_dim=vision.mlp_dim),
            text=section(TextConfig, "text")
            or TextConfig(width=vision.width, heads=vision.heads, mlp_dim=vision.mlp_dim),
            corpus=corpus,
            tokenizer=place("tokenizer"),
            held_out=place("held_out"),
            **asdict(numbers),
            images=section(ContrastiveConfig, "images", num_frames=1),
            stage1=section(ContrastiveConfig, "stage1", num_frames=vision.num_frames),
            stage2=section(MaskedConfig, "stage2", num_frames=vision.num_frames),
            alignment=section(ContrastiveConfig, "alignment", num_frames=vision.num_frames),
            compute=section(ComputeConfig, "compute") or ComputeConfig(),
        )
        try:
            recipe.check()
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
        return recipe

    def check(self) -> None:
        """Refuse what contradicts itself.

        Raises:
            InputError: no part at all, a text width that is not the encoder's, parts that need another one, shares that
                leave no token visible, layers that the encoder lacks.
        """
        if not self.parts:
            raise InputError(f"nothing to train: give at least one of {', '.join(PARTS)}")
        if self.text.width != self.vision.width:
            raise InputError(
                f"text width {self.text.width} must equal vision width {self.vision.width}: both end in one space"
            )
        if self.images and self.images.num_frames != 1:
            raise InputError(f"images: num_frames must be 1, not {self.images.num_frames}")
        for part in ("stage2", "alignment"):
            config = getattr(self, part)
            if config and not self.stage1 and not config.start_from:
                raise InputError(f"{part} goes on from stage1, which the recipe lacks; or name another in start_from")
        for part in self.parts:
            if getattr(self, part).start_from and self.tokenizer is None:
                raise InputError(f"{part} has start_from: name the tokenizer of that encoder in `tokenizer`")
        head = self.video_head
        if head.auxiliary_layers < 0:
            raise InputError(f"video_head: auxiliary_layers must not be negative, not {head.auxiliary_layers}")
        if head.pooling_dim < 1 or head.pooling_dim % self.vision.heads:
            heads = self.vision.heads
            raise InputError(f"video_head: pooling_dim {head.pooling_dim} must be a multiple of vision's heads {heads}")
        if head.pooling_dim != self.vision.mlp_dim:
            raise InputError(
                f"video_head: pooling_dim {head.pooling_dim} must equal vision's mlp_dim {self.vision.mlp_dim}"
                "; otherwise the encoder cannot be exported"
            )
        self._check_tokens()

    def _check_tokens(self) -> None:
        patches, layers = self.vision.grid**2, self.vision.num_layers
        for part, contrast in (("images", self.images), ("stage1", self.stage1)):
            if contrast and not visible_patches(patches, contrast.drop):
                raise InputError(f"{part}: drop {contrast.drop} leaves none of {patches} patches visible")
        if masked := self.stage2:
            tokens = patches * masked.num_frames
            if hidden_tokens(tokens, masked.mask) == tokens:
                raise InputError(f"stage2: mask {masked.mask} leaves none of {tokens} tokens visible")
            for layer in masked.target_layers:
                if not -layers <= layer < layers:
                    raise InputError(f"stage2: target_layers: the encoder has layers 0 to {layers - 1}, not {layer}")

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts this recipe has, in order."""
        return tuple(part for part in PARTS if getattr(self, part) is not None)

    @property
    def model(self) -> VideoTextConfig:
        return VideoTextConfig(self.vision, self.video_head, self.text)

    def describe(self) -> dict[str, Any]:
        """Every field, ready for JSON or YAML."""
        return {field.name: _plain(getattr(self, field.name)) for field in fields(self)}

    def digest(self, part: str) -> str:
        """Identity of all that decides the weights after `part`; where it runs and how it is watched is left out."""
        about = self.describe()
        decisive = {key: about[key] for key in ("seed", "vision", "video_head", "text", "position_scale")}
        for name in PARTS[: PARTS.index(part) + 1]:
            if about[name] is not None:
                unset = [key for key, plain in _LATE.items() if about[name].get(key, plain) == plain]
                decisive[name] = {key: value for key, value in about[name].items() if key not in (*WATCHING, *unset)}
        return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:16]

    def with_compute(self, **changes: Any) -> Recipe:
        """The same recipe on other devices; None keeps what the recipe says."""
        given = {name: value for name, value in changes.items() if value is not None}
        merged = config_from_dict(ComputeConfig, _plain(self.compute) | given, "compute")
        return replace(self, compute=merged)


@dataclass(frozen=True)
class _Numbers:
    seed: int = option(0, "seed of initial weights, clip order and masks")
    held_out_clips: int = option(512, "clips of an evaluation")
    max_unreadable: float = option(0.05, "the run stops when a larger share of the clips cannot be read")
    position_scale: float = option(1.0, "standard deviation of the encoder's fresh position embeddings")

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**63 or self.held_out_clips < 4:
            raise InputError("seed must lie in 0 to 2**63 - 1, held_out_clips at least 4")
        if not self.position_scale > 0:
            raise InputError(f"position_scale must be above 0, not {self.position_scale}")
        if not 0 <= self.max_unreadable <= 1:
            raise InputError(f"max_unreadable is a share between 0 and 1, not {self.max_unreadable}")


def _vision(given: Any, path: Path) -> ViViTConfig:
    """A preset's name, or `preset` and the fields that differ from it, or all fields."""
    values = {"preset": given} if isinstance(given, str) else given
    if not isinstance(values, Mapping):
        raise InputError(f"{path}: vision must be a preset's name or keys and values, not {given!r}")
    preset = values.get("preset")
    if preset is not None and preset not in PRESETS:
        raise InputError(f"{path}: vision: unknown preset {preset!r}{nearest(str(preset), PRESETS)}")
    base = asdict(PRESETS[preset]) if preset is not None else {}
    own = {key: value for key, value in values.items() if key != "preset"}
    try:
        return config_from_dict(ViViTConfig, base | own, f"{path}: vision")
    except InputError:
        raise
    except (ValueError, TypeError) as error:
        raise InputError(f"{path}: vision: {error}") from error


def _read_mapping(path: Path) -> dict[str, Any]:
    loaded = read_yaml(path)
    if not isinstance(loaded, dict):
        raise InputError(f"{path}: a recipe holds keys and values such as `vision: nano`, not {type(loaded).__name__}")
    return {str(key): value for key, value in loaded.items()}


def _override(given: dict[str, Any], text: str) -> None:
    name, equals, value = text.partition("=")
    keys = name.strip().split(".")
    if not equals or not all(keys) or len(keys) > 2:
        raise InputError(f"override {text!r} is not of the form key=value or part.key=value (such as stage1.steps=100)")
    parsed = parse_yaml(value, f"override {text!r}")
    if len(keys) == 1:
        given[keys[0]] = parsed
        return
    section = given.get(keys[0])
    if isinstance(section, str) and keys[0] == "vision":
        section = {"preset": section}
    if section is not None and not isinstance(section, dict):
        raise InputError(f"override {text!r}: {keys[0]} holds no keys")
    given[keys[0]] = {**(section or {}), keys[1]: parsed}


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value
