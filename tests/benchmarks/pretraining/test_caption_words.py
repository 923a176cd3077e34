"""What captions get right, word by word."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.pretraining.caption_words import COLUMNS, main, read_captions, word_shares
from core_encoder.errors import InputError

RIGHT = ["a checkered red bar moving left", "a white ring moving up", "a red star approaching"]


def test_words_are_counted_apart() -> None:
    said = ["a checkered red bar moving right", "a ringed white ring moving up", "A red star approaching"]
    shares = word_shares(said, RIGHT)
    expected = {"texture": 2, "colour": 3, "shape": 3, "motion": 2, "object": 2, "object and motion": 1}
    assert {name: round(3 * one.value) for name, one in shares.items()} == expected


def test_a_run_is_read_and_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"id": str(k), "caption": text, "target": [text]} for k, text in enumerate(RIGHT)]
    (tmp_path / "predictions.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    assert read_captions(tmp_path) == (RIGHT, RIGHT)
    main([str(tmp_path)])
    assert [line.split(" 100.0")[0].strip() for line in capsys.readouterr().out.splitlines()[1:]] == list(COLUMNS)
    (tmp_path / "predictions.jsonl").write_text('{"id": "a", "label": "x"}\n')
    with pytest.raises(InputError, match="no predictions of captions"):
        main([str(tmp_path)])
