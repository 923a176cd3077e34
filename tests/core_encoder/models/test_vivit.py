"""The video encoder: padding, visible tokens, halves, other sizes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from core_encoder.models.model_configs import PRESETS, ViViTConfig
from core_encoder.models.vivit import ViViT, frames_to_mask, initialize

SMALL = ViViTConfig(
    width=24, heads=3, mlp_dim=40, spatial_layers=3, temporal_layers=2, patch_size=4, image_size=12, num_frames=5
)


@pytest.fixture(scope="module")
def model() -> ViViT:
    model = ViViT(SMALL)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.3 if parameter.ndim < 2 else parameter.shape[-1] ** -0.5, generator=generator)
        model.spatial_positions.mul_(4)
        model.temporal_positions.mul_(4)
    return model.eval().requires_grad_(False)


def video(batch: int = 2, frames: int = 5, height: int = 12, width: int = 12, seed: int = 0) -> Tensor:
    return torch.rand(batch, frames, 3, height, width, generator=torch.Generator().manual_seed(seed))


def test_presets_have_the_published_sizes() -> None:
    counts = {}
    for name, config in PRESETS.items():
        with torch.device("meta"):
            counts[name] = sum(parameter.numel() for parameter in ViViT(config).parameters()) / 1e6
    assert 1 <= counts["nano"] <= 3
    assert counts["base"] == pytest.approx(114, abs=1)
    assert counts["large"] == pytest.approx(354, abs=1)
    assert counts["giant"] == pytest.approx(1100, rel=0.02)


def test_halves_give_the_whole(model: ViViT) -> None:
    clip = video()
    tokens, hidden = model(clip)
    assert tokens.shape == (2, 5, 9, 24)
    assert hidden == {}
    assert torch.equal(model.encode_temporal(model.encode_spatial(clip)), tokens)


def test_spatial_half_sees_one_frame_alone(model: ViViT) -> None:
    clip = video()
    torch.testing.assert_close(model.encode_spatial(clip)[:, 3:4], model.encode_spatial(clip[:, 3:4]))


def test_temporal_half_sees_one_place_alone(model: ViViT) -> None:
    spatial = model.encode_spatial(video())
    changed = spatial.clone()
    changed[:, :, 4] = 0
    difference = (model.encode_temporal(spatial) - model.encode_temporal(changed)).abs().amax((0, 1, 3))
    assert difference[4] > 0.1
    assert difference[[0, 1, 2, 3, 5, 6, 7, 8]].max() == 0


def test_hidden_layers_are_named_as_asked(model: ViViT) -> None:
    clip = video()
    tokens, hidden = model(clip, layers=(0, 2, 4, -1, -5))
    assert sorted(hidden) == [-5, -1, 0, 2, 4]
    assert torch.equal(hidden[0], hidden[-5])
    assert torch.equal(hidden[4], hidden[-1])
    torch.testing.assert_close(model.spatial_norm(hidden[2]), model.encode_spatial(clip))
    torch.testing.assert_close(model.temporal_norm(hidden[4]), tokens)
    with pytest.raises(ValueError, match="layer 5 does not exist"):
        model(clip, layers=(5,))


@settings(deadline=None, max_examples=15)
@given(st.integers(1, 9), st.integers(1, 5), st.integers(1, 5))
def test_any_number_of_frames_and_any_multiple_of_the_patch(frames: int, rows: int, columns: int) -> None:
    model = ViViT(SMALL)
    initialize(model, torch.Generator().manual_seed(0))
    with torch.no_grad():
        tokens, _ = model(video(1, frames, 4 * rows, 4 * columns))
    assert tokens.shape == (1, frames, rows * columns, 24)
    assert torch.isfinite(tokens).all()


def resampling(source: int, target: int) -> Tensor:
    """Weights (target, source) of linear resampling, with the triangle widened when shrinking (antialiasing)."""
    scale = source / target
    centers = (torch.arange(target, dtype=torch.float64)[:, None] + 0.5) * scale
    distance = (torch.arange(source, dtype=torch.float64) + 0.5 - centers).abs()
    weights = (1 - distance / max(scale, 1.0)).clamp(min=0)
    return weights / weights.sum(1, keepdim=True)


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 6, 9, 16])
def test_temporal_positions_are_resampled_linearly(model: ViViT, frames: int) -> None:
    expected = resampling(5, frames) @ model.temporal_positions.double()
    torch.testing.assert_close(model._temporal_positions(frames).double(), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (1, 3), (2, 3), (3, 1), (4, 7), (6, 6)])
def test_spatial_positions_are_resampled_linearly(model: ViViT, rows: int, columns: int) -> None:
    table = model.spatial_positions.double().unflatten(0, (3, 3))
    expected = torch.einsum("ri,cj,ijd->rcd", resampling(3, rows), resampling(3, columns), table).flatten(0, 1)
    torch.testing.assert_close(model._spatial_positions(rows, columns).double(), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("shape", [(1, 5, 3, 12, 14), (1, 5, 4, 12, 12), (5, 3, 12, 12), (1, 0, 3, 12, 12)])
def test_a_video_that_does_not_fit_is_refused(model: ViViT, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"multiples of the patch size 4|a video is"):
        model(torch.zeros(shape))


@pytest.mark.parametrize("frames", [5, 7])
def test_padded_frames_are_masked_and_keep_their_positions(model: ViViT, frames: int) -> None:
    """Against a loop over the frames: the same positions, and attention to the real frames alone."""
    clip = video(5, frames)
    mask = torch.rand(5, frames, generator=torch.Generator().manual_seed(frames)) < 0.5
    mask[:, 0] = True
    mask[1] = torch.arange(frames) < 2
    tokens, hidden = model(clip, mask, layers=range(5))
    spatial = model.encode_spatial(clip)
    positions = model._temporal_positions(frames)
    for sample in range(5):
        real = mask[sample].nonzero()[:, 0]
        x = (spatial[sample, real] + positions[real, None]).transpose(0, 1)  # (N, real, D): the others are not there
        for number, layer in enumerate(model.temporal_layers, start=model.config.spatial_layers):
            x = layer(x)
            torch.testing.assert_close(hidden[number][sample, real], x.transpose(0, 1), atol=1e-5, rtol=0)
        expected = model.temporal_norm(x).transpose(0, 1)
        torch.testing.assert_close(tokens[sample, real], expected, atol=1e-5, rtol=0)
    noisy = torch.where(mask[:, :, None, None, None], clip, 7.0)
    assert torch.equal(model(noisy, mask)[0][mask], tokens[mask])


def test_frame_masks_that_make_no_sense_are_refused() -> None:
    assert frames_to_mask(None, 2, 3) is None
    assert frames_to_mask(torch.ones(2, 3, dtype=torch.bool), 2, 3) is None
    for good in ([[True, False, True]], [[False, True, True]]):
        assert torch.equal(frames_to_mask(torch.tensor(good), 1, 3), torch.tensor(good))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at least one"):
        frames_to_mask(torch.zeros(1, 3, dtype=torch.bool), 1, 3)
    with pytest.raises(ValueError, match="must be bool"):
        frames_to_mask(torch.ones(1, 3), 1, 3)
    with pytest.raises(ValueError, match=r"must be bool \(2, 3\)"):
        frames_to_mask(torch.ones(2, 4, dtype=torch.bool), 2, 3)


def masked_dense(model: ViViT, clip: Tensor, visible: Tensor) -> tuple[Tensor, dict[int, Tensor]]:
    """The slow way: every token is computed, attention is restricted to visible ones, the rest is thrown away."""
    batch, frames, patches = visible.shape
    size = model.config.patch_size
    x = clip.unfold(-2, size, size).unfold(-2, size, size)  # (B, T, 3, gh, gw, p, p)
    x = torch.einsum("btcijpq->btijcpq", x).reshape(batch * frames, patches, -1)
    x = model.patch_projection(x) + model.spatial_positions
    hidden = {}
    for number, layer in enumerate(model.spatial_layers):
        x = layer(x, mask=visible.reshape(-1, 1, 1, patches))
        hidden[number] = x.reshape(batch, frames, patches, -1)[visible].reshape(batch, -1, x.shape[-1])
    x = model.spatial_norm(x).reshape(batch, frames, patches, -1) + model.temporal_positions[:, None]
    x = x.transpose(1, 2).reshape(batch * patches, frames, -1)
    for number, layer in enumerate(model.temporal_layers, start=len(model.spatial_layers)):
        x = layer(x, mask=visible.transpose(1, 2).reshape(-1, 1, 1, frames))
        back = x.reshape(batch, patches, frames, -1).transpose(1, 2)
        hidden[number] = back[visible].reshape(batch, -1, x.shape[-1])
    x = model.temporal_norm(x).reshape(batch, patches, frames, -1).transpose(1, 2)
    return x[visible].reshape(batch, -1, x.shape[-1]), hidden


def some_visible(kind: str, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    if kind == "tube":
        places = torch.rand(3, 9, generator=generator).argsort(-1) < 4
        return places[:, None].expand(3, 5, 9)
    if kind == "ragged":  # frames and places of every size, some empty
        return torch.rand(3, 45, generator=generator).argsort(-1).lt(17).reshape(3, 5, 9)
    return torch.rand(3, 5, 9, generator=generator).argsort(-1) < 5  # as many in every frame


@pytest.mark.parametrize("kind", ["tube", "ragged", "per frame"])
def test_visible_tokens_equal_masked_attention(model: ViViT, kind: str) -> None:
    clip, visible = video(3), some_visible(kind)
    tokens, hidden = model(clip, visible=visible, layers=range(5))
    expected, expected_hidden = masked_dense(model, clip, visible)
    torch.testing.assert_close(tokens, expected, atol=2e-5, rtol=0)
    for layer in range(5):
        torch.testing.assert_close(hidden[layer], expected_hidden[layer], atol=2e-5, rtol=0)


def test_all_visible_is_the_dense_encoder(model: ViViT) -> None:
    clip = video(2, 7, 16, 8)
    tokens, _ = model(clip, visible=torch.ones(2, 7, 8, dtype=torch.bool))
    torch.testing.assert_close(tokens, model(clip)[0].flatten(1, 2), atol=2e-5, rtol=0)


def test_linear_layers_touch_visible_tokens_only(model: ViViT) -> None:
    rows: set[int] = set()
    hooks = [
        module.register_forward_hook(lambda _, args, out: rows.add(out.numel() // out.shape[-1]))
        for module in model.modules()
        if isinstance(module, nn.Linear)
    ]
    model(video(3), visible=some_visible("ragged"))
    for hook in hooks:
        hook.remove()
    assert rows == {3 * 17}


def test_visible_gradients_equal_masked_attention() -> None:
    model = ViViT(SMALL)
    initialize(model, torch.Generator().manual_seed(2))
    clip, visible = video(3), some_visible("ragged")
    weight = torch.rand(3, 17, 24, generator=torch.Generator().manual_seed(3))
    fast = torch.autograd.grad((model(clip, visible=visible)[0] * weight).sum(), list(model.parameters()))
    slow = torch.autograd.grad((masked_dense(model, clip, visible)[0] * weight).sum(), list(model.parameters()))
    for one, other in zip(fast, slow, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_visible_masks_that_make_no_sense_are_refused(model: ViViT) -> None:
    clip = video(2)
    uneven = torch.zeros(2, 5, 9, dtype=torch.bool)
    uneven[0, 0, 0] = True
    with pytest.raises(ValueError, match=r"same number of tokens in every sample, not \[1, 0\]"):
        model(clip, visible=uneven)
    with pytest.raises(ValueError, match="same number"):
        model(clip, visible=torch.zeros(2, 5, 9, dtype=torch.bool))
    with pytest.raises(ValueError, match="visible must be bool"):
        model(clip, visible=torch.ones(2, 5, 8, dtype=torch.bool))
    with pytest.raises(ValueError, match="either frame_mask or visible"):
        model(clip, torch.ones(2, 5, dtype=torch.bool), torch.ones(2, 5, 9, dtype=torch.bool))


@pytest.mark.parametrize("wrong", [{"heads": 5}, {"patch_size": 5}, {"width": 0}, {"cap": -1.0}])
def test_a_config_that_cannot_work_is_refused_at_birth(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must"):
        ViViTConfig(**{**SMALL.__dict__, **wrong})  # type: ignore[arg-type]


def test_fresh_weights_follow_the_generator_and_see_contrast_not_brightness() -> None:
    def fresh(seed: int) -> ViViT:
        model = ViViT(SMALL)
        initialize(model, torch.Generator().manual_seed(seed))
        return model.requires_grad_(False)

    one, same, other = fresh(0), fresh(0), fresh(1)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))
    assert not torch.equal(one.patch_projection.weight, other.patch_projection.weight)
    grey = one.patch_projection(torch.full((1, 48), 0.5))
    patches = one.patch_projection(torch.rand(1000, 48, generator=torch.Generator().manual_seed(0)))
    assert grey.abs().max() < 1e-5
    assert 0.8 < patches.std() < 1.5
