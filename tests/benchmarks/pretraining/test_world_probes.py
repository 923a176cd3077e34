"""Probe clips, their labels, tokens of single frames, and what a probe can and cannot read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.pretraining.ablation import RECIPE
from benchmarks.pretraining.world_probes import (
    FAMILIES,
    LABELS,
    WORLD_SEED,
    ProbeScore,
    ProbeSettings,
    WorldClips,
    chosen,
    clip_tokens,
    draw_clips,
    one_frame_tokens,
    probe,
    random_encoder,
)
from core_encoder.encoder import Encoder
from core_encoder.models.model_configs import VideoTextConfig, ViViTConfig
from pretrain.corpus.manifest import Manifest
from pretrain.run.initial_weights import initial_model
from pretrain.world.world_objects import HELD_OUT_OBJECTS, SEEN_OBJECTS
from tests.benchmarks.pretraining.tiny import tiny_recipe


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    vision = ViViTConfig(16, 2, 32, spatial_layers=1, temporal_layers=1, patch_size=8, image_size=16, num_frames=4)
    return random_encoder(VideoTextConfig(vision), seed=0)


def test_clips_are_of_held_out_objects_and_splits_share_none() -> None:
    train, test = draw_clips("train", 20, 16, 4), draw_clips("test", 20, 16, 4)
    held_out = {thing.name for thing in HELD_OUT_OBJECTS}
    assert set(train.objects) <= held_out and not held_out & {thing.name for thing in SEEN_OBJECTS}
    assert train.frames.shape == (20, 4, 16, 16, 3) and train.frames.dtype == torch.uint8
    assert not any(torch.equal(one, other) for one in train.frames for other in test.frames)
    assert torch.equal(draw_clips("train", 20, 16, 4).frames, train.frames)


def test_named_things_come_in_turn() -> None:
    things = HELD_OUT_OBJECTS[:3]
    assert draw_clips("test", 7, 16, 4, things).objects == tuple(things[i % 3].name for i in range(7))


def test_targets_name_what_is_shown() -> None:
    clips = draw_clips("train", 12, 16, 4)
    read = {label: [LABELS[label][i] for i in clips.targets(label).tolist()] for label in LABELS}
    assert tuple(read["object"]) == clips.objects and tuple(read["motion"]) == clips.motions
    for name, texture, colour, shape in zip(clips.objects, read["texture"], read["colour"], read["shape"], strict=True):
        assert name == " ".join(word for word in (texture, colour, shape) if word != "plain")
    assert len(LABELS["object"]) == len(HELD_OUT_OBJECTS) and len(LABELS["motion"]) == 16


def test_the_random_encoder_is_what_pretraining_begins_with(tmp_path: Path) -> None:
    recipe = replace(tiny_recipe(tmp_path), seed=3, images=None)
    begun = initial_model(recipe, "stage1", tmp_path)
    ours = random_encoder(recipe.model, 3).model
    for name, value in begun.state_dict().items():
        assert torch.equal(value, ours.state_dict()[name]), name
    assert 0.8 < float(ours.vision.spatial_positions.std()) < 1.2, "unit scale, not the inverse root of their count"


def test_the_random_encoder_depends_on_its_seed_alone(encoder: Encoder) -> None:
    config = encoder.model.config
    assert random_encoder(config, 0).fingerprint == encoder.fingerprint != random_encoder(config, 1).fingerprint


def test_one_frame_tokens_are_those_of_the_frame_repeated(encoder: Encoder) -> None:
    frames = draw_clips("test", 3, 16, 4).frames
    repeated = frames[:, 2:3].repeat(1, 4, 1, 1, 1)
    torch.testing.assert_close(one_frame_tokens(encoder, frames, 2), clip_tokens(encoder, repeated))
    assert not torch.equal(one_frame_tokens(encoder, frames, 2), one_frame_tokens(encoder, frames, 0))


def _motions(names: list[str]) -> WorldClips:
    return WorldClips(torch.empty(len(names), 0), ("red circle",) * len(names), tuple(names))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_probe_reads_what_is_there_and_guesses_what_is_not(family: str) -> None:
    """Tokens of one class point one way; the hits of the test split are those of the classes that do."""
    torch.manual_seed(0)
    shown = ["approaching", "receding"] * 30
    tokens = 0.1 * torch.randn(60, 2, 4, 16)
    tokens[0::2] += 0.5
    clips = {"train": _motions(shown), "validation": _motions(shown), "test": _motions(["approaching"] * 4 + shown)}
    features = {"train": tokens, "validation": tokens, "test": torch.cat([tokens[1:8:2], tokens])}
    settings = ProbeSettings(dict.fromkeys(clips, 0), ({"lr": 1e-6}, {"lr": 2e-2}), epochs=20)
    score = probe({split: part.half() for split, part in features.items()}, clips, "motion", FAMILIES[family], settings)
    assert score.setting == "lr=0.02" and score.validation == 1
    assert score.hits.tolist() == [False] * 4 + [True] * 60, "the first four carry another's label"


def test_validation_chooses_between_the_families_and_scores_survive_json() -> None:
    scores = {
        "plain MAP": ProbeScore("a", 0.5, np.array([True, True])),
        "MAP with positions": ProbeScore("b", 0.6, np.array([True, False])),
    }
    best = chosen(scores)
    assert best.setting == "b" and best.accuracy == 0.5
    again = ProbeScore.from_dict(best.to_dict())
    assert again.to_dict() == best.to_dict() and again.hits.dtype == bool


def test_nano_never_trains_on_what_judges_it() -> None:
    """Its tiers draw seen objects alone; probes and held-out clips come from streams and seeds of their own."""
    folder = RECIPE.parent
    trained = [tier.synthetic for tier in Manifest.load(folder / "nano_corpus.yaml").tiers]
    judged = [tier.synthetic for tier in Manifest.load(folder / "nano_held_out.yaml").tiers]
    assert all(spec and spec.objects == "seen" and spec.seed != WORLD_SEED for spec in trained)
    assert all(spec and spec.objects == "held_out" and spec.seed != WORLD_SEED for spec in judged)
    streams = [(spec.seed, spec.split) for spec in (*trained, *judged) if spec]
    assert len(set(streams)) == len(streams) == 11
    assert not {thing.name for thing in SEEN_OBJECTS} & {thing.name for thing in HELD_OUT_OBJECTS}
