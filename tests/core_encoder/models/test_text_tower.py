"""Texts to vectors: spelling, token files, causal padding-masked attention, the position table."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pytest
import torch
from transformers import VideoPrismTextModel

from core_encoder.errors import InputError
from core_encoder.models.model_configs import TextConfig
from core_encoder.models.text_tower import TextTokenizer, TextTower, canonicalize, sinusoids
from tests.core_encoder.checkpoint_files import jax_sinusoids, scatter, sentencepiece_model, transformers_tokenizer

CONFIG = TextConfig(vocab_size=50, width=12, heads=2, mlp_dim=20, layers=3, max_length=10)


@pytest.fixture(scope="module")
def tower() -> TextTower:
    return scatter(TextTower(CONFIG)).requires_grad_(False)  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello, World!", "hello world."),
        ("Hello,World..", "hello world."),
        ("  Hello   WORLD", "hello world."),
        ("a man's dog\tjumps\n(twice)", "a man s dog jumps twice."),
        ("", "."),
        ("Über-Straße", "über straße."),
        ("a star \ud83d", "a star."),  # half of an emoji
    ],
)
def test_spelling_of_the_training_texts(text: str, expected: str) -> None:
    assert canonicalize(text) == expected


@pytest.mark.parametrize(("length", "width"), [(64, 768), (7, 6), (3, 2)])
def test_positions_are_those_of_the_jax_code(length: int, width: int) -> None:
    torch.testing.assert_close(
        sinusoids(length, width).double(), torch.from_numpy(jax_sinusoids(length, width)), atol=2e-5, rtol=0
    )


def test_positions_differ_from_a_fresh_transformers_table() -> None:
    from transformers.models.videoprism.modeling_videoprism import create_sinusoidal_positions

    assert (sinusoids(64, 32) - create_sinusoidal_positions(64, 32)).abs().max() > 0.1


def test_padding_changes_nothing(tower: TextTower) -> None:
    ids = torch.tensor([[4, 9, 3, 0, 0, 0, 0], [5, 6, 7, 8, 9, 10, 11]])
    mask = torch.tensor([[True] * 3 + [False] * 4, [True] * 7])
    both = tower(ids, mask)
    torch.testing.assert_close(both[:1], tower(ids[:1, :3], mask[:1, :3]), atol=1e-6, rtol=0)
    other_padding = torch.where(mask, ids, 33)
    assert torch.equal(tower(other_padding, mask), both)
    assert (tower(ids.flip(0), mask.flip(0)).flip(0) - both).abs().max() < 1e-6


def test_attention_is_causal_even_without_padding(tower: TextTower) -> None:
    """`transformers` drops the causal mask with the padding mask; the output for full rows must not."""
    ids = torch.tensor([[4, 9, 3, 7]])
    seen: list[torch.Tensor] = []
    hook = tower.layers[-1].register_forward_hook(lambda _, args, out: seen.append(out))
    tower(ids, torch.ones_like(ids, dtype=torch.bool))
    tower(torch.tensor([[4, 9, 8, 8]]), torch.ones_like(ids, dtype=torch.bool))
    hook.remove()
    assert torch.equal(seen[0][:, :2], seen[1][:, :2])
    assert (seen[0][:, 2:] - seen[1][:, 2:]).abs().amax((0, 2)).min() > 1e-3


def test_no_real_token_at_all_is_the_class_token_alone(tower: TextTower) -> None:
    ids = torch.tensor([[4, 9], [4, 9]])
    mask = torch.tensor([[False, False], [True, True]])
    out = tower(ids, mask)
    assert torch.isfinite(out).all()
    torch.testing.assert_close(out[:1], tower(ids[:1], mask[:1]), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("ids", "mask", "message"),
    [
        (torch.zeros(1, 11, dtype=torch.long), torch.ones(1, 11, dtype=torch.bool), "at most 10 tokens"),
        (torch.full((1, 3), 50), torch.ones(1, 3, dtype=torch.bool), "0 to 49"),
        (torch.zeros(1, 3, dtype=torch.long), torch.ones(1, 2, dtype=torch.bool), "one shape"),
        (torch.zeros(1, 3), torch.ones(1, 3, dtype=torch.bool), "one shape"),
        (torch.zeros(1, 3, dtype=torch.long), torch.ones(1, 3), "one shape"),
    ],
)
def test_ids_that_do_not_fit_are_refused(tower: TextTower, ids: torch.Tensor, mask: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tower(ids, mask)


def test_transformers_text_model_has_the_trap_this_tower_avoids() -> None:
    """If this fails, the port was mended and the note about it can go."""
    from transformers import VideoPrismTextConfig

    port = scatter(VideoPrismTextModel(VideoPrismTextConfig(**{"vocab_size": 50, "hidden_size": 12,
        "num_attention_heads": 2, "intermediate_size": 20, "num_hidden_layers": 2})))  # fmt: skip
    ids = torch.tensor([[4, 9, 3, 7]])
    with torch.no_grad():
        masked = port(ids, torch.ones_like(ids)).pooler_output
        bare = port(ids).pooler_output
    assert (masked - bare).abs().max() > 1e-3


TEXTS = ["A man plays the Drums!", "two dogs", "", "zebra quartz ünïcode 12"]


def test_both_token_files_give_the_ids_of_sentencepiece(tmp_path: Path) -> None:
    from sentencepiece import SentencePieceProcessor

    model = sentencepiece_model(tmp_path / "spiece.model")
    expected = SentencePieceProcessor(model_file=str(model)).encode([canonicalize(text) for text in TEXTS])
    transformers_tokenizer(model).save_pretrained(str(tmp_path / "json"))
    for path in (model, tmp_path / "json" / "tokenizer.json"):
        ids, mask = TextTokenizer(path, vocab_size=300)(TEXTS)
        assert [row[real].tolist() for row, real in zip(ids, mask, strict=True)] == expected
        assert (ids[~mask] == 0).all()


def test_long_texts_are_cut_and_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tokenizer = TextTokenizer(sentencepiece_model(tmp_path / "spiece.model"), vocab_size=300, max_length=6)
    with caplog.at_level(logging.WARNING):
        ids, mask = tokenizer(["the man plays the drums and the dog jumps"] * 2)
        tokenizer(["the man plays the drums and the dog jumps"])
    assert ids.shape == (2, 6)
    assert mask.all()
    assert [record.message for record in caplog.records if "cut" in record.message] == [caplog.records[0].message]


def test_token_files_that_are_broken_or_foreign_are_refused(tmp_path: Path) -> None:
    for name in ("spiece.model", "tokenizer.json"):
        (tmp_path / name).write_bytes(b"nonsense")
        with pytest.raises(InputError, match=name):
            TextTokenizer(tmp_path / name, vocab_size=300)
    with pytest.raises(InputError, match="the encoder knows 20 tokens"):
        TextTokenizer(sentencepiece_model(tmp_path / "a.model"), vocab_size=20)(["zebra"])


def test_a_token_file_of_another_name_is_kept_beside_a_foreign_one(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models

    for name, word in (("german.json", "hund"), ("tokenizer.json", "dog")):
        Tokenizer(models.WordLevel({word: 0}, unk_token=word)).save(str(tmp_path / name))
    (tmp_path / "saved").mkdir()
    TextTokenizer(tmp_path / "german.json", vocab_size=300).save(tmp_path / "saved")
    assert (tmp_path / "saved" / "tokenizer.json").read_bytes() == (tmp_path / "german.json").read_bytes()


@pytest.mark.parametrize("name", ["spiece.model", "sentencepiece.model", "c4_en.model"])
def test_token_files_are_found_under_their_usual_names(tmp_path: Path, name: str) -> None:
    assert TextTokenizer.find(tmp_path, 300) is None
    shutil.move(sentencepiece_model(tmp_path / "made.bin"), tmp_path / name)
    found = TextTokenizer.find(tmp_path, 300)
    assert found is not None
    assert found.path == tmp_path / name
