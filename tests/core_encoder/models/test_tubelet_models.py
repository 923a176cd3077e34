"""V-JEPA 2 and VideoMAE: the same numbers as `transformers`, padding that is never seen, other sizes and lengths."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from core_encoder import Clip, ClipPlan, read_clip
from core_encoder.encoder import Encoder, load_encoder, save_encoder
from core_encoder.errors import InputError
from core_encoder.extraction import spec_for
from core_encoder.preprocessing import to_video_tensor
from tests.core_encoder.checkpoint_files import save
from tests.core_encoder.foreign_models import BUILDERS, clip_of, foreign_folder, videomae_model, vjepa2_model
from tests.videos import moving_square, write_video

FAMILIES = ("videomae", "vjepa2")


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@torch.no_grad()
def theirs(model: Any, pixels: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Tokens (B, T'*N, D) and the raw outputs of all layers by the forward pass of `transformers`."""
    layers = model.encoder.layer
    hidden: list[Tensor] = []
    hooks = [
        layer.register_forward_hook(lambda _, __, out: hidden.append(out[0] if isinstance(out, tuple) else out))
        for layer in layers
    ]
    if "vjepa2" in type(model).__name__.lower():
        tokens = model(pixels, skip_predictor=True).last_hidden_state
    else:
        tokens = model(pixels).last_hidden_state
    for hook in hooks:
        hook.remove()
    return tokens, hidden


def normalized(encoder: Encoder, clip: Tensor) -> Tensor:
    mean, std = (torch.tensor(getattr(encoder.preprocessing, name))[:, None, None] for name in ("mean", "std"))
    return (clip - mean) / std


def test_real_frames_equal_transformers(family: str, model: Any, encoder: Encoder, tmp_path: Path) -> None:
    path = write_video(tmp_path / "real.mp4", moving_square(24, 96, 128))
    frames = read_clip(Clip(str(path)), ClipPlan(8), encoder.preprocessing)
    clip = to_video_tensor(frames)[None]
    features = encoder(clip, layers=(0, 1, 2, -3))
    tokens, hidden = theirs(model, normalized(encoder, clip))
    assert features.tokens.shape == (1, 4, 16, 24)
    torch.testing.assert_close(features.tokens.flatten(1, 2), tokens, atol=1e-4, rtol=0)
    for layer in (0, 1, 2):
        torch.testing.assert_close(features.hidden[layer].flatten(1, 2), hidden[layer], atol=1e-4, rtol=0)
    assert torch.equal(features.hidden[-3], features.hidden[0])


@pytest.mark.parametrize("frames", [2, 4, 12])
def test_any_number_of_frames_of_rotary_positions_equals_transformers(frames: int, tmp_path: Path) -> None:
    model = vjepa2_model()
    encoder = load_encoder(foreign_folder("vjepa2", tmp_path / "vjepa2", model))
    clip = clip_of(frames)
    tokens, _ = theirs(model, normalized(encoder, clip))
    torch.testing.assert_close(encoder(clip).tokens.flatten(1, 2), tokens, atol=1e-4, rtol=0)


