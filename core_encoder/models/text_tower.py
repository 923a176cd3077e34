"""The text half of the video-text model: strings -> token ids -> one unit vector each.

Source: the text tower of VideoPrism's public video-text model (after CoCa, arXiv 2205.01917): token embeddings and
fixed sinusoids, one learned class token at the end, causal layers; the class token's output is the embedding.
"""

from __future__ import annotations

import logging
import math
import shutil
import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from core_encoder.errors import InputError
from core_encoder.files.storage import atomic_path
from core_encoder.models.layers import LayerNorm, TransformerLayer
from core_encoder.models.model_configs import TextConfig
from core_encoder.said_once import warn_once

log = logging.getLogger(__name__)

SENTENCEPIECE_FILES = ("spiece.model", "sentencepiece.model", "c4_en.model")
_PUNCTUATION_TO_SPACE = str.maketrans(string.punctuation, " " * len(string.punctuation))


class TextTower(nn.Module):
    """Causal transformer over token ids with a class token at the end."""

    positions: Tensor

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.config = config
        self.token_embedding = nn.Embedding(config.vocab_size, config.width)
        self.class_embedding = nn.Parameter(torch.zeros(1, 1, config.width))
        self.register_buffer("positions", sinusoids(config.max_length, config.width))
        self.layers = nn.ModuleList(
            TransformerLayer(config.width, config.heads, config.mlp_dim, activation="relu", cap=config.cap)
            for _ in range(config.layers)
        )
        self.norm = LayerNorm(config.width)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Encode ids (B, L), of which `mask` (B, L) marks the real ones, into class token outputs (B, D).

        Raises:
            ValueError: a shape that does not fit, more tokens than positions, or an id outside the vocabulary.
        """
        check_token_ids(ids, mask, self.config.vocab_size, self.config.max_length)
        if torch.compiler.is_exporting():
            length = ids.shape[1]
        else:
            length = int(mask.any(0).nonzero().max()) + 1 if bool(mask.any()) else 0
            ids, mask = ids[:, :length], mask[:, :length]  # what all samples pad is never attended to
        scale = math.sqrt(self.config.width)
        x = self.token_embedding(ids) * scale  # (B, L, D)
        x = x + self.positions[:length].to(x.dtype)
        x = torch.cat([x, (self.class_embedding * scale).expand(ids.shape[0], -1, -1)], dim=1)  # (B, L+1, D)
        attend = torch.cat([mask, mask.new_ones(ids.shape[0], 1)], dim=1)  # (B, L+1)
        for layer in self.layers:
            x = layer(x, mask=attend, causal=True)
        return self.norm(x[:, -1])  # (B, D)


def check_token_ids(ids: Tensor, mask: Tensor, vocab_size: int, max_length: int) -> None:
    """Check ids (B, L) and mask (B, L).

    Raises:
        ValueError: a shape or dtype that does not fit, more than `max_length` tokens, or an id outside the vocabulary.
    """
    if ids.ndim != 2 or ids.is_floating_point() or mask.shape != ids.shape or mask.dtype != torch.bool:
        raise ValueError(
            f"ids and mask must be whole numbers and bool of one shape (B, L), not {ids.dtype} {tuple(ids.shape)} "
            f"and {mask.dtype} {tuple(mask.shape)}"
        )
    if ids.shape[1] > max_length:
        raise ValueError(f"at most {max_length} tokens fit, not {ids.shape[1]}")
    if torch.compiler.is_exporting():
        return  # a graph has no branch that depends on values
    if ids.numel() and not 0 <= int(ids.min()) <= int(ids.max()) < vocab_size:
        raise ValueError(f"token ids must lie in 0 to {vocab_size - 1}")


def sinusoids(length: int, width: int) -> Tensor:
    """The fixed position table (length, width) of the JAX text tower, first all sines, then all cosines.

    The frequencies are spread over `width / 2 - 1` steps; the table that `transformers` builds divides by `width / 2`,
    so a converted checkpoint's own table always wins over this one.
    """
    count = width // 2
    steps = torch.arange(count, dtype=torch.float32) * (math.log(10_000.0) / max(count - 1, 1))
    angles = torch.arange(length, dtype=torch.float32)[:, None] * torch.exp(-steps)  # (length, width / 2)
    return torch.cat([angles.sin(), angles.cos()], dim=1)  # (length, width)


def canonicalize(text: str) -> str:
    """The spelling the text tower was trained on: `"Hello,  World!"` -> `"hello world."`.

    Lone surrogates, which no tokenizer takes, count as punctuation.
    """
    text = text.encode("utf-8", "replace").decode("utf-8")
    return " ".join(text.translate(_PUNCTUATION_TO_SPACE).lower().split()) + "."


class Tokenizer(Protocol):
    """Texts to padded ids (B, L) and a mask (B, L), True = real; `save` writes its files into a folder."""

    def __call__(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]: ...

    def save(self, folder: Path) -> None: ...


class TextTokenizer:
    """VideoPrism's tokenizer, from a `tokenizer.json` or a SentencePiece model; no begin or end tokens.

    Raises:
        InputError: the file cannot be read, or it has more pieces than `vocab_size`.
    """

    def __init__(self, path: Path, vocab_size: int, max_length: int = 64) -> None:
        self.path = path
        self.vocab_size = vocab_size
        self.max_length = max_length
        self._encode = _json_encoder(path) if path.suffix == ".json" else _sentencepiece_encoder(path)

    @classmethod
    def find(cls, folder: Path, vocab_size: int, max_length: int = 64) -> TextTokenizer | None:
        """The tokenizer that lies in `folder`, if one does."""
        for name in (*SENTENCEPIECE_FILES, "tokenizer.json"):
            if (folder / name).is_file():
                return cls(folder / name, vocab_size, max_length)
        return None

    def __call__(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """`texts` -> ids (B, L) padded with 0, and mask (B, L), True = real; longer texts are cut, said once."""
        rows = self._encode([canonicalize(text) for text in texts])
        longest = max(map(len, rows), default=0)
        if longest > self.max_length:
            warn_once(log, f"texts longer than {self.max_length} tokens are cut", f"(this one has {longest})")
        ids = torch.zeros(len(rows), min(longest, self.max_length), dtype=torch.long)
        mask = torch.zeros_like(ids, dtype=torch.bool)
        for i, row in enumerate(rows):
            row = row[: self.max_length]
            ids[i, : len(row)] = torch.tensor(row, dtype=torch.long)
            mask[i, : len(row)] = True
        if ids.numel() and int(ids.max()) >= self.vocab_size:
            raise InputError(
                f"{self.path}: gives token {int(ids.max())}, but the encoder knows {self.vocab_size} tokens"
            )
        return ids, mask

    def save(self, folder: Path) -> None:
        """Copy the tokenizer files into `folder`, under the names that `transformers` looks for."""
        ours = "tokenizer.json" if self.path.suffix == ".json" else "spiece.model"
        beside = {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"} - {ours}
        names = {name: name for name in beside} | {self.path.name: ours}
        for name, target in names.items():
            if (self.path.parent / name).is_file() and self.path.parent.resolve() != folder.resolve():
                with atomic_path(folder / target) as aside:
                    shutil.copyfile(self.path.parent / name, aside)


def _json_encoder(path: Path) -> Any:
    from tokenizers import Tokenizer as Backend

    try:
        backend = Backend.from_file(str(path))
    except Exception as error:  # the library raises bare Exception
        raise InputError(f"{path}: not a tokenizer file ({error})") from error
    backend.no_truncation()
    backend.no_padding()
    return lambda texts: [row.ids for row in backend.encode_batch(texts, add_special_tokens=False)]


def _sentencepiece_encoder(path: Path) -> Any:
    from sentencepiece import SentencePieceProcessor

    processor = SentencePieceProcessor()
    try:
        processor.LoadFromSerializedProto(path.read_bytes())
    except (RuntimeError, OSError) as error:
        raise InputError(f"{path}: not a SentencePiece model ({error})") from error
    return lambda texts: [list(processor.EncodeAsIds(text)) for text in texts]
