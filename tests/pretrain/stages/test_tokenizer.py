"""A tokenizer of one's own: nothing is unknown to it, it spells as the text tower does, and learns the same twice."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from core_encoder.errors import InputError
from core_encoder.files import storage
from core_encoder.models.text_tower import TextTokenizer, canonicalize
from pretrain.stages.tokenizer import train_tokenizer

TEXTS = [
    "A red star moving left",
    "a blue ring moving right!",
    "the red ring",
    "3 of 4 clips",
    "",
    "Über grüne Sterne",
] * 3


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_tokenizer(TEXTS, 320, tmp_path_factory.mktemp("tokenizer") / "tokenizer.json")


@settings(deadline=None, max_examples=200)
@given(st.text(max_size=40))
def test_any_text_round_trips_in_canonical_spelling(file: Path, text: str) -> None:
    ids, mask = TextTokenizer(file, 320, max_length=1000)([text])
    assert mask.all() and int(ids.max()) < 320
    decoded = Tokenizer.from_file(str(file)).decode(ids[0].tolist())
    assert decoded.removeprefix(" ") == canonicalize(text)


@pytest.mark.parametrize(
    "text",
    ["红色的星星向左移动", "красная звезда", "نجمة حمراء", "लाल तारा", "🟥⭐", "1234567890", "\x00\u200b"],
)
def test_scripts_it_never_saw_are_spelled_in_bytes(file: Path, text: str) -> None:
    ids, _ = TextTokenizer(file, 320, max_length=1000)([text])
    pieces = [Tokenizer.from_file(str(file)).id_to_token(i) for i in ids[0].tolist()]
    assert None not in pieces and "<unk>" not in pieces
    assert Tokenizer.from_file(str(file)).decode(ids[0].tolist()).strip(" ") == canonicalize(text)


def test_spelling_is_that_of_the_text_tower(file: Path) -> None:
    tokenizer = TextTokenizer(file, 320)
    same = tokenizer(["A RED star, moving: left", "a red star moving left", " a  red (star)\nmoving left."])[0]
    assert (same == same[0]).all()
    vocabulary = json.loads(file.read_text(encoding="utf-8"))["model"]["vocab"]
    learned = [piece for piece in vocabulary if len(piece) > 1]
    assert any("red" in piece for piece in learned)
    assert not any(letter.isupper() and letter.isascii() for piece in learned for letter in piece)


@pytest.mark.parametrize("size", [257, 258, 300, 5000])
def test_the_vocabulary_is_at_most_as_large_as_asked(tmp_path: Path, size: int) -> None:
    backend = Tokenizer.from_file(str(train_tokenizer(TEXTS, size, tmp_path / "t.json")))
    assert 257 <= backend.get_vocab_size() <= size
    assert backend.get_vocab_size() == size or size == 5000
    assert sorted(backend.get_vocab().values()) == list(range(backend.get_vocab_size()))


def test_words_that_come_often_are_one_piece(file: Path) -> None:
    tokenizer = TextTokenizer(file, 320)
    assert tokenizer(["red"])[0].shape[1] < tokenizer(["qzx"])[0].shape[1]


def test_the_same_texts_give_the_same_tokenizer(tmp_path: Path, file: Path) -> None:
    assert train_tokenizer(iter(TEXTS), 320, tmp_path / "deep" / "t.json").read_bytes() == file.read_bytes()
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["t.json"]


@pytest.mark.parametrize("size", [0, 1, 256])
def test_a_vocabulary_below_the_bytes_is_refused(tmp_path: Path, size: int) -> None:
    with pytest.raises(InputError, match=f"{size} pieces.*257"):
        train_tokenizer(TEXTS, size, tmp_path / "t.json")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device here that is always full")
def test_a_full_disk_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage.uuid, "uuid4", lambda: SimpleNamespace(hex="0" * 8))
    (tmp_path / f".tokenizer.json.{os.getpid()}-{'0' * 8}.tmp").symlink_to("/dev/full")
    with pytest.raises(InputError, match="tokenizer.json: the disk is full; free space") as caught:
        train_tokenizer(["a red square"], 300, tmp_path / "tokenizer.json")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("texts", [[], ["", ""]])
def test_no_captions_are_refused(tmp_path: Path, texts: list[str]) -> None:
    with pytest.raises(InputError, match="no captions") as caught:
        train_tokenizer(texts, 300, tmp_path / "t.json")
    assert "`tokenizer: path`" in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_long_and_numeric_captions(tmp_path: Path) -> None:
    path = train_tokenizer(["word " * 2000, "12345", "..."], 300, tmp_path / "t.json")
    ids, mask = TextTokenizer(path, 300, max_length=8)(["word " * 2000, "12345", "..."])
    assert ids.shape == (3, 8) and mask[0].all() and mask.any(1).all()