@pytest.mark.parametrize(("height", "width"), [(48, 48), (16, 24), (24, 64)])
def test_rotary_positions_follow_the_grid_of_the_frame(height: int, width: int, tmp_path: Path) -> None:
    """The class of `transformers`, made for frames of this size, is the judge of square ones."""
    from transformers import VJEPA2Model

    model = vjepa2_model()
    encoder = load_encoder(foreign_folder("vjepa2", tmp_path / "vjepa2", model))
    clip = clip_of(4, height, width)
    tokens = encoder(clip).tokens
    assert tokens.shape == (2, 2, height // 8 * (width // 8), 24) and bool(tokens.isfinite().all())
    if height == width:
        model.config.crop_size = height
        larger = VJEPA2Model(model.config).eval()
        larger.load_state_dict(model.state_dict())
        torch.testing.assert_close(
            tokens.flatten(1, 2), theirs(larger, normalized(encoder, clip))[0], atol=1e-4, rtol=0
        )
    row = torch.zeros(1, 2, 3, height, width)
    row[..., :8, :8] = 1.0
    seen = encoder(row).tokens[0, 0]
    assert not torch.allclose(seen[1], seen[width // 8], atol=1e-4), "right of the bright patch is not below it"


def test_fixed_positions_are_interpolated(tmp_path: Path) -> None:
    encoder = load_encoder(foreign_folder("videomae", tmp_path / "videomae", videomae_model()))
    for size in ((2, 32, 32), (16, 32, 32), (8, 48, 40)):
        tokens = encoder(clip_of(*size)).tokens
        assert tokens.shape == (2, size[0] // 2, size[1] // 8 * (size[2] // 8), 24)
    positions = encoder.model._positions(8, 4, 4)  # (D, T', gh, gw)
    trained = encoder.model._positions(4, 4, 4)
    torch.testing.assert_close(positions[:, 0], trained[:, 0])
    torch.testing.assert_close(positions[:, 1], 0.75 * trained[:, 0] + 0.25 * trained[:, 1])


def test_padding_is_never_seen(encoder: Encoder) -> None:
    clip, mask = clip_of(8, batch=3), torch.arange(8) < torch.tensor([[4], [8], [5]])
    features = encoder(clip, mask, layers=(1,))
    other = clip.clone()
    other[~mask] = torch.rand(int((~mask).sum()), 3, 32, 32)
    again = encoder(other, mask, layers=(1,))
    assert torch.equal(features.frame_mask, torch.arange(4) < torch.tensor([[2], [4], [3]]))
    torch.testing.assert_close(again.tokens, features.tokens, atol=1e-6, rtol=0)
    torch.testing.assert_close(again.hidden[1], features.hidden[1], atol=1e-6, rtol=0)
    assert not features.tokens[~features.frame_mask].any()
    torch.testing.assert_close(features.tokens[1], encoder(clip[1:2]).tokens[0], atol=1e-5, rtol=0)
    half = clip[2:].clone()
    half[:, 5] = half[:, 4]  # a step with a real frame is made of that frame
    alone = encoder(half, torch.arange(8)[None] < 6).tokens
    torch.testing.assert_close(features.tokens[2], alone[0], atol=1e-5, rtol=0)
    if encoder.name == "vjepa2":  # rotary positions: a padded clip is the short one
        torch.testing.assert_close(features.tokens[:1, :2], encoder(clip[:1, :4]).tokens, atol=1e-5, rtol=0)


def test_any_mask_is_taken(encoder: Encoder) -> None:
    clip, mask = clip_of(8), torch.tensor([[False, True, False, False, True, True, True, True], [True] * 8])
    features = encoder(clip, mask)
    filled = clip.clone()
    filled[0, 0] = filled[0, 1]
    whole = torch.tensor([[True, True, False, False, True, True, True, True], [True] * 8])
    torch.testing.assert_close(features.tokens, encoder(filled, whole).tokens, atol=1e-6, rtol=0)


def test_what_it_says_about_itself(encoder: Encoder) -> None:
    assert (encoder.num_frames, encoder.tubelet, encoder.image_size, encoder.patch_size) == (8, 2, 32, 8)
    assert (encoder.dim, encoder.num_layers, encoder.embedding_dim, encoder.has_text) == (24, 3, None, False)
    with pytest.raises(ValueError, match="give a multiple of 2 frames, not 3"):
        encoder(clip_of(3))
    with pytest.raises(InputError, match=r"each time step of 2 frames: take a multiple of 2 frames .* not 7"):
        spec_for(encoder, ClipPlan(7))
    with pytest.raises(InputError, match="sees its frames together"):
        encoder.encode_spatial(clip_of(2))
    with pytest.raises(InputError, match="makes no video embeddings"):
        encoder.embed_video(clip_of(2))
    with pytest.raises(InputError, match="has no text tower"):
        encoder.embed_text(["a dog"])


def test_heads_on_top_are_left_out(family: str, tmp_path: Path) -> None:
    from transformers import VideoMAEForPreTraining, VideoMAEForVideoClassification, VJEPA2ForVideoClassification

    base = BUILDERS[family]()
    heads = {
        "videomae": [VideoMAEForVideoClassification, VideoMAEForPreTraining],
        "vjepa2": [VJEPA2ForVideoClassification],
    }
    expected = load_encoder(save(base, tmp_path / "base")).fingerprint
    for number, head in enumerate(heads[family]):
        whole = head(base.config).eval()
        getattr(whole, family).load_state_dict(base.state_dict())
        assert load_encoder(save(whole, tmp_path / str(number))).fingerprint == expected


def test_what_is_saved_opens_in_transformers(family: str, model: Any, encoder: Encoder, tmp_path: Path) -> None:
    folder = save_encoder(encoder, tmp_path / "saved")
    again, report = type(model).from_pretrained(folder, output_loading_info=True)
    assert not report["unexpected_keys"] and all(name.startswith("predictor.") for name in report["missing_keys"])
    clip = clip_of(8)
    torch.testing.assert_close(
        encoder(clip).tokens.flatten(1, 2), theirs(again.eval(), normalized(encoder, clip))[0], atol=1e-4, rtol=0
    )
    twin = load_encoder(folder)
    assert (twin.fingerprint, twin.preprocessing) == (encoder.fingerprint, encoder.preprocessing)
