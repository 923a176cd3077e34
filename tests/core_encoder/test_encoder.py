"""The face of the frozen encoder: names, fingerprints, devices, saving, and what it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import core_encoder
from core_encoder.encoder import Encoder, load_encoder, save_encoder
from core_encoder.errors import InputError
from core_encoder.models.checkpoints import build
from core_encoder.models.known_encoders import encoders
from core_encoder.models.model_configs import PRESETS, TextConfig, VideoHeadConfig, VideoTextConfig, ViViTConfig
from core_encoder.preprocessing import Preprocessing
from tests.core_encoder.checkpoint_files import save, video_text_model, vision_model


@pytest.fixture(scope="module")
def nano() -> Encoder:
    return load_encoder("nano")


def clip_of(frames: int = 8, size: int = 48, batch: int = 2) -> torch.Tensor:
    return torch.rand(batch, frames, 3, size, size, generator=torch.Generator().manual_seed(0))


def test_nano_is_the_same_everywhere(nano: Encoder) -> None:
    torch.manual_seed(123)
    before = torch.random.get_rng_state()
    again = load_encoder("nano")
    assert torch.equal(torch.random.get_rng_state(), before)
    assert again.fingerprint == nano.fingerprint
    assert torch.equal(again(clip_of()).tokens, nano(clip_of()).tokens)
    script = "from core_encoder.encoder import load_encoder; print(load_encoder('nano').fingerprint)"
    other = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == nano.fingerprint


def test_nano_ships_whole_and_small() -> None:
    folder = Path(core_encoder.__file__).parent / "nano"
    assert {file.name for file in folder.iterdir()} == {
        "README.md",
        "config.json",
        "model.safetensors",
        "pretraining.json",
        "tokenizer.json",
    }
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 10_000_000
    record = json.loads((folder / "pretraining.json").read_text())
    encoder = load_encoder("nano")
    assert record["fingerprint"] == encoder.fingerprint
    assert encoder.fingerprint in (folder / "README.md").read_text()
    assert list(record["parts"]) == ["images", "stage1", "alignment"]


def test_nano_opens_in_transformers(nano: Encoder) -> None:
    from transformers import AutoModel

    model = AutoModel.from_pretrained(str(Path(core_encoder.__file__).parent / "nano"), local_files_only=True).eval()
    ids, mask = nano.tokenizer(["a striped red star moving left"])  # type: ignore[misc]
    with torch.no_grad():
        text = model.get_text_features(input_ids=ids, attention_mask=mask.long())
        video = model.get_video_features(pixel_values_videos=clip_of())
    text, video = (getattr(part, "pooler_output", part) for part in (text, video))
    assert torch.allclose(text, nano.embed_token_ids(ids, mask), atol=1e-4)
    assert torch.allclose(video.flatten(0, -2), nano.embed_video(clip_of()), atol=1e-4)


def test_nano_shapes_and_scale(nano: Encoder) -> None:
    features = nano(clip_of(), layers=(1, -1))
    assert (nano.num_frames, nano.image_size, nano.patch_size, nano.dim, nano.num_layers) == (8, 48, 8, 128, 8)
    assert (nano.embedding_dim, nano.has_text) == (128, True)
    assert nano.preprocessing == Preprocessing(48, "resize", "bicubic")
    assert features.tokens.shape == (2, 8, 36, 128)
    assert features.embedding is None
    assert features.frame_mask is None
    assert set(features.hidden) == {1, -1}
    assert 0.5 < features.tokens.std() < 2
    assert all(0.3 < hidden.std() < 10 for hidden in features.hidden.values())
    other_frames = nano(clip_of().flip(1)).tokens.flip(1)
    assert (other_frames - features.tokens).abs().mean() > 0.05  # the order of the frames matters


def test_it_stays_frozen(nano: Encoder) -> None:
    nano.train()
    assert not any(module.training for module in nano.modules())
    assert not any(parameter.requires_grad for parameter in nano.parameters())
    clip = clip_of(2, batch=1).requires_grad_()
    tokens = nano(clip).tokens
    assert not tokens.requires_grad
    weight = torch.ones(128, requires_grad=True)
    (tokens * weight).sum().backward()  # features can be trained on: they are no inference tensors
    assert weight.grad is not None


def test_halves_give_the_whole(nano: Encoder) -> None:
    clip, mask = clip_of(), torch.arange(8) < torch.tensor([[3], [8]])
    whole = nano(clip, frame_mask=mask)
    assert torch.equal(nano.encode_temporal(nano.encode_spatial(clip), mask), whole.tokens)
    assert whole.frame_mask is mask


def test_windows_share_the_spatial_half(nano: Encoder) -> None:
    clip = clip_of(12, batch=1)
    spatial = nano.encode_spatial(clip)
    for start in range(5):
        window = nano(clip[:, start : start + 8]).tokens
        shared = nano.encode_temporal(spatial[:, start : start + 8])
        torch.testing.assert_close(shared, window, atol=1e-5, rtol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_other_precisions_keep_the_fingerprint(nano: Encoder, dtype: torch.dtype) -> None:
    encoder = load_encoder("nano", dtype=dtype)
    assert encoder.dtype == dtype
    assert encoder.fingerprint == nano.fingerprint
    tokens = encoder(clip_of()).tokens
    assert tokens.dtype == dtype
    assert (tokens.float() - nano(clip_of()).tokens).abs().mean() < 0.05
    assert load_encoder("nano").bfloat16().fingerprint == nano.fingerprint


def test_fingerprint_follows_weights_architecture_and_preprocessing(tmp_path: Path) -> None:
    def encoder(weight: float = 0.5, heads: int = 2, size: int = 8, **preprocessing: object) -> str:
        vision = ViViTConfig(width=8, heads=heads, mlp_dim=8, spatial_layers=1, temporal_layers=1, patch_size=4,
                             image_size=8, num_frames=2)  # fmt: skip
        model = build(VideoTextConfig(vision)).to_empty(device="cpu")
        for parameter in model.parameters():
            torch.nn.init.constant_(parameter, 0.5)
        torch.nn.init.constant_(model.vision.temporal_norm.bias, weight)
        return Encoder(model, "any", Preprocessing(size, **preprocessing)).fingerprint  # type: ignore[arg-type]

    base = encoder()
    assert base == encoder()
    others = [encoder(0.25), encoder(heads=4), encoder(size=12), encoder(interpolation="bilinear")]
    assert len({base, *others}) == 5


def test_name_does_not_change_the_fingerprint(tmp_path: Path) -> None:
    model = vision_model()
    one, two = load_encoder(save(model, tmp_path / "one")), load_encoder(str(save(model, tmp_path / "two words ü")))
    assert (one.name, two.name) == ("one", "two words ü")
    assert one.fingerprint == two.fingerprint
    assert load_encoder(save(vision_model(seed=1), tmp_path / "three")).fingerprint != one.fingerprint


def test_known_encoders_are_described_rightly(nano: Encoder) -> None:
    known = {info.name: info for info in encoders()}
    assert known["nano"].bundled
    assert known["nano"].parameters == nano.num_parameters
    for size, frames, name in (("base", 16, "base-f16r288"), ("large", 8, "large-f8r288")):
        vision = PRESETS[size]
        text = TextConfig(width=vision.width, heads=vision.heads, mlp_dim=vision.mlp_dim)
        whole = VideoTextConfig(vision, VideoHeadConfig(2, vision.mlp_dim), text)
        for info, config in (
            (known[f"google/videoprism-{name}"], VideoTextConfig(vision)),
            (known[f"google/videoprism-lvt-{name}"], whole),
        ):
            assert info.parameters == sum(parameter.numel() for parameter in build(config).parameters())
            assert (info.num_frames, info.image_size) == (frames, 288)
            assert info.text == (config.text is not None)


def test_known_encoders_of_others_have_the_sizes_of_their_configs() -> None:
    """On the meta device: a size of a config costs no memory."""
    from transformers import (
        DINOv3ViTConfig,
        DINOv3ViTModel,
        SiglipConfig,
        SiglipModel,
        VideoMAEConfig,
        VideoMAEModel,
        VJEPA2Config,
        VJEPA2Model,
    )

    known = {info.name: info for info in encoders()}
    base = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12, "num_hidden_layers": 12}
    with torch.device("meta"):
        vjepa2 = VJEPA2Model(VJEPA2Config())
        vjepa2.predictor = None
        built = {
            "facebook/vjepa2-vitl-fpc64-256": vjepa2,
            "MCG-NJU/videomae-base": VideoMAEModel(VideoMAEConfig(use_mean_pooling=False)),
            "google/siglip2-base-patch16-224": SiglipModel(SiglipConfig(text_config={"vocab_size": 256_000})),
            "facebook/dinov3-vitb16-pretrain-lvd1689m": DINOv3ViTModel(DINOv3ViTConfig(**base, num_register_tokens=4)),
        }
    for name, model in built.items():
        assert known[name].parameters == sum(parameter.numel() for parameter in model.parameters()), name


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nanoo", "no encoder is called 'nanoo', and no such folder exists; did you mean 'nano'?"),
        ("videoprism-base-f16r288", "did you mean 'google/videoprism-base-f16r288'?"),
        ("./nothing", "no such file or folder"),
        ("/nothing/at/all", "no such file or folder"),
        ("some/deep/folder", "no such file or folder"),
        ("missing.npz", "no such file or folder"),
        ("~/nothing", "no such file or folder"),
        ("~nobody-of-this-name/x", "cannot be looked up"),
        ("x" * 300, "cannot be looked up"),
        ("", "no such file or folder|no encoder is called|no config.json"),
    ],
)
def test_unknown_sources_end_in_one_line(source: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        load_encoder(source)
    assert any(part in str(caught.value) for part in message.split("|"))
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    folder = save(vision_model(), tmp_path / "one")
    with pytest.raises(InputError, match="give the folder that holds it"):
        load_encoder(folder / "model.safetensors")
    with pytest.raises(InputError, match=r"no config\.json"):
        load_encoder(tmp_path)
    with pytest.raises(InputError, match="no such file or folder"):
        load_encoder(tmp_path / "two")


@pytest.mark.parametrize("device", ["cuda:9", "nonsense"])
def test_a_device_that_is_not_there_is_refused(device: str) -> None:
    with pytest.raises(InputError, match="cannot be used") as caught:
        load_encoder("nano", device=device)
    assert "\n" not in str(caught.value)


def test_what_an_encoder_cannot_do_is_said(nano: Encoder, tmp_path: Path) -> None:
    no_text = load_encoder(save(vision_model(), tmp_path / "vision"))
    with pytest.raises(InputError, match="makes no video embeddings"):
        no_text.embed_video(clip_of())
    with pytest.raises(InputError, match="has no text tower"):
        no_text.embed_text(["a dog"])
    with pytest.raises(InputError, match="has no text tower"):
        no_text.embed_token_ids(torch.tensor([[3]]), torch.tensor([[True]]))
    with pytest.raises(ValueError, match="a video is float RGB"):
        nano(torch.zeros(1, 8, 3, 48, 48, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"a video is \(B, T, 3, H, W\)"):
        nano(torch.zeros(8, 3, 48, 48))
    with pytest.raises(ValueError, match="not one string"):
        load_encoder(save(video_text_model(), tmp_path)).embed_text("a dog")


def test_the_card_names_the_fingerprint_of_what_was_saved(nano: Encoder, tmp_path: Path) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        folder = save_encoder(load_encoder("nano", dtype=dtype), tmp_path / str(dtype))
        saved = load_encoder(folder).fingerprint
        assert saved in (folder / "README.md").read_text()
        assert (saved == nano.fingerprint) == (dtype == torch.float32), "a cast changes the weights"


def test_saving_over_the_folder_it_came_from(tmp_path: Path) -> None:
    folder = save(vision_model(), tmp_path / "one")
    encoder = load_encoder(folder)
    clip = torch.rand(1, 2, 3, 30, 30)
    before = encoder(clip).tokens
    save_encoder(encoder, folder)
    assert torch.equal(encoder(clip).tokens, before)
    assert torch.equal(load_encoder(folder)(clip).tokens, before)
    assert not list(folder.glob("*.tmp"))


def test_gradients_flow_where_they_are_asked_for_and_nowhere_else() -> None:
    encoder = load_encoder("nano")
    video = torch.rand(1, 2, 3, 48, 48)
    weight = encoder.model.vision.patch_projection.weight.requires_grad_(True)
    assert not encoder(video).tokens.requires_grad
    seen = encoder.train().with_gradients(video, layers=(0,))
    assert torch.equal(seen.tokens, encoder(video).tokens) and not encoder.training
    (seen.tokens.square().sum() + seen.hidden[0].square().sum()).backward()
    assert weight.grad is not None and float(weight.grad.abs().max()) > 0
