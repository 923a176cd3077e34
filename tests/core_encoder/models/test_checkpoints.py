"""Folders in `transformers` format: the same outputs as the `transformers` classes, and clear words about bad ones."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import (
    AutoModel,
    AutoTokenizer,
    VideoPrismClipModel,
    VideoPrismConfig,
    VideoPrismForVideoClassification,
    VideoPrismVideoModel,
    VideoPrismVisionConfig,
    VideoPrismVisionModel,
)

from core_encoder.encoder import Encoder, load_encoder, save_encoder
from core_encoder.errors import InputError
from tests.core_encoder.checkpoint_files import (
    TINY,
    TINY_TEXT,
    save,
    scatter,
    sentencepiece_model,
    transformers_tokenizer,
    video_model,
    video_text_model,
    vision_model,
)


def clip_of(frames: int, height: int, width: int, batch: int = 2) -> Tensor:
    return torch.rand(batch, frames, 3, height, width, generator=torch.Generator().manual_seed(frames))


def close(ours: Tensor, theirs: Tensor, most: float) -> None:
    assert ours.shape == theirs.shape
    difference = (ours - theirs).abs().max().item()
    assert difference <= most, difference


def block_outputs(vision: VideoPrismVisionModel, run: Callable[[], Any], frames: int) -> tuple[Any, list[Tensor]]:
    """What `run` returns, and the raw output (B, T, N, D) of every transformer block it passes."""
    seen: list[Tensor] = []
    blocks = [*vision.spatial_layers, *vision.temporal_layers]
    hooks = [block.register_forward_hook(lambda _, args, out: seen.append(out)) for block in blocks]
    with torch.no_grad():
        out = run()
    for hook in hooks:
        hook.remove()
    spatial = len(vision.spatial_layers)
    in_frames = [x.unflatten(0, (-1, frames)) for x in seen[:spatial]]
    in_places = [x.unflatten(0, (-1, in_frames[0].shape[2])).transpose(1, 2) for x in seen[spatial:]]
    return out, in_frames + in_places


def agree(encoder: Encoder, model: Any, clip: Tensor) -> None:
    """Tokens, every hidden layer and, where there is one, the embedding of `clip`."""
    vision = model.video_model.vision_model if hasattr(model, "video_model") else getattr(model, "vision_model", model)
    video = getattr(model, "video_model", model)
    out, hidden = block_outputs(vision, lambda: video(clip, interpolate_pos_encoding=True), clip.shape[1])
    count = encoder.num_layers
    features = encoder(clip, layers=range(count), embed=encoder.embedding_dim is not None)
    if encoder.embedding_dim is None:
        close(features.tokens.flatten(1, 2), out.last_hidden_state, 1e-4)
    else:
        with torch.no_grad():
            tokens = vision(clip, interpolate_pos_encoding=True).last_hidden_state
        close(features.tokens.flatten(1, 2), tokens, 1e-4)
        close(features.embedding, out.pooler_output.squeeze(1), 1e-5)  # type: ignore[arg-type]
    assert len(hidden) == count
    for layer in range(count):
        close(features.hidden[layer], hidden[layer], 1e-4)


SIZES = [(5, 30, 30), (3, 30, 30), (9, 30, 30), (5, 48, 48), (2, 18, 42), (1, 6, 60)]


@pytest.mark.parametrize("size", SIZES)
def test_vision_model_equals_transformers(tmp_path: Path, size: tuple[int, int, int]) -> None:
    model = vision_model()
    agree(load_encoder(save(model, tmp_path)), model, clip_of(*size))


def test_hidden_layers_are_those_of_output_hidden_states(tmp_path: Path) -> None:
    model, clip = vision_model(), clip_of(5, 30, 30)
    with torch.no_grad():
        theirs = model(clip, output_hidden_states=True).hidden_states
    ours = load_encoder(save(model, tmp_path))(clip, layers=(0, 1, 2, 3)).hidden
    for layer in (0, 1, 2):  # the first entry is what enters layer 0, the last is the final output
        close(ours[layer].flatten(0, 1), theirs[layer + 1], 1e-4)
    close(ours[3].transpose(1, 2).flatten(0, 1), theirs[4], 1e-4)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", ["video", "video-text"])
def test_video_embeddings_equal_transformers(tmp_path: Path, kind: str, size: tuple[int, int, int]) -> None:
    model = video_model() if kind == "video" else video_text_model()
    encoder = load_encoder(save(model, tmp_path))
    assert encoder.has_text == (kind == "video-text")
    agree(encoder, model, clip_of(*size))


MASKS = {
    "prefixes": [[1, 1, 1, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1, 1], [1, 0, 0, 0, 0, 0, 0]],
    "gaps": [[1, 0, 1, 1, 0, 0, 1], [0, 0, 0, 1, 0, 1, 1], [0, 1, 1, 1, 1, 1, 1]],
    "ends": [[0, 0, 0, 0, 0, 0, 1], [1, 1, 1, 1, 1, 1, 0], [0, 1, 0, 1, 0, 1, 0]],
}


def padded(video: VideoPrismVideoModel, clip: Tensor, mask: Tensor, patches: int) -> tuple[Tensor, Tensor]:
    """Tokens (B, T, N, D) and embeddings (B, E) of padded clips, as the public JAX code defines them.

    It masks padded frames in the temporal attention and keeps the positions of the padded length. The port in
    transformers offers no mask: its own temporal layers are given one here, and its head the real tokens alone.
    """
    vision, frames = video.vision_model, mask.shape[1]

    def masked(module: torch.nn.Module, given: Any, named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        shut = torch.zeros(mask.shape).masked_fill(~mask, -1e30).repeat_interleave(patches, 0)  # (B*N, T)
        return given, named | {"attention_mask": shut[:, None, None]}

    hooks = [layer.register_forward_pre_hook(masked, with_kwargs=True) for layer in vision.temporal_layers]
    embeddings = []
    with torch.no_grad():
        tokens = vision(clip, interpolate_pos_encoding=True).last_hidden_state.unflatten(1, (frames, patches))
        for sample, real in zip(tokens, mask, strict=True):
            x = sample[real].flatten(0, 1)[None]  # (1, real frames * N, D)
            for layer in video.auxiliary_layers:
                x = layer(x)
            embeddings.append(F.normalize(video.head_layernorm(video.head(x)[0])[:, 0], dim=-1))
    for hook in hooks:
        hook.remove()
    return tokens, torch.cat(embeddings)


@pytest.mark.parametrize("frames", [5, 7])
@pytest.mark.parametrize("name", MASKS)
def test_padded_clips_equal_the_reference(tmp_path: Path, name: str, frames: int) -> None:
    model = video_text_model()
    encoder = load_encoder(save(model, tmp_path))
    mask = torch.tensor(MASKS[name], dtype=torch.bool)[:, -frames:]
    mask[:, 0] |= ~mask.any(1)
    clip = clip_of(frames, 30, 30, batch=3)
    features = encoder(clip, frame_mask=mask, embed=True)
    tokens, embeddings = padded(model.video_model, clip, mask, features.tokens.shape[2])
    close(features.tokens[mask], tokens[mask], 2e-4)
    close(features.embedding, embeddings, 1e-5)  # type: ignore[arg-type]
    noise = torch.where(mask[:, :, None, None, None], clip, torch.rand_like(clip))
    assert torch.equal(encoder(noise, frame_mask=mask).tokens[mask], features.tokens[mask])


@pytest.mark.parametrize("length", [1, 7, 64])
def test_text_embeddings_equal_transformers(tmp_path: Path, length: int) -> None:
    model = video_text_model()
    encoder = load_encoder(save(model, tmp_path))
    generator = torch.Generator().manual_seed(length)
    ids = torch.randint(0, 90, (5, length), generator=generator)
    mask = torch.arange(length) < torch.randint(1, length + 1, (5, 1), generator=generator)
    with torch.no_grad():
        theirs = model.text_model(ids, mask.long()).pooler_output
    close(encoder.embed_token_ids(ids, mask), theirs, 1e-5)


def test_the_position_table_of_the_checkpoint_wins(tmp_path: Path) -> None:
    model = video_text_model()
    table = model.text_model.embeddings.position_embedding
    table.copy_(torch.rand(table.shape, generator=torch.Generator().manual_seed(1)))
    encoder = load_encoder(save(model, tmp_path))
    ids, mask = torch.tensor([[3, 4, 5]]), torch.ones(1, 3, dtype=torch.bool)
    with torch.no_grad():
        close(encoder.embed_token_ids(ids, mask), model.text_model(ids, mask.long()).pooler_output, 1e-5)


def test_texts_equal_transformers_tokenizer_and_model(tmp_path: Path) -> None:
    model = video_text_model(text=TINY_TEXT | {"vocab_size": 200})
    tokenizer = transformers_tokenizer(sentencepiece_model(tmp_path / "made" / "spiece.model"))
    folder = save(model, tmp_path / "model")
    tokenizer.save_pretrained(str(folder))
    encoder = load_encoder(folder)
    rows = tokenizer(["a man plays the drums.", "two dogs."], padding="max_length", max_length=64, return_tensors="pt")
    with torch.no_grad():
        theirs = model.text_model(rows["input_ids"], rows["attention_mask"]).pooler_output
    close(encoder.embed_text(["A man plays: the drums", "Two dogs!"]), theirs, 1e-5)
    assert encoder.embed_text([]).shape == (0, 24)
    many = encoder.embed_text(["two dogs"] * 130)
    close(many, theirs[1:].expand(130, -1), 1e-5)


@pytest.mark.parametrize("options", [{}, {"max_shard_size": "20KB"}])
def test_one_file_or_several(tmp_path: Path, options: dict[str, str]) -> None:
    model = vision_model()
    folder = save(model, tmp_path, **options)
    assert (len(list(folder.glob("*.safetensors"))) > 1) == bool(options)
    agree(load_encoder(folder), model, clip_of(5, 30, 30))


def test_a_video_classifier_lends_its_vision_part(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = scatter(VideoPrismForVideoClassification(VideoPrismVisionConfig(**TINY, num_labels=3)))
    with caplog.at_level(logging.INFO):
        encoder = load_encoder(save(model, tmp_path))
    assert "classifier.weight" in caplog.text
    assert encoder.embedding_dim is None
    agree(encoder, model.vision_model, clip_of(5, 30, 30))


def test_half_precision_files_are_read_as_float32(tmp_path: Path) -> None:
    model = vision_model().to(torch.bfloat16)
    encoder = load_encoder(save(model, tmp_path))
    assert encoder.dtype == torch.float32
    agree(encoder, model.float(), clip_of(5, 30, 30))


@pytest.mark.parametrize("make", [vision_model, video_model, video_text_model])
def test_saved_encoders_open_in_transformers(tmp_path: Path, make: Callable[[], Any]) -> None:
    model = make()
    encoder = load_encoder(save(model, tmp_path / "theirs"))
    folder = save_encoder(encoder, tmp_path / "ours")
    again, report = type(model).from_pretrained(folder, output_loading_info=True)
    assert not any(report.values()), report
    agree(encoder, again, clip_of(3, 30, 30))
    assert load_encoder(folder).fingerprint == encoder.fingerprint
    assert isinstance(AutoModel.from_pretrained(folder), VideoPrismClipModel | VideoPrismVisionModel)
    assert encoder.fingerprint in (folder / "README.md").read_text()


@pytest.mark.parametrize("tokenizer_file", ["tokenizer.json", "spiece.model"])
def test_the_tokenizer_is_saved_too(tmp_path: Path, tokenizer_file: str) -> None:
    folder = save(video_text_model(text=TINY_TEXT | {"vocab_size": 200}), tmp_path / "model")
    made = sentencepiece_model(tmp_path / "made" / "spiece.model")
    if tokenizer_file == "tokenizer.json":
        transformers_tokenizer(made).save_pretrained(str(folder))
    else:
        shutil.copy(made, folder / "spiece.model")
    encoder = load_encoder(folder)
    saved = save_encoder(encoder, tmp_path / "saved")
    texts = ["a man plays the drums.", "two dogs."]
    assert torch.equal(load_encoder(saved).embed_text(texts), encoder.embed_text(texts))
    ids, mask = encoder.tokenizer(texts)  # type: ignore[misc]
    theirs = AutoTokenizer.from_pretrained(saved)(texts, padding=True, return_tensors="pt")
    assert torch.equal(theirs["input_ids"][mask], ids[mask])


def change_config(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))


def change_tensors(folder: Path, change: Callable[[dict[str, Tensor]], None]) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def truncate(folder: Path) -> None:
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])


def only_pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def lost_shard(folder: Path) -> None:
    save(vision_model(), folder, max_shard_size="20KB")
    (folder / "model.safetensors").unlink(missing_ok=True)
    min(folder.glob("model-*.safetensors")).unlink()


def escaping_index(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder.parent / "outside.safetensors")
    index = {"weight_map": {"layernorm1.weight": "../outside.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def pipe(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    os.mkfifo(folder / "model.safetensors")


def huge_config(folder: Path) -> None:
    with (folder / "config.json").open("ab") as file:
        file.truncate((32 << 20) + 1)


BAD: list[tuple[str, Callable[[Path], Any], str]] = [
    (
        "a missing tensor",
        lambda folder: change_tensors(folder, lambda tensors: tensors.pop("spatial_layers.1.mlp.fc1.bias")),
        r"1 tensors are missing: spatial_layers\.1\.mlp\.fc1\.bias",
    ),
    (
        "an extra tensor",
        lambda folder: change_tensors(folder, lambda tensors: tensors.update(surprise=torch.zeros(2))),
        "1 tensors do not belong to this model: surprise",
    ),
    (
        "a wrong shape",
        lambda folder: change_tensors(folder, lambda tensors: tensors.update({"layernorm1.bias": torch.zeros(23)})),
        r"layernorm1\.bias \(23,\) instead of \(24,\)",
    ),
    (
        "another depth",
        lambda folder: change_config(folder, num_spatial_layers=4),
        "16 tensors are missing: .* and 10 more",
    ),
    ("a truncated file", truncate, "not a whole safetensors file"),
    ("an empty file", lambda folder: (folder / "model.safetensors").write_bytes(b""), "not a whole safetensors file"),
    ("only pickled weights", only_pickled, "pytorch_model.bin may hold code: convert it to safetensors first"),
    ("no weights", lambda folder: (folder / "model.safetensors").unlink(), "holds no model.safetensors"),
    ("a lost shard", lost_shard, "no such file"),
    ("a shard elsewhere", escaping_index, "is not a file of this folder"),
    ("no config", lambda folder: (folder / "config.json").unlink(), "no config.json"),
    ("a broken config", lambda folder: (folder / "config.json").write_text("{"), "not valid JSON"),
    ("a list as config", lambda folder: (folder / "config.json").write_text("[]"), "model_type None"),
    ("another model", lambda folder: change_config(folder, model_type="vit"), "model_type 'vit' is not supported"),
    ("tubes in time", lambda folder: change_config(folder, tubelet_size=[2, 6, 6]), "only square patches of one frame"),
    ("oblong frames", lambda folder: change_config(folder, image_size=[30, 36]), "only square frames"),
    ("another activation", lambda folder: change_config(folder, hidden_act="silu"), "hidden_act 'silu'"),
    ("odd heads", lambda folder: change_config(folder, num_attention_heads=5), "heads 5 must divide width 24"),
    (
        "a huge width",
        lambda folder: change_config(folder, hidden_size=24 * 10**8),
        "config.json: describes [0-9,]* weights",
    ),
    (
        "a huge depth",
        lambda folder: change_config(folder, num_spatial_layers=10**9),
        "config.json: describes [0-9,]* we",
    ),
    (
        "a huge picture",
        lambda folder: change_config(folder, image_size=6 * 10**6),
        "config.json: describes [0-9,]* wei",
    ),
    ("a pipe as weights", pipe, "holds no model.safetensors"),
    ("a huge config", huge_config, r"config.json: has 32.0 MiB, and a config no more than 32.0 MiB: it is damaged"),
    (
        "weights that are no numbers",
        lambda folder: change_tensors(folder, lambda tensors: tensors["layernorm1.bias"].fill_(float("nan"))),
        r"NaN or infinity in vision\.spatial_norm\.bias: not the weights that were saved",
    ),
    ("words for numbers", lambda folder: change_config(folder, hidden_size="wide"), "config.json: "),
]


@pytest.mark.parametrize(("spoil", "message"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_bad_checkpoints_end_in_one_line(tmp_path: Path, spoil: Callable[[Path], Any], message: str) -> None:
    folder = save(vision_model(), tmp_path / "bad")
    spoil(folder)
    with pytest.raises(InputError, match=message) as caught:
        load_encoder(folder)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)


def test_a_text_tower_that_transformers_can_but_we_cannot_read_is_refused(tmp_path: Path) -> None:
    folder = save(video_text_model(), tmp_path)
    change_config(folder, text_config=TINY_TEXT | {"hidden_act": "gelu"})
    with pytest.raises(InputError, match="hidden_act 'gelu' is not supported, only 'relu'"):
        load_encoder(folder)


@pytest.fixture(scope="module")
def base() -> Iterator[tuple[Any, Encoder]]:
    """The video-text model at its published size, random weights, in both implementations."""
    model = scatter(VideoPrismClipModel(VideoPrismConfig(vision_config={}, text_config={})))
    with TemporaryDirectory() as folder:
        encoder = load_encoder(save(model, Path(folder)))
    yield model, encoder


@pytest.mark.slow
@pytest.mark.parametrize("size", [(4, 288, 288), (16, 108, 144)])
def test_base_size_equals_transformers(base: tuple[Any, Encoder], size: tuple[int, int, int]) -> None:
    model, encoder = base
    agree(encoder, model, clip_of(*size, batch=1))


@pytest.mark.slow
def test_base_size_padded_clips_equal_the_reference(base: tuple[Any, Encoder]) -> None:
    model, encoder = base
    clip, mask = clip_of(8, 144, 144), torch.tensor([[1, 1, 1, 0, 0, 0, 0, 0], [0, 1, 1, 0, 1, 1, 0, 1]]).bool()
    features = encoder(clip, frame_mask=mask, embed=True)
    tokens, embeddings = padded(model.video_model, clip, mask, features.tokens.shape[2])
    close(features.tokens[mask], tokens[mask], 2e-4)
    close(features.embedding, embeddings, 1e-5)  # type: ignore[arg-type]


@pytest.mark.slow
def test_base_size_texts_equal_transformers(base: tuple[Any, Encoder]) -> None:
    model, encoder = base
    ids = torch.randint(0, 32000, (3, 64), generator=torch.Generator().manual_seed(0))
    mask = torch.arange(64) < torch.tensor([[64], [10], [1]])
    with torch.no_grad():
        theirs = model.text_model(ids, mask.long()).pooler_output
    close(encoder.embed_token_ids(ids, mask), theirs, 1e-5)
