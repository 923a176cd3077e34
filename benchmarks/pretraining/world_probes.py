"""Probes on the synthetic world: attention pooling on frozen tokens of clips of objects that training never saw.

Three splits of their own, from which no recipe draws: heads train on `train`, the setting and the epoch are chosen on
`validation`, and `test` is looked at once.
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adapters.features import InMemoryFeatures
from adapters.training.train_grid import train
from adapters.training.training_config import TrainingConfig
from core_encoder.config import expand_grid
from core_encoder.encoder import Encoder
from core_encoder.models.model_configs import VideoTextConfig
from core_encoder.preprocessing import Preprocessing, to_video_tensor
from pretrain.run.initial_weights import fresh_model
from pretrain.world.drawing import COLOURS, SHAPES, TEXTURES
from pretrain.world.motions import MOTIONS
from pretrain.world.synthetic_world import SyntheticWorld
from pretrain.world.world_objects import HELD_OUT_OBJECTS, WorldObject
from tasks.metrics.classification import TopKAccuracy

if TYPE_CHECKING:
    from adapters.kinds.map_classifier import MapClassifier

LABELS: dict[str, tuple[str, ...]] = {
    "object": tuple(thing.name for thing in HELD_OUT_OBJECTS),
    "motion": MOTIONS,
    "texture": tuple(TEXTURES),
    "colour": tuple(COLOURS),
    "shape": tuple(SHAPES),
}
FAMILIES: dict[str, bool] = {"plain MAP": False, "MAP with positions": True}
WORLD_SEED = 11
_AT_ONCE = 32

Features = Mapping[str, Tensor]
"""Tokens `(n, T, N, D)` of every split, in half precision as the feature store keeps them."""


@dataclass(frozen=True)
class ProbeSettings:
    """How many clips a probe sees, and among which settings of the head its own is chosen on the validation split."""

    clips: Mapping[str, int] = field(default_factory=lambda: {"train": 1024, "validation": 512, "test": 2000})
    grid: tuple[dict[str, Any], ...] = tuple(expand_grid({"lr": [1e-3, 3e-3, 1e-2], "weight_decay": [0.01, 0.3]}))
    epochs: int = 30
    seed: int = 0


@dataclass(frozen=True, eq=False)
class WorldClips:
    """Clips of the world: frames uint8 `(n, T, S, S, 3)`, the object and the motion that each shows."""

    frames: Tensor
    objects: tuple[str, ...]
    motions: tuple[str, ...]

    def targets(self, label: str) -> Tensor:
        """Class indices `(n,)` among `LABELS[label]`."""
        things = [WorldObject.parse(name) for name in self.objects]
        values = {
            "object": self.objects,
            "motion": self.motions,
            "texture": [thing.texture for thing in things],
            "colour": [thing.colour for thing in things],
            "shape": [thing.shape for thing in things],
        }[label]
        return torch.tensor([LABELS[label].index(value) for value in values])


def draw_clips(
    split: str,
    count: int,
    size: int,
    num_frames: int,
    things: Sequence[WorldObject] | None = None,
    shown: Sequence[str] = MOTIONS,
) -> WorldClips:
    """`count` clips of random objects of the held-out third, or of `things` in turn, in random motions of `shown`."""
    world = SyntheticWorld(WORLD_SEED, f"probe_{split}", size, num_frames, HELD_OUT_OBJECTS, shown)
    frames = np.empty((count, num_frames, size, size, 3), np.uint8)
    objects, motions = [], []
    for index in range(count):
        clip = world.clip(index, things[index % len(things)] if things else None)
        frames[index] = clip.frames
        objects.append(clip.object_name)
        motions.append(clip.motion)
    return WorldClips(torch.from_numpy(frames), tuple(objects), tuple(motions))


def draw_splits(encoder: Encoder, settings: ProbeSettings, shown: Sequence[str] = MOTIONS) -> dict[str, WorldClips]:
    """The clips of every split in the frame size and number that `encoder` was trained on."""
    return {
        split: draw_clips(split, count, encoder.image_size, encoder.num_frames, shown=shown)
        for split, count in settings.clips.items()
    }


def random_encoder(config: VideoTextConfig, seed: int) -> Encoder:
    """An encoder with fresh weights as pretraining draws them: what training is compared with."""
    model = fresh_model(config, seed, position_scale=1.0)
    return Encoder(model, "random weights", Preprocessing(config.vision.image_size))


def clip_tokens(encoder: Encoder, frames: Tensor) -> Tensor:
    """Frames uint8 `(n, T, S, S, 3)` -> tokens `(n, T, N, D)`, float16."""
    parts = [encoder(to_video_tensor(part)).tokens.half().cpu() for part in frames.split(_AT_ONCE)]
    return torch.cat(parts)


def one_frame_tokens(encoder: Encoder, frames: Tensor, moment: int) -> Tensor:
    """The tokens `(n, T, N, D)` of clips in which every frame is the one at `moment`: no motion is left to see."""
    parts = []
    for part in frames[:, moment : moment + 1].split(_AT_ONCE):
        spatial = encoder.encode_spatial(to_video_tensor(part))  # (b, 1, N, D): the half that sees frames alone
        still = spatial.repeat(1, frames.shape[1], 1, 1)  # (b, T, N, D)
        parts.append(encoder.encode_temporal(still).half().cpu())
    return torch.cat(parts)


@dataclass(frozen=True, eq=False)
class ProbeScore:
    """The setting that validation chose, its accuracy there, and for every test clip whether it was right."""

    setting: str
    validation: float
    hits: NDArray[np.bool_]

    @property
    def accuracy(self) -> float:
        return float(self.hits.mean())

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON; `from_dict` reads it back."""
        bits = "".join("1" if hit else "0" for hit in self.hits)
        return {"accuracy": self.accuracy, "validation": self.validation, "setting": self.setting, "hits": bits}

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> ProbeScore:
        return cls(given["setting"], given["validation"], np.array([bit == "1" for bit in given["hits"]]))


