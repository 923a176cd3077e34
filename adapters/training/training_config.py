"""Options of the training loop, what it reports while it runs, and how it fails."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from adapters.predictions import Truth
from core_encoder.config import option
from core_encoder.errors import InputError
from fit.device import Accelerator

if TYPE_CHECKING:
    from torch import Tensor

HOW_IT_RUNS = ("accelerator", "devices", "checkpoint_every_s")  # may change between a run and its continuation


@dataclass(frozen=True)
class TrainingConfig:
    """Options of `adapters.train`: AdamW, cosine schedule with warm-up, early stop on the validation metric."""

    epochs: int = option(30, "passes over the training samples", grid=False)
    batch_size: int | None = option(
        None, "samples a step, over all devices together (default: 32, or what suits the kind)", grid=False
    )
    lr: float = option(1e-3, "peak learning rate")
    weight_decay: float = option(1e-2, "decoupled weight decay; norms, biases and queries are left out")
    warmup_fraction: float | None = option(
        None, "share of the steps in which the learning rate rises from 0 (default: 0.05, or what suits the kind)"
    )
    clip_grad_norm: float = option(1.0, "the largest gradient norm of a step; 0 leaves gradients alone")
    patience: int | None = option(None, "stop after so many epochs without a better validation score; by default never")
    seed: int = option(0, "seed of initial weights, sample order and dropout", grid=False)
    accelerator: Accelerator = option("auto", "Lightning's accelerator: auto, cpu, gpu, mps", grid=False)
    devices: int | Literal["auto"] = option(1, "how many devices (processes on a CPU)", grid=False)
    precision: Literal["32-true", "bf16-mixed"] = option("32-true", "Lightning's precision", grid=False)
    accumulate: int = option(1, "parts of a step that are computed one after the other, to save memory", grid=False)
    checkpoint_every_s: float = option(
        20.0, "seconds between checkpoints, the most that a killed run repeats", grid=False
    )

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "patience", "devices", "accumulate"):
            value = getattr(self, name)
            if isinstance(value, int) and value < 1:
                raise InputError(f"{name} must be at least 1, not {value}")
        if not self.lr > 0:
            raise InputError(f"lr must be above 0, not {self.lr}")
        for name in ("weight_decay", "clip_grad_norm", "checkpoint_every_s", "seed"):
            if not getattr(self, name) >= 0:
                raise InputError(f"{name} must not be negative, not {getattr(self, name)}")
        if self.warmup_fraction is not None and not 0 <= self.warmup_fraction < 1:
            raise InputError(f"warmup_fraction must be at least 0 and below 1, not {self.warmup_fraction}")


class Metric(Protocol):
    """What judges answers on the validation set; higher is better. A task brings its own (`Task.metric`)."""

    def update(self, predictions: Sequence[Any], samples: Sequence[Truth]) -> None:
        """Take answers, one a sample, and what is known of the samples, in the same order."""

    def compute(self) -> float | Tensor:
        """The score of everything seen."""


MetricFactory = Callable[[], Metric]


@dataclass(frozen=True)
class TrainingProgress:
    """Where a run is: `step` of `steps` over all epochs, the last losses by setting, the best scores so far."""

    phase: Literal["train", "validate"]
    epoch: int
    epochs: int
    step: int
    steps: int
    losses: dict[str, float]
    scores: dict[str, float]
    samples_per_s: float
    eta_s: float


ProgressCallback = Callable[[TrainingProgress], None]


class TrainingDiverged(RuntimeError):
    """The loss or the gradient of every setting became NaN or infinite; the message says where."""
