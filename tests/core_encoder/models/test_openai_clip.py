"""CLIP over frames: the same numbers as `transformers`, its own preprocessing and tokenizer."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModel, AutoTokenizer, CLIPModel

from core_encoder.encoder import Encoder, load_encoder, save_encoder
from core_encoder.errors import InputError
from core_encoder.preprocessing import Preprocessing
from tests.core_encoder.checkpoint_files import clip_model, save


@pytest.fixture
def model() -> CLIPModel:
    return clip_model()


@pytest.fixture
def encoder(model: CLIPModel, tmp_path: Path) -> Encoder:
    return load_encoder(save(model, tmp_path / "clip"))


def clip_of(frames: int, height: int = 24, width: int = 24, batch: int = 2) -> Tensor:
    return torch.rand(batch, frames, 3, height, width, generator=torch.Generator().manual_seed(frames))


def normalized(clip: Tensor) -> Tensor:
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073])[:, None, None]
    std = torch.tensor([0.26862954, 0.26130258, 0.27577711])[:, None, None]
    return (clip - mean) / std


@torch.no_grad()
def unit_images(model: CLIPModel, clip: Tensor) -> Tensor:
    """Normalized image embeddings of all frames, (B, T, E)."""
    seen = model.get_image_features(normalized(clip.flatten(0, 1)), interpolate_pos_encoding=True)
    images = seen if isinstance(seen, Tensor) else seen.pooler_output
    return torch.nn.functional.normalize(images, dim=-1).unflatten(0, clip.shape[:2])


@pytest.mark.parametrize("size", [(3, 24, 24), (1, 24, 24), (40, 24, 24), (2, 36, 36), (2, 12, 30)])
def test_frames_equal_transformers(model: CLIPModel, encoder: Encoder, size: tuple[int, int, int]) -> None:
    clip = clip_of(*size)
    with torch.no_grad():
        seen = model.vision_model(
            normalized(clip.flatten(0, 1)), interpolate_pos_encoding=True, output_hidden_states=True
        )
    features = encoder(clip, layers=(0, 1, 2, -3), embed=True)
    assert features.tokens.shape == (2, size[0], (size[1] // 6) * (size[2] // 6), 32)
    torch.testing.assert_close(features.tokens.flatten(0, 1), seen.last_hidden_state[:, 1:], atol=1e-4, rtol=0)
    for layer in (0, 1, 2):
        theirs = seen.hidden_states[layer + 1][:, 1:]
        torch.testing.assert_close(features.hidden[layer].flatten(0, 1), theirs, atol=1e-4, rtol=0)
    assert torch.equal(features.hidden[-3], features.hidden[0])
    mean = torch.nn.functional.normalize(unit_images(model, clip).mean(1), dim=-1)
    torch.testing.assert_close(features.embedding, mean, atol=1e-5, rtol=0)


def test_padded_frames_do_not_count(model: CLIPModel, encoder: Encoder) -> None:
    clip, mask = clip_of(5), torch.arange(5) < torch.tensor([[2], [5]])
    features = encoder(clip, frame_mask=mask, embed=True)
    alone = encoder(clip[:1, :2], embed=True)
    torch.testing.assert_close(features.embedding[:1], alone.embedding, atol=1e-6, rtol=0)  # type: ignore[index]
    torch.testing.assert_close(features.tokens[:1, :2], alone.tokens, atol=1e-5, rtol=0)
    flipped = encoder.embed_video(clip.flip(1), mask.flip(1))  # CLIP knows no order of frames, and any mask
    torch.testing.assert_close(flipped, features.embedding, atol=1e-6, rtol=0)


def test_the_temporal_half_is_the_identity(encoder: Encoder) -> None:
    clip = clip_of(4)
    spatial = encoder.encode_spatial(clip)
    assert torch.equal(spatial, encoder(clip).tokens)
    assert torch.equal(encoder.encode_temporal(spatial), spatial)


def test_what_it_says_about_itself(encoder: Encoder) -> None:
    assert (encoder.num_frames, encoder.image_size, encoder.patch_size, encoder.dim) == (16, 24, 6, 32)
    assert (encoder.num_layers, encoder.embedding_dim, encoder.has_text) == (3, 18, True)
    with pytest.raises(ValueError, match="layer 3 does not exist"):
        encoder(clip_of(1), layers=(3,))
    with pytest.raises(ValueError, match="patch size 6"):
        encoder(clip_of(1, 25, 24))


@pytest.mark.parametrize(
    ("ids", "message"),
    [([[0, 99_999]], "token ids must lie"), ([[0] * 100], "tokens fit"), ([0, 1], "one shape")],
)
def test_token_ids_that_make_no_sense_are_refused(encoder: Encoder, ids: list, message: str) -> None:
    given = torch.tensor(ids)
    with pytest.raises(ValueError, match=message):
        encoder.embed_token_ids(given, torch.ones_like(given, dtype=torch.bool))


def test_token_ids_equal_transformers(model: CLIPModel, encoder: Encoder) -> None:
    ids = torch.tensor([[0, 5, 9, 1, 1, 1], [0, 7, 8, 9, 10, 1]])
    mask = torch.tensor([[True] * 4 + [False] * 2, [True] * 6])
    with torch.no_grad():
        seen = model.get_text_features(input_ids=ids, attention_mask=mask.long())
    theirs = seen if isinstance(seen, Tensor) else seen.pooler_output
    expected = torch.nn.functional.normalize(theirs, dim=-1)
    torch.testing.assert_close(encoder.embed_token_ids(ids, mask), expected, atol=1e-5, rtol=0)


def write_tokenizer(folder: Path) -> None:
    """A byte-pair vocabulary of letters and a few merges, in CLIP's own file format."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters), "do", "dog</w>"]
    (folder / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\nd o\ndo g</w>\n")


def test_texts_equal_transformers(model: CLIPModel, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = save(model, tmp_path / "clip")
    write_tokenizer(folder)
    encoder = load_encoder(folder)
    texts = ["a dog", "A Dog runs", "this one is far too long to fit in there"]
    with caplog.at_level(logging.WARNING):
        ours = encoder.embed_text(texts)
        encoder.embed_text(texts)
    assert sum("are cut" in record.message for record in caplog.records) == 1
    tokenizer = AutoTokenizer.from_pretrained(folder)
    rows = tokenizer(texts, padding=True, truncation=True, max_length=16, return_tensors="pt")
    assert rows["input_ids"][0, :4].tolist() == [0, 28, 55, 1]
    with torch.no_grad():
        seen = model.get_text_features(**rows)
    theirs = seen if isinstance(seen, Tensor) else seen.pooler_output
    torch.testing.assert_close(ours, torch.nn.functional.normalize(theirs, dim=-1), atol=1e-5, rtol=0)
    again = load_encoder(save_encoder(encoder, tmp_path / "saved"))
    assert torch.equal(again.embed_text(texts), ours)


def test_without_token_files_texts_are_refused(encoder: Encoder) -> None:
    with pytest.raises(InputError, match="came without a tokenizer"):
        encoder.embed_text(["a dog"])


def test_default_preprocessing_is_that_of_clip(encoder: Encoder) -> None:
    assert encoder.preprocessing.geometry == "center_crop"
    assert encoder.preprocessing.interpolation == "bicubic"
    assert encoder.preprocessing.mean == (0.48145466, 0.4578275, 0.40821073)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (
            {"size": 24, "crop_size": 24, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.2, 0.2, 0.2], "resample": 2},
            Preprocessing(24, "center_crop", "bilinear", (0.5, 0.5, 0.5), (0.2, 0.2, 0.2)),
        ),
        (
            {"size": {"shortest_edge": 24}, "crop_size": {"height": 24, "width": 24}, "do_normalize": False},
            Preprocessing(24, "center_crop", "bicubic"),
        ),
        (
            {"size": {"height": 24, "width": 24}, "do_center_crop": False, "do_normalize": False},
            Preprocessing(24, "resize", "bicubic"),
        ),
        (
            {"size": {"shortest_edge": 32}, "crop_size": 24, "do_normalize": False},
            Preprocessing(24, "center_crop", "bicubic", short_side=32),
        ),
    ],
)
def test_preprocessing_comes_from_its_file(
    model: CLIPModel, tmp_path: Path, given: dict[str, Any], expected: Preprocessing
) -> None:
    folder = save(model, tmp_path / "clip")
    (folder / "preprocessor_config.json").write_text(json.dumps(given))
    encoder = load_encoder(folder)
    assert encoder.preprocessing == expected
    again = load_encoder(save_encoder(encoder, tmp_path / "saved"))
    assert again.preprocessing == expected
    assert again.fingerprint == encoder.fingerprint


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"size": {"shortest_edge": 24}, "crop_size": 32}, "crop of 32 from a short side of 24"),
        ({"size": {"height": 24, "width": 30}, "do_center_crop": False}, "not square"),
        ({"resample": 0}, "resample 0"),
        ({"image_mean": [0.5]}, "mean must hold three numbers"),
        ({"size": {"longest_edge": 24}}, "preprocessor_config.json"),
    ],
)
def test_preprocessing_that_cannot_be_done_is_refused(
    model: CLIPModel, tmp_path: Path, given: dict[str, Any], message: str
) -> None:
    folder = save(model, tmp_path / "clip")
    (folder / "preprocessor_config.json").write_text(json.dumps(given))
    with pytest.raises(InputError, match=message):
        load_encoder(folder)


