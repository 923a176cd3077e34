"""What captions of the synthetic world get right, word by word: texture, colour, shape, motion, and both together.

    python -m benchmarks.pretraining.caption_words runs/captions-1a2b3c4d5e runs/captions-1a2b3c4d5e/blind

Each argument is the folder of a run, or a file of predictions. A caption names the right object where its texture, or
that it has none, its colour and its shape are those of the true caption.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.pretraining.intervals import Interval, share
from core_encoder.errors import InputError
from pretrain.world.drawing import COLOURS, SHAPES, TEXTURES
from pretrain.world.motions import MOTIONS

WHAT: Mapping[str, Sequence[str]] = {
    "texture": tuple(TEXTURES),
    "colour": tuple(COLOURS),
    "shape": tuple(SHAPES),
    "motion": MOTIONS,
}
COLUMNS = (*WHAT, "object", "object and motion")


def word_shares(said: Sequence[str], right: Sequence[str]) -> dict[str, Interval]:
    """The share of captions that name each thing as the true caption does, with 95 % intervals."""
    rows = [
        [_named(one, words) == _named(true, words) for words in WHAT.values()]
        for one, true in zip(said, right, strict=True)
    ]
    hits = [[*row, all(row[:3]), all(row)] for row in rows]
    return {name: share([row[place] for row in hits]) for place, name in enumerate(COLUMNS)}


def read_captions(path: Path) -> tuple[list[str], list[str]]:
    """The captions of a file of predictions, or of the run in a folder, and the first true one of each.

    Raises:
        InputError: there is no such file, or it holds no captions.
    """
    file = path / "predictions.jsonl" if path.is_dir() else path
    try:
        rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        return [row["caption"] for row in rows], [row["target"][0] for row in rows]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise InputError(f"{file}: no predictions of captions ({error})") from error


def main(arguments: Sequence[str]) -> None:
    """Print the shares of each run, in per cent."""
    for argument in arguments:
        shares = word_shares(*read_captions(Path(argument)))
        print(argument, *(f"{name} {interval.scaled(100)}" for name, interval in shares.items()), sep="\n  ")


def _named(caption: str, words: Sequence[str]) -> frozenset[str]:
    """Which of some words, or phrases, a caption says."""
    text = f" {caption.lower()} "
    return frozenset(word for word in words if f" {word} " in text)


if __name__ == "__main__":
    main(sys.argv[1:])
