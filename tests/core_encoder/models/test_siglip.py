"""SigLIP and SigLIP 2 over frames, and their texts: the same numbers as `transformers`."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from core_encoder import Clip, ClipPlan, read_clip
from core_encoder.encoder import Encoder, load_encoder, save_encoder
from core_encoder.errors import InputError
from core_encoder.extraction import spec_for
from core_encoder.preprocessing import to_video_tensor
from core_encoder.text_encoder import build_text_encoder, load_text_encoder
from tests.core_encoder.foreign_models import clip_of, foreign_folder, siglip_model
from tests.videos import moving_square, write_video

FAMILIES = ("siglip", "siglip2")
TEXTS = ["A Video of a DOG!", "cat", ""]


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@torch.no_grad()
def theirs(model: Any, clip: Tensor) -> Any:
    """What the vision tower of `transformers` gives for each frame."""
    pixels = clip.flatten(0, 1) * 2 - 1
    if type(model).__name__ == "SiglipModel":
        return model.vision_model(pixels, interpolate_pos_encoding=True)
    from transformers.models.siglip2.image_processing_pil_siglip2 import convert_image_to_patches

    patches = torch.stack([torch.from_numpy(convert_image_to_patches(one.numpy(), 8)) for one in pixels])
    shape = torch.tensor([[clip.shape[-2] // 8, clip.shape[-1] // 8]]).repeat(len(pixels), 1)
    return model.vision_model(patches, torch.ones(patches.shape[:2], dtype=torch.long), shape)


def test_real_frames_equal_transformers(model: Any, encoder: Encoder, tmp_path: Path) -> None:
    path = write_video(tmp_path / "real.mp4", moving_square(24, 96, 128))
    clip = to_video_tensor(read_clip(Clip(str(path)), ClipPlan(5), encoder.preprocessing))[None]
    hidden: list[Tensor] = []
    hooks = [
        layer.register_forward_hook(lambda _, __, out: hidden.append(out))
        for layer in model.vision_model.encoder.layers
    ]
    seen = theirs(model, clip)
    for hook in hooks:
        hook.remove()
    features = encoder(clip, layers=(0, 2), embed=True)
    torch.testing.assert_close(features.tokens[0], seen.last_hidden_state, atol=1e-4, rtol=0)
    torch.testing.assert_close(features.hidden[0][0], hidden[0], atol=1e-4, rtol=0)
    torch.testing.assert_close(features.hidden[2][0], hidden[2], atol=1e-4, rtol=0)
    expected = normalize(normalize(seen.pooler_output, dim=-1).mean(0), dim=0)
    torch.testing.assert_close(features.embedding[0], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [(1, 48, 48), (34, 32, 32), (2, 16, 40)])
def test_any_size_equals_transformers(model: Any, encoder: Encoder, size: tuple[int, int, int]) -> None:
    clip = clip_of(*size)
    seen = theirs(model, clip)
    features = encoder(clip, embed=True)
    torch.testing.assert_close(features.tokens.flatten(0, 1), seen.last_hidden_state, atol=1e-4, rtol=0)


def test_squares_that_are_no_whole_number_of_patches_are_read_as_trained(tmp_path: Path) -> None:
    """SigLIP so400m has patches of 14 pixels on frames of 384: what is left over is never looked at."""
    model = siglip_model(image_size=37)
    folder = foreign_folder("siglip", tmp_path / "odd", model)
    square = {"size": {"height": 37, "width": 37}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    (folder / "preprocessor_config.json").write_text(json.dumps(square))
    encoder = load_encoder(folder)
    clip = clip_of(2, 37, 37)
    with torch.no_grad():
        seen = model.vision_model(clip.flatten(0, 1) * 2 - 1)
    torch.testing.assert_close(encoder(clip).tokens.flatten(0, 1), seen.last_hidden_state, atol=1e-4, rtol=0)
    assert spec_for(encoder).grid == (4, 4)
    with pytest.raises(ValueError, match="patch size 8"):
        encoder(clip_of(1, 37, 40))


def test_texts_equal_transformers(family: str, model: Any, encoder: Encoder, tmp_path: Path) -> None:
    """Padded to the full length and without a mask, as both were trained."""
    from transformers import PreTrainedTokenizerFast

    pad = "<pad>" if family == "siglip2" else "</s>"
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / family / "tokenizer.json"), pad_token=pad)
    spelled = ["a video of a dog!" if family == "siglip2" else "a video of a dog", "cat", ""]
    rows = tokenizer(spelled, padding="max_length", max_length=12, return_tensors="pt")
    with torch.no_grad():
        expected = normalize(model.text_model(input_ids=rows["input_ids"]).pooler_output, dim=-1)
    torch.testing.assert_close(encoder.embed_text(TEXTS), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(encoder.embed_text(TEXTS[1:2]), expected[1:2], atol=1e-5, rtol=0)
    short = rows["input_ids"][:, :6]
    mask = short != tokenizer.pad_token_id
    mask[0] = True
    with torch.no_grad():
        by_ids = encoder.embed_token_ids(short[1:2], mask[1:2])
    torch.testing.assert_close(by_ids, expected[1:2], atol=1e-5, rtol=0)


def test_long_texts_keep_their_end_and_that_is_said_once(encoder: Encoder, caplog: pytest.LogCaptureFixture) -> None:
    assert encoder.tokenizer is not None
    with caplog.at_level(logging.WARNING):
        ids, mask = encoder.tokenizer(["dog " * 40, "a dog"])
        encoder.tokenizer(["dog " * 40])
    assert ids.shape == (2, 12) and int(ids[0, -1]) == 1 and bool(mask[0].all()) and int(mask[1].sum()) == 3
    assert sum("are cut" in record.message for record in caplog.records) <= 1


def test_a_tokenizer_that_pads_at_the_left_does_so(tmp_path: Path) -> None:
    folder = foreign_folder("siglip2", tmp_path / "left")
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(config | {"padding_side": "left"}))
    encoder = load_encoder(folder)
    assert encoder.tokenizer is not None
    ids, mask = encoder.tokenizer(["a dog"])
    assert ids[0].tolist() == [2] * 9 + [3, 6, 1] and mask[0].tolist() == [False] * 9 + [True] * 3
    (folder / "tokenizer_config.json").write_text(json.dumps(config | {"pad_token": {"content": "<none>"}}))
    with pytest.raises(InputError, match="pad_token '<none>' is not in tokenizer.json"):
        load_encoder(folder)
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(InputError, match="not a tokenizer file"):
        load_encoder(folder)


def test_without_a_tokenizer_ids_still_work(tmp_path: Path) -> None:
    folder = foreign_folder("siglip", tmp_path / "mute")
    (folder / "tokenizer.json").unlink()
    encoder = load_encoder(folder)
    with pytest.raises(InputError, match="came without a tokenizer"):
        encoder.embed_text(["a dog"])
    ids = torch.tensor([[3, 6, 1]])
    assert encoder.embed_token_ids(ids, torch.ones_like(ids, dtype=torch.bool)).shape == (1, 24)
    with pytest.raises(ValueError, match="token ids must lie in 0 to 59"):
        encoder.embed_token_ids(ids + 60, torch.ones_like(ids, dtype=torch.bool))


def test_what_is_saved_opens_in_transformers(model: Any, encoder: Encoder, tmp_path: Path) -> None:
    folder = save_encoder(encoder, tmp_path / "saved")
    again, report = type(model).from_pretrained(folder, output_loading_info=True)
    assert not any(report.values()), report
    seen = theirs(again.eval(), clip_of(2))
    torch.testing.assert_close(encoder(clip_of(2)).tokens.flatten(0, 1), seen.last_hidden_state, atol=1e-4, rtol=0)
    twin = load_encoder(folder)
    assert (twin.fingerprint, twin.preprocessing) == (encoder.fingerprint, encoder.preprocessing)
    assert torch.equal(twin.embed_text(TEXTS), encoder.embed_text(TEXTS))


def test_its_text_tower_can_be_trained_and_built_again(encoder: Encoder, family: str, tmp_path: Path) -> None:
    tower = load_text_encoder(tmp_path / family)
    assert all(parameter.requires_grad for parameter in tower.parameters())
    torch.testing.assert_close(normalize(tower(TEXTS), dim=-1), encoder.embed_text(TEXTS), atol=1e-5, rtol=0)
    (tmp_path / "tower").mkdir()
    tower.write_files(tmp_path / "tower")
    built = build_text_encoder(tmp_path / "tower", "siglip")
    built.load_state_dict(tower.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(built(TEXTS), tower(TEXTS), atol=1e-6, rtol=0)
    assert built.fingerprint() == tower.fingerprint()
