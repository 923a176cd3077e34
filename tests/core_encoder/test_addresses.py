"""Fingerprints and addresses of features: what was stored yesterday is found today.

A `transformers` that names the tensors of a model anew would change its fingerprint: that shows here.
"""

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
from tests.core_encoder.foreign_models import BUILDERS, foreign_folder

KNOWN = {  # first letters of the fingerprint, folders of two kinds of features, as they were before other encoders came
    "nano": ("9b65c6e0ddc79a28", "tokens-fp16-8x48px-01a828377ad97ac0", "frames-fp32-4x48px-a87c5f667d88ae6c"),
    "videoprism": ("b683d61a5f287280", "tokens-fp16-5x30px-6ba8bb0b2dc61736", "frames-fp32-4x30px-c141c66c08dec9e4"),
    "clip": ("f9d885eb3c1aa4e8", "tokens-fp16-16x24px-cc810cbe7d6ed5eb", "frames-fp32-4x24px-3c49840de48a6271"),
    "siglip": ("2fd7245e74ca1477", "tokens-fp16-16x32px-8a7744e8af8daaad", "frames-fp32-4x32px-8e26ddd57b109202"),
    "siglip2": ("8a606b6e83d315c7", "tokens-fp16-16x32px-1eb9ceb6fbceec53", "frames-fp32-4x32px-5329231b830c970a"),
    "dinov2": ("87f388e4a39260c3", "tokens-fp16-16x32px-cd4d7c4e6ddfefac", "frames-fp32-4x32px-9a07ef636582cdea"),
    "dinov2_with_registers": (
        "07d679ac7ff98aba",
        "tokens-fp16-16x32px-3761038f5ce34b09",
        "frames-fp32-4x32px-d9193874c784f050",
    ),
    "dinov3_vit": ("bf20c167629677be", "tokens-fp16-16x32px-5ba16c19399463fe", "frames-fp32-4x32px-069be9d0521a263c"),
    "videomae": ("eae5c0df171d7f15", "tokens-fp16-8x32px-08245ce475531336", "frames-fp32-4x32px-cd759cf7336831e9"),
    "vjepa2": ("e3dc5f2789997e14", "tokens-fp16-8x32px-a8d0b40740ba62d3", "frames-fp32-4x32px-07dbc6cd03dfa99a"),
}
BEFORE = {"videoprism": vision_model, "clip": clip_model}


@torch.no_grad()
def _counted(model: nn.Module) -> nn.Module:
    """Weights that no random number generator decides."""
    for number, parameter in enumerate(model.parameters()):
        values = torch.arange(parameter.numel(), dtype=torch.float32).add(number).remainder(97).sub(48).div(64)
        parameter.copy_(values.reshape(parameter.shape))
    return model


@pytest.mark.parametrize("name", KNOWN)
def test_fingerprints_and_addresses_stay(name: str, tmp_path: Path) -> None:
    source: Path | str = name
    if name in BEFORE:
        source = save(_counted(BEFORE[name]()), tmp_path / name)
    elif name in BUILDERS:
        source = foreign_folder(name, tmp_path / name, _counted(BUILDERS[name]()))
    encoder = load_encoder(source)
    spec = replace(spec_for(encoder), decoder="pyav-1.0")
    frames = replace(spec, kind="frames", dtype="fp32", plan=ClipPlan(4, "dense", fps=8.0, window_stride=2))
    assert (encoder.fingerprint[:16], spec.folder_name, frames.folder_name) == KNOWN[name]
    if name not in BUILDERS.keys() - BEFORE.keys():
        assert "tubelet" not in spec.describe() and "short_side" not in spec.describe()["preprocessing"]
    assert FeatureSpec.from_dict(spec.describe()) == spec
