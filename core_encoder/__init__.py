"""Floor 1: video file -> clip -> frames -> frozen features, cached. Knows no label, no loss, no dataset."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from core_encoder.encoder import Encoder, VideoFeatures, encoders, load_encoder, save_encoder
    from core_encoder.errors import EncoderMismatch, InputError, UnreadableVideo
    from core_encoder.extraction import FeatureSource, extract
    from core_encoder.feature_store import FeatureSpec, FeatureStore
    from core_encoder.video import Clip, ClipPlan, Preprocessing, read_clip

_HOME = {
    "Encoder": "encoder",
    "VideoFeatures": "encoder",
    "encoders": "encoder",
    "load_encoder": "encoder",
    "save_encoder": "encoder",
    "EncoderMismatch": "errors",
    "InputError": "errors",
    "UnreadableVideo": "errors",
    "FeatureSource": "extraction",
    "extract": "extraction",
    "FeatureSpec": "feature_store",
    "FeatureStore": "feature_store",
    "Clip": "video",
    "ClipPlan": "video",
    "Preprocessing": "video",
    "read_clip": "video",
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
