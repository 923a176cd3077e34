"""What the shipped `nano` was made for: to tell motions apart, also in a world drawn otherwise than its own.

The bounds are the aims; docs/pretrain.md has the measured figures, with intervals, on more clips.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.pretraining.nano_scores import MOTION_TEMPLATES, SIX_MOTIONS
from benchmarks.pretraining.world_probes import ProbeSettings, clip_tokens, draw_clips, probe, train_probe
from core_encoder.encoder import Encoder, load_encoder
from pretrain.world.synthetic_world import DEMO_MOTIONS
from prismhub import zero_shot
from tests.pretrain.world.other_world import MOTIONS, draw_clip

CLIPS = {"train": 480, "validation": 120, "test": 400}
SETTINGS = ProbeSettings(CLIPS, ({"lr": 1e-3},))
BOUND = 0.85


@pytest.fixture(scope="module")
def nano() -> Encoder:
    return load_encoder("nano")


def test_it_is_small(nano: Encoder) -> None:
    assert sum(weight.numel() for weight in nano.model.parameters()) <= 2_500_000


@pytest.mark.slow
def test_a_head_on_480_clips_names_motions_of_unseen_objects(nano: Encoder) -> None:
    clips = {split: draw_clips(split, count, 48, 8, shown=SIX_MOTIONS) for split, count in CLIPS.items()}
    features = {split: clip_tokens(nano, some.frames) for split, some in clips.items()}
    assert probe(features, clips, "motion", positions=True, settings=SETTINGS).accuracy >= BOUND


@pytest.mark.slow
def test_a_head_on_480_clips_names_motions_of_a_world_drawn_otherwise(nano: Encoder) -> None:
    features: dict[str, Tensor] = {}
    targets: dict[str, Tensor] = {}
    for seed, (split, count) in enumerate(CLIPS.items()):
        frames, motions = zip(*(draw_clip(index, seed=seed) for index in range(count)), strict=True)
        features[split] = clip_tokens(nano, torch.from_numpy(np.stack(frames)))
        targets[split] = torch.tensor([MOTIONS.index(motion) for motion in motions])
    assert train_probe(features, targets, MOTIONS, positions=True, settings=SETTINGS).accuracy >= BOUND


@pytest.mark.slow
def test_it_names_the_demos_motions_by_words_alone() -> None:
    clips = draw_clips("zero_shot_motion", 240, 48, 8, shown=DEMO_MOTIONS)
    answers = zero_shot(videos=clips.frames, labels=DEMO_MOTIONS, templates=MOTION_TEMPLATES, encoder="nano")
    hits = [answer.label == motion for answer, motion in zip(answers.predictions, clips.motions, strict=True)]
    assert np.mean(hits) >= 0.7
