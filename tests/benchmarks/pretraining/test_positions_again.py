"""Telling tokens their place again: what is added, to all tokens and to the visible ones alike, and taken back."""

from __future__ import annotations

import torch

from benchmarks.pretraining.positions_again import positions_again
from core_encoder.models.vivit import ViViT
from pretrain.run.initial_weights import fresh_model
from tests.pretrain.tiny_models import tiny_model


def model() -> ViViT:
    return fresh_model(tiny_model().config, seed=0, position_scale=1.0).vision.eval()


@torch.no_grad()
def test_positions_are_added_after_the_spatial_half() -> None:
    vision, video = model(), torch.rand(2, 3, 3, 16, 16)
    plain, tokens = vision.encode_spatial(video), vision(video)[0]
    with positions_again():
        again, mixed = vision.encode_spatial(video), vision(video)[0]
    torch.testing.assert_close(again, plain + vision.spatial_positions)
    torch.testing.assert_close(mixed, vision.encode_temporal(again))
    assert not torch.allclose(mixed, tokens)
    assert torch.equal(vision(video)[0], tokens), "taken back"


@torch.no_grad()
def test_visible_tokens_get_their_own() -> None:
    vision, video = model(), torch.rand(2, 3, 3, 16, 16)
    visible = torch.zeros(2, 3, 4, dtype=torch.bool)
    visible[0, :, [0, 3]] = visible[1, :, [1, 2]] = True
    plain = vision.encode_spatial(video, visible)
    with positions_again():
        again = vision.encode_spatial(video, visible)
    places = [visible[n].nonzero()[:, 1] for n in range(2)]  # frame by frame, as the tokens come
    torch.testing.assert_close(again - plain, torch.stack([vision.spatial_positions[one] for one in places]))
