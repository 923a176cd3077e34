"""Fingerprints and addresses of features: what was stored yesterday is found today."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from core_encoder.clip_plan import ClipPlan
from core_encoder.encoder import load_encoder
from core_encoder.extraction import spec_for
from core_encoder.features.feature_spec import FeatureSpec
from tests.core_encoder.checkpoint_files import clip_model, save, vision_model

KNOWN = {  # first letters of the fingerprint, folders of two kinds of features, as they were before other encoders came
    "nano": ("9b65c6e0ddc79a28", "tokens-fp16-8x48px-01a828377ad97ac0", "frames-fp32-4x48px-a87c5f667d88ae6c"),
    "videoprism": ("b683d61a5f287280", "tokens-fp16-5x30px-6ba8bb0b2dc61736", "frames-fp32-4x30px-c141c66c08dec9e4"),
    "clip": ("f9d885eb3c1aa4e8", "tokens-fp16-16x24px-cc810cbe7d6ed5eb", "frames-fp32-4x24px-3c49840de48a6271"),
}


@torch.no_grad()
def _counted(model: nn.Module) -> nn.Module:
    """Weights that no random number generator decides."""
    for number, parameter in enumerate(model.parameters()):
        values = torch.arange(parameter.numel(), dtype=torch.float32).add(number).remainder(97).sub(48).div(64)
        parameter.copy_(values.reshape(parameter.shape))
    return model


@pytest.mark.parametrize("name", KNOWN)
def test_fingerprints_and_addresses_stay(name: str, tmp_path: Path) -> None:
    builders = {"videoprism": vision_model, "clip": clip_model}
    source = save(_counted(builders[name]()), tmp_path / name) if name in builders else name
    encoder = load_encoder(source)
    spec = replace(spec_for(encoder), decoder="pyav-1.0")
    frames = replace(spec, kind="frames", dtype="fp32", plan=ClipPlan(4, "dense", fps=8.0, window_stride=2))
    assert (encoder.fingerprint[:16], spec.folder_name, frames.folder_name) == KNOWN[name]
    assert "tubelet" not in spec.describe() and "short_side" not in spec.describe()["preprocessing"]
    assert FeatureSpec.from_dict(spec.describe()) == spec
