"""A few labelled videos as training with the encoder reads them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from adapters.adapter import Adapter
from adapters.context import Context, TargetSchema
from adapters.features import ClipFeatures
from adapters.registry import adapter_kind
from adapters.tuning.broken_clips import BrokenClips
from adapters.tuning.frame_examples import FrameExamples
from adapters.tuning.tune_config import TuneConfig
from adapters.tuning.tuned_adapter import Tuning
from core_encoder.clip_plan import Clip, ClipPlan
from core_encoder.encoder import Encoder, load_encoder
from core_encoder.extraction import spec_for
from core_encoder.features.feature_source import FeatureSource
from core_encoder.features.feature_spec import FeatureKind, FeatureSpec
from fit.augmentation.augmentation import Augmentation
from tests.videos import moving_square, write_video

NAMES = ("dim", "bright")


def write_clips(folder: Path, count: int = 6, num_frames: int = 12) -> list[Clip]:
    """Dim and bright videos, in turn; every one different."""
    clips = []
    for i in range(count):
        frames = (moving_square(num_frames, 48, 64, seed=i) * (0.4, 1.0)[i % 2]).astype("uint8")
        clips.append(Clip(str(write_video(folder / f"{i}.mp4", frames))))
    return clips


def spec_of(encoder: Encoder, kind: FeatureKind = "tokens", layers: Sequence[int] = (), **how: Any) -> FeatureSpec:
    plan = ClipPlan(how.pop("num_frames", 4), views=how.pop("views", 1))
    return spec_for(encoder, plan, kind=kind, layers=layers, **how)


def features_of(clips: Sequence[Clip], encoder: Encoder, spec: FeatureSpec, root: Path) -> ClipFeatures:
    source = FeatureSource(encoder, spec, root)
    return ClipFeatures(source, clips, [i % 2 for i in range(len(clips))], [f"clip {i}" for i in range(len(clips))])


def frames_of(features: ClipFeatures, spec: FeatureSpec, *names: Any, most: int = 0) -> FrameExamples:
    broken = BrokenClips(Path(str(features.source.store.root)) / "broken.jsonl", most)
    return FrameExamples(features, spec, Augmentation(names), broken)


def head_on(spec: FeatureSpec, dim: int, kind: str = "map_classifier", **options: Any) -> Adapter:
    config = {"dropout": 0.0} | ({"hidden": 24} if kind == "map_classifier" else {}) | options
    return adapter_kind(kind).build(config, Context(dim, TargetSchema("classes", NAMES), spec))


def tuning_on(spec: FeatureSpec, source: str = "nano", **options: Any) -> Tuning:
    return Tuning(TuneConfig(**options), source, spec, load_encoder(source).dim, NAMES)