def test_saved_clip_opens_in_transformers(encoder: Encoder, tmp_path: Path) -> None:
    folder = save_encoder(encoder, tmp_path / "saved")
    again, report = AutoModel.from_pretrained(folder, output_loading_info=True)
    assert isinstance(again, CLIPModel)
    assert not any(report.values()), report
    clip = clip_of(2)
    mean = torch.nn.functional.normalize(unit_images(again.eval(), clip).mean(1), dim=-1)
    torch.testing.assert_close(encoder.embed_video(clip), mean, atol=1e-5, rtol=0)
    assert load_encoder(folder).fingerprint == encoder.fingerprint


def test_bad_clip_checkpoints_end_in_one_line(model: CLIPModel, tmp_path: Path) -> None:
    folder = save(model, tmp_path / "clip")
    config = json.loads((folder / "config.json").read_text())
    config["vision_config"]["num_hidden_layers"] = 4
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"16 tensors are missing: vision_model\.encoder\.layers\.3"):
        load_encoder(folder)
    config["vision_config"]["hidden_size"] = "wide"
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"config\.json") as caught:
        load_encoder(folder)
    assert "\n" not in str(caught.value)


def test_old_files_with_position_ids_are_read(model: CLIPModel, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = save(model, tmp_path / "clip")
    tensors = load_file(folder / "model.safetensors")
    tensors["text_model.embeddings.position_ids"] = torch.arange(16)[None]
    save_file(tensors, folder / "model.safetensors")
    assert load_encoder(folder).has_text
