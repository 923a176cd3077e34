"""A recipe of a few steps for the tests of the two-stage experiment, and probes on a few clips."""

from __future__ import annotations

from pathlib import Path

from benchmarks.pretraining.world_probes import ProbeSettings
from pretrain.recipe import Recipe

PROBES = ProbeSettings({"train": 24, "validation": 8, "test": 12}, ({"lr": 1e-3}, {"lr": 3e-3}), epochs=1)

_RECIPE = """
name: tiny
vision: {width: 16, heads: 2, mlp_dim: 32, spatial_layers: 1, temporal_layers: 1,
         patch_size: 8, image_size: 16, num_frames: 4}
video_head: {auxiliary_layers: 0, pooling_dim: 32}
text: {vocab_size: 300, width: 16, heads: 2, mlp_dim: 32, layers: 1, max_length: 16}
corpus: corpus.yaml
images: {tiers: [pictures], num_frames: 1, steps: 2, batch_size: 8, drop: 0}
stage1: {tiers: [clips], num_frames: 4, steps: 3, batch_size: 8, lr: 2e-3}
stage2: {tiers: [clips], num_frames: 4, steps: 2, batch_size: 8, lr: 1e-3, warmup_steps: 1, final_lr: 1e-5,
         decoder_layers: 1, decoder_width: 16, decoder_heads: 2, decoder_mlp: 32}
compute: {accelerator: cpu, devices: 1}
"""
_CORPUS = """
tiers:
  - {name: pictures, quality: clean, media: image, synthetic: {seed: 1, split: pictures, objects: seen, length: 100}}
  - {name: clips, quality: clean, synthetic: {seed: 1, split: clips, objects: seen, length: 100}}
"""


def tiny_recipe(folder: Path) -> Recipe:
    """Written into `folder` and read from there."""
    (folder / "corpus.yaml").write_text(_CORPUS)
    (folder / "tiny.yaml").write_text(_RECIPE)
    return Recipe.load(folder / "tiny.yaml")
