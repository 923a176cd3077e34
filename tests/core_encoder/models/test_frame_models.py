"""DINOv2 and DINOv3 over frames: the same numbers as `transformers`, without class and register tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from core_encoder import Clip, ClipPlan, read_clip
from core_encoder.encoder import Encoder, load_encoder, save_encoder
from core_encoder.errors import InputError
from core_encoder.preprocessing import to_video_tensor
from tests.core_encoder.foreign_models import BUILDERS, clip_of
from tests.videos import moving_square, write_video

BEFORE = {"dinov2": 1, "dinov2_with_registers": 4, "dinov3_vit": 5}


@pytest.fixture(params=BEFORE)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def normalized(clip: Tensor) -> Tensor:
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    return (clip - mean[:, None, None]) / std[:, None, None]


@torch.no_grad()
def theirs(model: Any, clip: Tensor) -> tuple[Any, list[Tensor]]:
    """What the forward pass of `transformers` gives for each frame, and the raw outputs of its layers."""
    layers = model.model.layer if hasattr(model, "model") else model.encoder.layer
    hidden: list[Tensor] = []
    hooks = [layer.register_forward_hook(lambda _, __, out: hidden.append(out)) for layer in layers]
    seen = model(normalized(clip.flatten(0, 1)))
    for hook in hooks:
        hook.remove()
    return seen, hidden


def test_real_frames_equal_transformers(family: str, model: Any, encoder: Encoder, tmp_path: Path) -> None:
    path = write_video(tmp_path / "real.mp4", moving_square(24, 96, 128))
    clip = to_video_tensor(read_clip(Clip(str(path)), ClipPlan(5), encoder.preprocessing))[None]
    features = encoder(clip, layers=(0, 1, -1), embed=True)
    seen, hidden = theirs(model, clip)
    before = BEFORE[family]
    assert features.tokens.shape == (1, 5, 16, 24)
    torch.testing.assert_close(features.tokens[0], seen.last_hidden_state[:, before:], atol=1e-4, rtol=0)
    for layer, number in ((0, 0), (1, 1), (-1, 2)):
        torch.testing.assert_close(features.hidden[layer][0], hidden[number][:, before:], atol=1e-4, rtol=0)
    mean = torch.nn.functional.normalize(seen.pooler_output, dim=-1).mean(0)
    expected = torch.nn.functional.normalize(mean, dim=0)
    torch.testing.assert_close(features.embedding[0], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [(1, 32, 32), (33, 32, 32), (2, 48, 48), (2, 16, 40)])
def test_any_size_equals_transformers(family: str, model: Any, encoder: Encoder, size: tuple[int, int, int]) -> None:
    clip = clip_of(*size)
    seen, _ = theirs(model, clip)
    tokens = encoder(clip).tokens.flatten(0, 1)
    torch.testing.assert_close(tokens, seen.last_hidden_state[:, BEFORE[family] :], atol=1e-4, rtol=0)


def test_what_it_says_about_itself(encoder: Encoder) -> None:
    assert (encoder.num_frames, encoder.tubelet, encoder.image_size, encoder.patch_size) == (16, 1, 32, 8)
    assert (encoder.dim, encoder.num_layers, encoder.embedding_dim, encoder.has_text) == (24, 3, 24, False)
    assert encoder.has_halves and not encoder.embeds_tokens
    with pytest.raises(ValueError, match="patch size 8"):
        encoder(clip_of(1, 33, 32))
    with pytest.raises(InputError, match="has no text tower"):
        encoder.embed_text(["a dog"])
    with pytest.raises(InputError, match="no embedding of tokens"):
        encoder.embed_tokens(encoder(clip_of(1)).tokens)


def test_what_is_saved_opens_in_transformers(model: Any, encoder: Encoder, tmp_path: Path) -> None:
    folder = save_encoder(encoder, tmp_path / "saved")
    again, report = type(model).from_pretrained(folder, output_loading_info=True)
    assert not any(report.values()), report
    before = encoder.model._before
    seen, _ = theirs(again.eval(), clip_of(2))
    tokens = encoder(clip_of(2)).tokens.flatten(0, 1)
    torch.testing.assert_close(tokens, seen.last_hidden_state[:, before:], atol=1e-4, rtol=0)
    twin = load_encoder(folder)
    assert (twin.fingerprint, twin.preprocessing) == (encoder.fingerprint, encoder.preprocessing)


def test_a_classifier_on_top_is_left_out(tmp_path: Path) -> None:
    from transformers import Dinov2ForImageClassification

    from tests.core_encoder.checkpoint_files import save

    base = BUILDERS["dinov2"]()
    whole = Dinov2ForImageClassification(base.config).eval()
    whole.dinov2.load_state_dict(base.state_dict())
    expected = load_encoder(save(base, tmp_path / "base")).fingerprint
    assert load_encoder(save(whole, tmp_path / "whole")).fingerprint == expected
