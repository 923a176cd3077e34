"""The LoRA of an encoder: merged as PEFT merges it, and read by PEFT into the models of `transformers`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModel

from adapters.card import ENCODER_LORA_FOLDER
from adapters.lora import with_lora
from adapters.tuning.encoder_lora import EncoderLora
from core_encoder.encoder import Encoder, load_encoder, save_encoder
from core_encoder.errors import InputError
from core_encoder.models.trunk import trunk_of
from tests.core_encoder.foreign_models import BUILDERS, clip_of, foreign_folder

OF_TRANSFORMERS = ("siglip", "dinov2", "dinov3_vit", "videomae", "vjepa2")


def slowly(family: str) -> Any:
    """A case that only `make check` runs."""
    return pytest.param(family, marks=pytest.mark.slow)


def random_lora(encoder: Encoder, rank: int = 3, alpha: float = 5.0) -> tuple[EncoderLora, Any]:
    """A LoRA of random values on all linear maps, and the PEFT model around the encoder that has it."""
    trunk = trunk_of(encoder.model, encoder.name)
    encoder.fingerprint  # noqa: B018  taken before the names change
    model = with_lora(trunk.root, rank, sorted(trunk.linear_maps()), alpha=alpha)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, one in model.named_parameters():
            if "lora_" in name:
                one.normal_(0.0, 0.2, generator=generator)
    return EncoderLora.of(model, trunk), model


def whole_clip(encoder: Encoder) -> torch.Tensor:
    size = encoder.preprocessing.image_size
    return clip_of(encoder.tubelet * 2, size, size, batch=2)


@pytest.mark.parametrize("family", ["nano", "clip", *(slowly(one) for one in BUILDERS if one != "clip")])
def test_merged_weights_give_what_peft_computes(family: str, tmp_path: Path) -> None:
    source = family if family == "nano" else foreign_folder(family, tmp_path / family)
    plain, tuned = load_encoder(source), load_encoder(source)
    lora, model = random_lora(tuned)
    video = whole_clip(plain)
    merged = lora.merged_into(plain)
    wanted, before = tuned(video).tokens, load_encoder(source)(video).tokens
    assert float((wanted - before).abs().max()) > 1e-2  # it changes something
    torch.testing.assert_close(merged(video).tokens, wanted, atol=1e-4, rtol=1e-4)
    assert torch.equal(plain(video).tokens, before)  # the given encoder stays as it is
    assert plain.fingerprint == load_encoder(source).fingerprint != merged.fingerprint
    model.unload()
    assert torch.equal(tuned(video).tokens, before)


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")  # `peft` asks for it
@pytest.mark.parametrize("family", ["nano", "clip", *map(slowly, OF_TRANSFORMERS)])
def test_peft_reads_the_folder_into_a_model_of_transformers(family: str, tmp_path: Path) -> None:
    folder = save_encoder(load_encoder("nano"), tmp_path / "nano") if family == "nano" else None
    folder = folder or foreign_folder(family, tmp_path / family)
    encoder = load_encoder(folder)
    lora, _ = random_lora(load_encoder(folder))
    lora.write(tmp_path / "adapter", "somebody/encoder")
    peft = PeftModel.from_pretrained(AutoModel.from_pretrained(folder).eval(), tmp_path / "adapter/encoder_lora")
    size = encoder.preprocessing.image_size
    # As many frames as trained: for others `transformers` resizes positions in its own way, or not at all.
    video = clip_of(encoder.num_frames, size, size, batch=1)
    merged = lora.merged_into(encoder)
    with torch.no_grad():
        wanted = merged(video).tokens
        seen = tokens_of_transformers(family, peft, merged._normalize(video))
    torch.testing.assert_close(seen.reshape(wanted.shape), wanted, atol=2e-4, rtol=2e-4)
    assert peft.peft_config["default"].base_model_name_or_path == "somebody/encoder"


def tokens_of_transformers(family: str, model: Any, video: torch.Tensor) -> torch.Tensor:
    """Patch tokens as the class of `transformers` gives them for a normalized video (B, T, 3, H, W)."""
    if family == "nano":
        return model.base_model.model.video_model.vision_model(video).last_hidden_state
    if family in ("videomae", "vjepa2"):
        extra = {"skip_predictor": True} if family == "vjepa2" else {}
        return model(video, **extra).last_hidden_state
    images, before = video.flatten(0, 1), {"clip": 1, "siglip": 0, "dinov2": 1, "dinov3_vit": 5}[family]
    inner = model.base_model.model
    inner = getattr(inner, "vision_model", inner)
    resized = {"interpolate_pos_encoding": True} if family == "siglip" else {}
    return inner(images, **resized).last_hidden_state[:, before:]


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    encoder = load_encoder("nano")
    lora, _ = random_lora(load_encoder("nano"))
    lora.write(tmp_path, "nano")
    again = EncoderLora.read(tmp_path)
    assert (again.rank, again.alpha) == (3, 5.0) and again.pairs.keys() == lora.pairs.keys()
    assert again.fingerprint("x") == lora.fingerprint("x") != lora.fingerprint("y")
    video = whole_clip(encoder)
    assert torch.equal(again.merged_into(encoder)(video).tokens, lora.merged_into(encoder)(video).tokens)


def test_every_change_is_another_fingerprint() -> None:
    lora, _ = random_lora(load_encoder("nano"))
    name = next(iter(lora.pairs))
    down, up = lora.pairs[name]
    other = EncoderLora(lora.rank, lora.alpha, {**lora.pairs, name: (down, up + 1e-6)})
    scaled = EncoderLora(lora.rank, 6.0, lora.pairs)
    assert len({one.fingerprint("x") for one in (lora, other, scaled)}) == 3


def test_a_lora_of_zero_changes_no_bit() -> None:
    encoder = load_encoder("nano")
    trunk = trunk_of(load_encoder("nano").model, "nano")
    fresh = EncoderLora.of(with_lora(trunk.root, 2, sorted(trunk.linear_maps())), trunk)
    merged = fresh.merged_into(encoder)
    ours, theirs = (dict(one.model.named_parameters()) for one in (merged, encoder))
    assert all(torch.equal(ours[name], tensor) for name, tensor in theirs.items())
    untouched = "text_tower.token_embedding.weight"
    assert ours[untouched].data_ptr() == theirs[untouched].data_ptr()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"peft_type": "LOHA"}, "not the configuration of plain LoRA"),
        ({"use_dora": True}, "not the configuration of plain LoRA"),
        ({"use_rslora": True}, "not the configuration of plain LoRA"),
        ({"rank_pattern": {"qkv": 4}}, "not the configuration of plain LoRA"),
        ({"r": "3"}, "are no numbers of LoRA"),
        ({"r": 0}, "are no numbers of LoRA"),
    ],
)
def test_other_configurations_are_refused(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    random_lora(load_encoder("nano"))[0].write(tmp_path, "nano")
    file = tmp_path / ENCODER_LORA_FOLDER / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(InputError, match=said):
        EncoderLora.read(tmp_path)


def test_foreign_tensors_are_refused(tmp_path: Path) -> None:
    lora, _ = random_lora(load_encoder("nano"))
    name, (down, up) = next(iter(lora.pairs.items()))
    encoder = load_encoder("nano")
    with pytest.raises(InputError, match="no linear map 'other', which this LoRA changes"):
        EncoderLora(3, 5.0, {"other": (down, up)}).merged_into(encoder)
    with pytest.raises(InputError, match="does not fit a linear map of shape"):
        EncoderLora(3, 5.0, {name: (down, up[:5])}).merged_into(encoder)
