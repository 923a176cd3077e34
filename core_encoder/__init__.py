"""Floor 1: video file -> clip -> frames -> frozen features, cached. Knows no label, no loss, no dataset."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from core_encoder.clip_plan import Clip, ClipPlan
    from core_encoder.encoder import Encoder, VideoFeatures, load_encoder, save_encoder
    from core_encoder.errors import EncoderMismatch, InputError, UnreadableVideo
    from core_encoder.extraction import extract
    from core_encoder.features.feature_source import FeatureSource
    from core_encoder.features.feature_spec import FeatureSpec
    from core_encoder.features.feature_store import FeatureStore
    from core_encoder.models.known_encoders import encoders
    from core_encoder.preprocessing import Preprocessing
    from core_encoder.video.decoders import read_clip

_HOME = {
    "Encoder": "encoder",
    "VideoFeatures": "encoder",
    "encoders": "models.known_encoders",
    "load_encoder": "encoder",
    "save_encoder": "encoder",
    "EncoderMismatch": "errors",
    "InputError": "errors",
    "UnreadableVideo": "errors",
    "FeatureSource": "features.feature_source",
    "extract": "extraction",
    "FeatureSpec": "features.feature_spec",
    "FeatureStore": "features.feature_store",
    "Clip": "clip_plan",
    "ClipPlan": "clip_plan",
    "Preprocessing": "preprocessing",
    "read_clip": "video.decoders",
}
__all__ = [
    "Clip",
    "ClipPlan",
    "Preprocessing",
    "read_clip",
    "Encoder",
    "VideoFeatures",
    "encoders",
    "load_encoder",
    "save_encoder",
    "FeatureSpec",
    "FeatureStore",
    "FeatureSource",
    "extract",
    "InputError",
    "UnreadableVideo",
    "EncoderMismatch",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
