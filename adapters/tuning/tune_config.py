"""Options of training that changes the encoder, and which kinds of adapters it is for. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

from core_encoder.config import option
from core_encoder.errors import InputError

if TYPE_CHECKING:
    from adapters.context import TargetKind
    from fit.augmentation.augmentation import AugmentName

Tune = Literal["frozen", "lora", "full"]
Strategy = Literal["ddp", "fsdp"]
Augment = Literal["crop", "flip", "colour", "randaugment", "mixup", "none"]
DEFAULT_RANK = 16
DEFAULT_CROP_AREA = 0.3
HOW_IT_TUNES = ("recompute", "strategy")  # may change between a run and its continuation


@dataclass(frozen=True)
class TuneConfig:
    """Whether the encoder trains with the head, how, and on what frames.

    None is what suits the kind of tuning; the properties say what that is.

    Raises:
        InputError: a value out of range, or an option that means nothing for this kind of tuning.
    """

    tune: Tune = option("frozen", "frozen: the head alone trains; lora: LoRA of the encoder with it; full: all of it.")
    lora_rank: int | None = option(None, f"With --tune lora: rank of the changes (default: {DEFAULT_RANK}).")
    lora_alpha: float | None = option(None, "With --tune lora: changes count alpha / rank (default: twice the rank).")
    lora_targets: tuple[Literal["attention", "mlp"], ...] = option(
        (), "With --tune lora: linear maps of which parts of a layer (default: attention,mlp)."
    )
    encoder_lr: float | None = option(
        None, "With --tune: learning rate of the encoder as a share of the head's (default: lora 1, full 0.1)."
    )
    layer_decay: float | None = option(
        None, "With --tune: factor of the learning rate from a layer to the one below (default: lora 1, full 0.75)."
    )
    augment: tuple[Augment, ...] = option(
        (), "With --tune: changes of training clips (default: crop, and flip unless a label speaks of sides)."
    )
    crop_area: float | None = option(
        None, f"With --tune: the least share of the picture that a crop shows (default: {DEFAULT_CROP_AREA})."
    )
    recompute: bool = option(False, "With --tune: compute activations again on the way back, to save memory.")
    strategy: Strategy = option(
        "ddp", "With --tune and several --devices: whole weights in every process, or sharded (FSDP2)."
    )

    def __post_init__(self) -> None:
        if self.tune == "frozen":
            self._refuse_all_but(("tune",), "the encoder is frozen (--tune lora or full trains it)")
        if self.tune == "full":
            others = [one.name for one in fields(self) if not one.name.startswith("lora_")]
            self._refuse_all_but(others, "--tune full has no LoRA")
        for name, least, most in (("encoder_lr", 0, 100), ("layer_decay", 0, 1), ("crop_area", 0, 1)):
            value = getattr(self, name)
            if value is not None and not least < value <= most:
                raise InputError(f"{name} must be above {least} and up to {most}, not {value:g}")
        if self.lora_rank is not None and self.lora_rank < 1:
            raise InputError(f"lora_rank must be at least 1, not {self.lora_rank}")
        if self.lora_alpha is not None and not self.lora_alpha > 0:
            raise InputError(f"lora_alpha must be above 0, not {self.lora_alpha:g}")
        for name in ("lora_targets", "augment"):
            if len(set(getattr(self, name))) < len(getattr(self, name)):
                raise InputError(f"{name}: {','.join(getattr(self, name))} names one twice")
        if "none" in self.augment and len(self.augment) > 1:
            raise InputError("augment: none goes with no other")
        if self.crop_area is not None and self.augment and "crop" not in self.augment:
            raise InputError("crop_area means nothing without crop in --augment: leave it out")

    def _refuse_all_but(self, known: Sequence[str], why: str) -> None:
        for one in fields(self):
            if one.name not in known and getattr(self, one.name) != one.default:
                raise InputError(f"{one.name} means nothing: {why}; leave it out")

    @property
    def trains_encoder(self) -> bool:
        """Whether the encoder trains, too."""
        return self.tune != "frozen"

    @property
    def rank(self) -> int:
        """Of LoRA."""
        return self.lora_rank or DEFAULT_RANK

    @property
    def alpha(self) -> float:
        """Of LoRA."""
        return self.lora_alpha or 2.0 * self.rank

    @property
    def targets(self) -> tuple[str, ...]:
        """The parts of a layer whose linear maps LoRA changes."""
        return self.lora_targets or ("attention", "mlp")

    @property
    def encoder_share(self) -> float:
        """The learning rate of the encoder's uppermost parameters as a share of the head's."""
        return self.encoder_lr or {"frozen": 0.0, "lora": 1.0, "full": 0.1}[self.tune]

    @property
    def decay(self) -> float:
        """The factor of the learning rate from a layer to the one below it."""
        return self.layer_decay or {"frozen": 1.0, "lora": 1.0, "full": 0.75}[self.tune]

    @property
    def least_area(self) -> float:
        """The least share of the picture that a crop shows."""
        return self.crop_area or DEFAULT_CROP_AREA

    def augmentations(self, label_names: Sequence[str]) -> tuple[AugmentName, ...]:
        """What is done to training clips of these classes: what was asked for, else crops, and flips where no label
        speaks of sides."""
        from fit.augmentation.augmentation import sides_in

        if self.augment:
            return tuple(name for name in self.augment if name != "none")
        return ("crop",) if sides_in(label_names) else ("crop", "flip")

    def check(self, kind: str, learns: TargetKind) -> None:
        """Refuse a kind of adapter that does not train with its encoder: one that learns no classes.

        Raises:
            InputError: the adapter's name, and what of it trains instead, if anything.
        """
        if self.trains_encoder and learns != "classes":
            text = {"pairs": "; --tune-text is for its text tower", "text": "; --tune-text is for its language model"}
            raise InputError(
                f"tune: {kind} trains on stored features, with a frozen encoder; those that learn classes "
                f"(map_classifier, linear) train with it{text.get(learns, '')}"
            )

    def check_devices(self, devices: int | str) -> None:
        """Refuse to share out weights where there is nobody to share them with.

        Raises:
            InputError: FSDP on one device.
        """
        if self.strategy == "fsdp" and devices == 1:
            raise InputError(
                "strategy fsdp shares weights out over several devices, and there is one: "
                "give --devices a number above 1, or leave it out"
            )

    def record(self, label_names: Sequence[str]) -> dict[str, Any]:
        """What decides a run, with the defaults written out, ready for JSON."""
        lora = {"rank": self.rank, "alpha": self.alpha, "targets": list(self.targets)}
        names = self.augmentations(label_names)
        return {
            "tune": self.tune,
            **(lora if self.tune == "lora" else {}),
            "encoder_lr": self.encoder_share,
            "layer_decay": self.decay,
            "augment": list(names),
            **({"crop_area": self.least_area} if "crop" in names else {}),
        }
