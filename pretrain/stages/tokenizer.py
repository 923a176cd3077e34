"""A tokenizer for a corpus of one's own: byte-level BPE, so that no caption in any script is unknown."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from core_encoder.errors import InputError
from core_encoder.files.storage import write_text
from core_encoder.models.text_tower import canonicalize


def train_tokenizer(texts: Iterable[str], vocab_size: int, path: Path) -> Path:
    """Learn at most `vocab_size` pieces from captions, spelled as the text tower sees them, and write `path`.

    Raises:
        InputError: `vocab_size` is below the 256 bytes, or there is no text.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    if vocab_size <= 256:
        raise InputError(
            f"a vocabulary of {vocab_size} pieces is too small: every byte is one of them, give 257 or more"
        )
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, initial_alphabet=alphabet, show_progress=False)
    backend.train_from_iterator((canonicalize(text) for text in texts if text), trainer)
    if backend.get_vocab_size() <= 256:
        raise InputError("the corpus has no captions to learn a tokenizer from: give `tokenizer: path` in the recipe")
    return write_text(path, backend.to_str(pretty=True))
