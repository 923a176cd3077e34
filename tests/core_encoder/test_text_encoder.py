"""Text encoders: the vectors of their own libraries, built again from their files, and whatever is no text encoder."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from core_encoder.encoder import load_encoder
from core_encoder.errors import InputError
from core_encoder.text_encoder import TextEncoder, build_text_encoder, load_text_encoder
from tests.core_encoder.checkpoint_files import clip_model, save, vision_model
from tests.core_encoder.models.test_openai_clip import write_tokenizer
from tests.text_models import minilm, tiny_bert

TEXTS = ["a red circle moving left", "a blue star", "dog do"]


def vectors(encoder: TextEncoder) -> Tensor:
    with torch.no_grad():
        return encoder.eval()(TEXTS)


def built_again(encoder: TextEncoder, folder: Path) -> Tensor:
    encoder.write_files(folder)
    again = build_text_encoder(folder, "again")
    again.load_state_dict(encoder.state_dict())
    assert again.fingerprint() == encoder.fingerprint()
    return vectors(again)


def test_minilm_gives_the_vectors_of_sentence_transformers(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = minilm()
    from sentence_transformers import SentenceTransformer

    encoder = load_text_encoder(folder)
    expected = torch.tensor(SentenceTransformer(str(folder), device="cpu").encode(TEXTS))
    torch.testing.assert_close(normalize(vectors(encoder), dim=-1), expected, atol=1e-5, rtol=0)
    assert torch.equal(built_again(encoder, tmp_path), vectors(encoder))
    with caplog.at_level(logging.WARNING), torch.no_grad():
        long = encoder(["word " * 300, "word " * 400])
        encoder(["word " * 300])
    assert torch.equal(long[0], long[1])  # both are cut after the 256 tokens that the model was made for
    assert [record.message for record in caplog.records if "are cut" in record.message] == [
        "texts longer than 256 tokens are cut (this one has 402)"
    ]


@pytest.mark.parametrize("source", ["nano", "clip"])
def test_the_tower_of_an_encoder_gives_its_vectors(source: str, tmp_path: Path) -> None:
    if source == "clip":
        source = str(save(clip_model(), tmp_path / "clip"))
        write_tokenizer(Path(source))
    encoder = load_text_encoder(source)
    torch.testing.assert_close(
        normalize(vectors(encoder), dim=-1), load_encoder(source).embed_text(TEXTS), atol=1e-5, rtol=0
    )
    assert torch.equal(built_again(encoder, tmp_path / "files"), vectors(encoder))
    assert all(parameter.requires_grad for parameter in encoder.parameters())


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_token_outputs_become_one_vector_whatever_the_padding(pooling: str, tmp_path: Path) -> None:
    folder = tiny_bert(tmp_path / "bert", pooling)
    encoder = load_text_encoder(folder).eval()
    alone = torch.cat([encoder([text]) for text in TEXTS])
    torch.testing.assert_close(vectors(encoder), alone, atol=1e-5, rtol=0)
    ids, mask = encoder.tokenizer(TEXTS[:1])
    with torch.no_grad():
        tokens = encoder.model.model(input_ids=ids, attention_mask=mask.long()).last_hidden_state[0]
    torch.testing.assert_close(alone[0], tokens.mean(0) if pooling == "mean" else tokens[0], atol=1e-6, rtol=0)
    assert torch.equal(built_again(encoder, tmp_path / "files"), vectors(encoder))


def test_other_weights_have_another_fingerprint(tmp_path: Path) -> None:
    one, other = (load_text_encoder(tiny_bert(tmp_path / str(seed), seed=seed)) for seed in (0, 1))
    assert one.fingerprint() != other.fingerprint()
    assert one.fingerprint() == load_text_encoder(tmp_path / "0").fingerprint()


def test_what_is_no_text_encoder(tmp_path: Path) -> None:
    bert = tiny_bert(tmp_path / "bert")

    def changed(name: str) -> Path:
        return shutil.copytree(bert, tmp_path / name)

    wrong: dict[str, tuple[str | Path, str]] = {
        "nowhere": (tmp_path / "nowhere", "nowhere: no such file or folder"),
        "name": ("nanno", "text tower: no encoder is called 'nanno'.*did you mean 'nano'"),
        "hub": ("nobody/nothing", "nobody/nothing: not in the local cache, and downloads are switched off"),
        "silent": (save(vision_model(), tmp_path / "silent"), "'silent' has no text tower"),
        "mute": (save(clip_model(), tmp_path / "mute"), "came without a tokenizer"),
    }
    pickled = changed("pickled")
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    wrong["pickled"] = (pickled, "pytorch_model.bin may hold code: convert it to safetensors first")
    bare = changed("bare")
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt"):
        (bare / name).unlink(missing_ok=True)
    wrong["bare"] = (bare, "bare: holds no tokenizer")
    odd = changed("odd")
    (odd / "config.json").write_text(json.dumps({"model_type": "no such model"}))
    wrong["odd"] = (odd, "odd: not a text model that transformers opens")
    short = changed("short")
    config = json.loads((short / "config.json").read_text())
    (short / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))
    wrong["short"] = (short, r"short: 16 tensors are missing: encoder.layer.2")
    for source, message in wrong.values():
        with pytest.raises(InputError, match=message):
            load_text_encoder(source)
    with pytest.raises(InputError, match="no such file"):
        build_text_encoder(tmp_path / "nowhere", "")
