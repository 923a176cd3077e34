"""Stage 1: the loss of a step, half of the tokens, images in clips, and one batch over two processes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from core_encoder.models.model_configs import VideoTextConfig
from core_encoder.models.video_text import VideoTextModel
from core_encoder.preprocessing import to_video_tensor
from fit.contrastive import spread
from pretrain.recipe import ContrastiveConfig
from pretrain.stages.contrastive_stage import ContrastiveStage
from tests.fit.test_contrastive import plain_loss
from tests.pretrain.processes import in_processes
from tests.pretrain.tiny_models import VISION, LetterTokenizer, random_frames, tiny_model

CAPTIONS = ("a red dot", "two blue lines", "", "x", "a green square", "dot", "line", "a blue dot")


def stage(part: str = "stage1", seed: int = 0, **config: Any) -> ContrastiveStage:
    settings = ContrastiveConfig(num_frames=1 if part == "images" else VISION.num_frames, **config)
    return ContrastiveStage(tiny_model(auxiliary_layers=1), LetterTokenizer(), settings, part, seed)


@contextmanager
def tokens_entering(*layers: nn.Module) -> Iterator[list[int]]:
    """How many tokens each call of the layers is given."""
    counts: list[int] = []
    handles = [
        layer.register_forward_pre_hook(lambda module, given: counts.append(given[0].numel() // given[0].shape[-1]))
        for layer in layers
    ]
    yield counts
    for handle in handles:
        handle.remove()


def test_a_step_is_the_loss_of_what_the_two_towers_say() -> None:
    module, frames = stage(drop=0.0, temperature=0.2), random_frames(4)
    values = module.training_step(frames, CAPTIONS[:4], 0, range(4))
    model = module.model
    with torch.no_grad():
        assert model.video_head is not None
        video = model.video_head(model.vision(to_video_tensor(frames))[0])
        text = model.embed_token_ids(*module.tokenizer(CAPTIONS[:4]))
    assert math.isclose(values["loss"].item(), plain_loss(video, text, 0.2), rel_tol=1e-4)
    assert math.isclose(values["temperature"].item(), 0.2, rel_tol=1e-6)
    assert math.isclose(values["embedding_variance"].item(), spread(video).item(), rel_tol=1e-5)
    assert not values["temperature"].requires_grad and not values["embedding_variance"].requires_grad


@pytest.mark.parametrize(("part", "frames"), [("stage1", 4), ("stage1", 1), ("images", 1)])
def test_the_encoder_computes_half_of_the_tokens(part: str, frames: int) -> None:
    vision = (module := stage(part)).model.vision
    clips = random_frames(3, frames)
    with tokens_entering(*vision.spatial_layers) as spatial, tokens_entering(*vision.temporal_layers) as temporal:
        module.training_step(clips, CAPTIONS[:3], 0, range(3))
    half = 3 * frames * 4 // 2
    assert spatial == [half]
    assert temporal == ([] if part == "images" else [half])
    assert module.num_tokens(clips) == half
    full = stage(part, drop=0.0)
    with tokens_entering(*full.model.vision.spatial_layers) as spatial:
        full.training_step(clips, CAPTIONS[:3], 0, range(3))
    assert spatial == [2 * half] and full.num_tokens(clips) == 2 * half


def test_the_same_places_are_visible_in_every_frame() -> None:
    visible = stage().draw_visible(torch.zeros(6, 4, 3, 16, 16), 0, range(6))
    assert visible is not None and visible.shape == (6, 4, 4)
    assert (visible == visible[:, :1]).all() and (visible[:, 0].sum(1) == 2).all()


def test_masks_depend_on_seed_step_and_position_alone() -> None:
    clip = torch.zeros(8, 4, 3, 16, 16)
    masks = stage(seed=5).draw_visible(clip, 7, range(8))
    assert masks is not None
    torch.manual_seed(99)
    again = stage(seed=5).draw_visible(torch.rand(3, 4, 3, 16, 16), 7, [6, 1, 3])
    assert again is not None and torch.equal(again, masks[[6, 1, 3]])
    for other in (stage(seed=6).draw_visible(clip, 7, range(8)), stage(seed=5).draw_visible(clip, 8, range(8))):
        assert other is not None and not torch.equal(other, masks)
    assert not (masks == masks[:1]).all()
    image = stage("images", seed=5).draw_visible(clip[:, :1], 7, range(8))
    assert image is not None and not torch.equal(image, masks[:, :1])  # parts draw masks of their own


@pytest.mark.parametrize("part", ["stage1", "images"])
def test_dropping_nothing_equals_seeing_everything(part: str) -> None:
    module = stage(part, drop=0.0)
    video = to_video_tensor(random_frames(2, module.config.num_frames))
    whole = module.embed_video(video, 0, range(2))
    assert module.draw_visible(video, 0, range(2)) is None
    module.draw_visible = lambda video, step, positions: torch.ones(2, video.shape[1], 4, dtype=torch.bool)  # type: ignore[method-assign]
    torch.testing.assert_close(module.embed_video(video, 0, range(2)), whole, atol=1e-6, rtol=1e-5)


def test_only_visible_pixels_count() -> None:
    module = stage()
    video = to_video_tensor(random_frames(3))
    visible = module.draw_visible(video, 4, range(3))
    assert visible is not None
    places = visible.view(3, 4, 1, 2, 2).repeat_interleave(8, 3).repeat_interleave(8, 4)
    other = torch.where(places, video, 1.0 - video)
    torch.testing.assert_close(module.embed_video(other, 4, range(3)), module.embed_video(video, 4, range(3)))
    other = torch.where(places, 1.0 - video, video)
    assert not torch.allclose(module.embed_video(other, 4, range(3)), module.embed_video(video, 4, range(3)))


@pytest.mark.parametrize("drop", [0.0, 0.5])
def test_an_image_is_a_clip_of_one_frame_at_the_first_time(drop: float) -> None:
    module = stage(drop=drop)
    vision, head = module.model.vision, module.model.video_head
    video = to_video_tensor(random_frames(3, frames=1))
    visible = module.draw_visible(video, 2, range(3))
    assert visible is not None and visible.shape == (3, 1, 4) and (visible.sum((1, 2)) == round(4 * (1 - drop))).all()
    embeddings = []
    for i in range(3):
        x = vision.encode_spatial(video[i : i + 1], visible[i : i + 1])  # (1, V, D)
        x = (x + vision.temporal_positions[0]).transpose(0, 1)  # (V, 1, D): each token is alone in its row of frames
        for layer in vision.temporal_layers:
            x = layer(x)
        tokens = vision.temporal_norm(x).transpose(0, 1)  # (1, V, D)
        assert head is not None
        embeddings.append(head(tokens[:, None]))
    torch.testing.assert_close(module.embed_video(video, 2, range(3)), torch.cat(embeddings), atol=1e-5, rtol=1e-4)


def test_the_images_part_sees_the_spatial_half_alone() -> None:
    module = stage("images")
    module.training_step(random_frames(3, 1), CAPTIONS[:3], 0, range(3))["loss"].backward()
    for name, parameter in module.model.vision.named_parameters():
        assert parameter.requires_grad == (not name.startswith("temporal_")), name
        assert (parameter.grad is not None) == parameter.requires_grad, name


@pytest.mark.parametrize("part", ["images", "stage1", "alignment"])
def test_exactly_what_is_trainable_gets_gradients(part: str) -> None:
    module = stage(part)
    frames = random_frames(3, module.config.num_frames)
    module.training_step(frames, CAPTIONS[:3], 0, range(3))["loss"].backward()
    for name, parameter in module.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
    locked = {name for name, parameter in module.named_parameters() if not parameter.requires_grad}
    start = {"images": "model.vision.temporal_", "stage1": "nothing", "alignment": "model.vision."}[part]
    assert locked == {name for name, _ in module.named_parameters() if name.startswith(start)}
    assert bool(locked) == (part != "stage1")


def test_a_part_unlocks_what_the_one_before_locked() -> None:
    model = tiny_model()
    ContrastiveStage(model, LetterTokenizer(), ContrastiveConfig(), "alignment", 0)
    ContrastiveStage(model, LetterTokenizer(), ContrastiveConfig(), "stage1", 0)
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_alignment_sees_images_as_the_finished_encoder_does() -> None:
    module, video = stage("alignment"), to_video_tensor(random_frames(2)[:, :1])
    torch.testing.assert_close(module.embed_video(video, 0, range(2)), module.model(video, embed=True)[2])


def test_alignment_sees_whole_clips() -> None:
    module, frames = stage("alignment"), random_frames(2)
    with tokens_entering(*module.model.vision.spatial_layers) as counts:
        module.training_step(frames, CAPTIONS[:2], 0, range(2))
    assert counts == [2 * 16] and module.num_tokens(frames) == 2 * 16


def test_the_temperature_stops_at_the_clamp_and_comes_back() -> None:
    module, frames = stage(temperature=0.1, min_temperature=0.05), random_frames(4)
    assert math.isclose(module.temperature.item(), 0.1, rel_tol=1e-6)
    with torch.no_grad():
        module.log_scale.fill_(20.0)
    assert math.isclose(module.temperature.item(), 0.05, rel_tol=1e-6)
    optimizer = torch.optim.SGD([module.log_scale], lr=0.1)
    module.on_before_zero_grad(optimizer)  # as after the step that went too far
    assert math.isclose(module.log_scale.item(), -math.log(0.05), rel_tol=1e-6)
    values = module.training_step(frames, CAPTIONS[:4], 0, range(4))
    assert math.isclose(values["temperature"].item(), 0.05, rel_tol=1e-6)
    values["loss"].backward()
    optimizer.step()
    assert module.temperature.item() > 0.0501  # random embeddings want it warmer, at once
    _, about = module.exported()
    assert about == {"temperature": module.temperature.item()}


def test_parameters_have_a_dimension_to_be_sharded_by() -> None:
    assert all(parameter.ndim for parameter in stage().parameters())


def test_a_model_without_text_tower_is_refused() -> None:
    with pytest.raises(ValueError, match="text tower"):
        ContrastiveStage(VideoTextModel(VideoTextConfig(VISION)), LetterTokenizer(), ContrastiveConfig(), "stage1", 0)


def test_uniformity_of_the_texts_counts_from_its_step_until_the_curriculum_is_over() -> None:
    losses = {}
    for weight, curriculum in ((0.0, ()), (0.5, ()), (0.5, (("a", 3), ("b", 2)))):
        module = stage(seed=3, text_uniformity=weight, text_uniformity_from=4, curriculum=curriculum)
        for step in (3, 4, 5):
            value = module.training_step(random_frames(4), CAPTIONS[:4], step, range(4))["loss"]
            losses[weight, bool(curriculum), step] = value.item()
    text = module.model.embed_token_ids(*module.tokenizer(CAPTIONS[:4]))
    apart = torch.pdist(text).square().mul(-2).exp().mean().log().item()  # Wang & Isola, 2020
    assert losses[0.5, False, 4] - losses[0.0, False, 4] == pytest.approx(0.5 * apart, abs=1e-5)
    assert losses[0.5, True, 4] == losses[0.5, False, 4] and losses[0.5, True, 5] == losses[0.0, False, 5]
    assert losses[0.5, False, 5] != losses[0.0, False, 5]
    assert losses[0.5, False, 3] == losses[0.5, True, 3] == losses[0.0, False, 3]


def loss_and_gradients(first: int, last: int) -> dict[str, Tensor]:
    module = stage(seed=3, text_uniformity=0.5)
    values = module.training_step(random_frames(8)[first:last], CAPTIONS[first:last], 11, range(first, last))
    values["loss"].backward()
    gradients = {name: p.grad for name, p in module.named_parameters() if p.grad is not None}
    return {**gradients, "loss": values["loss"].detach(), "spread": values["embedding_variance"]}


def share_of_the_batch(rank: int, world: int) -> dict[str, Tensor]:
    size = 8 // world
    return loss_and_gradients(rank * size, (rank + 1) * size)


@pytest.mark.slow
def test_two_processes_have_the_gradients_of_one_with_the_whole_batch(tmp_path: Path) -> None:
    halves = in_processes(share_of_the_batch, 2, tmp_path)
    expected = loss_and_gradients(0, 8)
    assert halves[0].keys() == halves[1].keys() == expected.keys()
    for name, value in expected.items():
        mean = (halves[0][name] + halves[1][name]) / 2  # as distributed training averages
        torch.testing.assert_close(mean, value, atol=1e-5, rtol=1e-4, msg=lambda text, name=name: f"{name}: {text}")
    assert not torch.allclose(halves[0]["loss"], halves[1]["loss"])