def probe(
    features: Features, clips: Mapping[str, WorldClips], label: str, positions: bool, settings: ProbeSettings
) -> ProbeScore:
    """Train attention pooling and a classifier on frozen tokens, every setting on the same pass, and judge the best."""
    targets = {split: clips[split].targets(label) for split in settings.clips}
    return train_probe(features, targets, LABELS[label], positions, settings)


def train_probe(
    features: Features, targets: Mapping[str, Tensor], names: Sequence[str], positions: bool, settings: ProbeSettings
) -> ProbeScore:
    """`probe` for any labels: class indices `(n,)` among `names` of every split."""
    with tempfile.TemporaryDirectory() as folder:
        result = train(
            "map_classifier",
            InMemoryFeatures(features["train"], targets["train"]),
            InMemoryFeatures(features["validation"], targets["validation"]),
            label_names=tuple(names),
            head={"positions": positions},
            config=TrainingConfig(epochs=settings.epochs, seed=settings.seed, checkpoint_every_s=3600),
            grid=settings.grid,
            run_dir=folder,
            metric=functools.partial(TopKAccuracy, len(names)),
        )
    head = cast("MapClassifier", result.best)
    scores = torch.cat([head.probabilities(part) for part in features["test"].split(_AT_ONCE)])  # (n, K)
    hits = (scores.argmax(1) == targets["test"]).numpy()
    assert result.score is not None
    return ProbeScore(result.settings[0].name, result.score, hits)


def probe_families(
    features: Features, clips: Mapping[str, WorldClips], label: str, settings: ProbeSettings
) -> dict[str, ProbeScore]:
    """`probe` with and without positions, by the name of the family."""
    return {family: probe(features, clips, label, positions, settings) for family, positions in FAMILIES.items()}


def chosen(scores: Mapping[str, ProbeScore]) -> ProbeScore:
    """The score of the family that is better on the validation split; the test split has no say."""
    return max(scores.values(), key=lambda score: score.validation)
