"""Flax files in the published layout: the outputs of the folder with the same weights, clear words about bad ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from core_encoder.encoder import load_encoder, save_encoder
from core_encoder.errors import InputError
from tests.core_encoder.checkpoint_files import (
    TINY,
    TINY_TEXT,
    flax_arrays,
    jax_sinusoids,
    save,
    scatter,
    sentencepiece_model,
    video_text_model,
    vision_model,
)

Arrays = dict[str, np.ndarray]


def npz(path: Path, arrays: Arrays) -> Path:
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return path


def clip_of(frames: int, size: int) -> torch.Tensor:
    return torch.rand(2, frames, 3, size, size, generator=torch.Generator().manual_seed(0))


def test_a_vision_file_equals_the_folder_and_transformers(tmp_path: Path) -> None:
    model = vision_model()
    encoder = load_encoder(npz(tmp_path / "flax_tiny.npz", flax_arrays(model)))
    assert encoder.fingerprint == load_encoder(save(model, tmp_path / "folder")).fingerprint
    assert (encoder.name, encoder.num_frames, encoder.image_size, encoder.patch_size) == ("flax_tiny", 5, 30, 6)
    clip = clip_of(3, 36)
    with torch.no_grad():
        theirs = model(clip, interpolate_pos_encoding=True).last_hidden_state
    torch.testing.assert_close(encoder(clip).tokens.flatten(1, 2), theirs, atol=1e-4, rtol=0)


@pytest.mark.parametrize("auxiliary_layers", [2, 1])
def test_a_video_text_file_equals_transformers(tmp_path: Path, auxiliary_layers: int) -> None:
    model = video_text_model(vision=TINY | {"num_auxiliary_layers": auxiliary_layers})
    table = model.text_model.embeddings.position_embedding
    table.copy_(torch.from_numpy(jax_sinusoids(*table.shape)))  # the JAX code computes it, the file does not hold it
    encoder = load_encoder(npz(tmp_path / "lvt.npz", flax_arrays(model)))
    clip, ids = clip_of(5, 30), torch.randint(0, 90, (4, 64), generator=torch.Generator().manual_seed(0))
    mask = torch.arange(64) < torch.tensor([[64], [30], [2], [1]])
    with torch.no_grad():
        theirs = model(clip, ids, mask.long())
    torch.testing.assert_close(encoder.embed_video(clip), theirs.video_embeds, atol=1e-5, rtol=0)
    torch.testing.assert_close(encoder.embed_token_ids(ids, mask), theirs.text_embeds, atol=1e-5, rtol=0)


def test_conversion_to_a_transformers_folder(tmp_path: Path) -> None:
    arrays = flax_arrays(video_text_model(text=TINY_TEXT | {"vocab_size": 200}))
    sentencepiece_model(tmp_path / "c4_en.model")
    encoder = load_encoder(npz(tmp_path / "lvt.npz", arrays))
    again = load_encoder(save_encoder(encoder, tmp_path / "folder"))
    assert again.fingerprint == encoder.fingerprint
    assert torch.equal(again.embed_text(["a man plays"]), encoder.embed_text(["a man plays"]))


def test_without_a_token_file_the_missing_file_is_named(tmp_path: Path) -> None:
    encoder = load_encoder(npz(tmp_path / "lvt.npz", flax_arrays(video_text_model())))
    with pytest.raises(InputError, match=r"tokenizer\.json or spiece\.model"):
        encoder.embed_text(["a dog"])
    assert encoder.embed_token_ids(torch.tensor([[3]]), torch.tensor([[True]])).shape == (1, 24)


def test_double_and_half_precision_arrays(tmp_path: Path) -> None:
    arrays = flax_arrays(vision_model())
    single = load_encoder(npz(tmp_path / "a.npz", arrays))
    double = load_encoder(npz(tmp_path / "b.npz", {name: array.astype(np.float64) for name, array in arrays.items()}))
    half = load_encoder(npz(tmp_path / "c.npz", {name: array.astype(np.float16) for name, array in arrays.items()}))
    assert double.fingerprint == single.fingerprint
    assert (half(clip_of(2, 30)).tokens - single(clip_of(2, 30)).tokens).abs().max() < 0.05


STACK = "spatial_encoder/transformers_stack/x_layers"
BAD: list[tuple[str, Callable[[Arrays], Any], str]] = [
    ("a missing array", lambda a: a.pop("params/spatial_ln/scale"), r"1 tensors are missing: params/spatial_ln/scale"),
    ("an extra array", lambda a: a.update(extra=np.zeros(2, np.float32)), "1 tensors do not belong .*: extra"),
    (
        "a wrong shape",
        lambda a: a.update({f"params/{STACK}/self_attention/post/w": np.zeros((3, 24, 8, 3), np.float32)}),
        r"post/w \(3, 24, 8, 3\) instead of \(3, 24, 3, 8\)",
    ),
    (
        "a stack cut short",
        lambda a: a.update({f"params/{STACK}/layer_norm/scale": np.zeros((2, 24), np.float32)}),
        "another shape",
    ),
    (
        "no encoder",
        lambda a: [a.pop(name) for name in list(a) if "patch_projection" in name],
        "not a VideoPrism checkpoint",
    ),
    (
        "oblong grid",
        lambda a: a.update({"params/spatial_pos_emb/emb_var": np.zeros((24, 24), np.float32)}),
        "only square ones are supported",
    ),
    (
        "flat array",
        lambda a: a.update({f"params/{STACK}/self_attention/query/w": np.zeros(3, np.float32)}),
        "not 4 axes",
    ),
    ("whole numbers", lambda a: a.update({"params/spatial_ln/bias": np.zeros(24, np.int64)}), "holds int64"),
    ("pickled objects", lambda a: a.update({"params/spatial_ln/bias": np.array([{}], dtype=object)}), "plain arrays"),
]


@pytest.mark.parametrize(("spoil", "message"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_bad_files_end_in_one_line(tmp_path: Path, spoil: Callable[[Arrays], Any], message: str) -> None:
    arrays = flax_arrays(vision_model())
    spoil(arrays)
    path = npz(tmp_path / "bad.npz", arrays)
    with pytest.raises(InputError, match=message) as caught:
        load_encoder(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_truncated_file_is_refused(tmp_path: Path, share: float) -> None:
    path = npz(tmp_path / "bad.npz", flax_arrays(vision_model()))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(InputError, match="not a whole .npz file") as caught:
        load_encoder(path)
    assert "\n" not in str(caught.value)


def test_damaged_bytes_are_noticed(tmp_path: Path) -> None:
    path = npz(tmp_path / "bad.npz", flax_arrays(vision_model()))
    whole = bytearray(path.read_bytes())
    middle = len(whole) // 2
    whole[middle : middle + 64] = bytes(64)
    path.write_bytes(bytes(whole))
    with pytest.raises(InputError):
        load_encoder(path)


def test_a_lone_array_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "bad.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(InputError, match="not a whole .npz file"):
        load_encoder(tmp_path / "bad.npz")


@pytest.mark.slow
def test_base_size_file_equals_the_folder(tmp_path: Path) -> None:
    from transformers import VideoPrismVisionConfig, VideoPrismVisionModel

    model = scatter(VideoPrismVisionModel(VideoPrismVisionConfig()))
    path = npz(tmp_path / "base.npz", flax_arrays(model))
    encoder = load_encoder(path)
    path.unlink()
    folder = save(model, tmp_path / "folder")
    assert encoder.fingerprint == load_encoder(folder).fingerprint
    (folder / "model.safetensors").unlink()
    assert encoder.num_parameters == pytest.approx(114e6, rel=0.01)
