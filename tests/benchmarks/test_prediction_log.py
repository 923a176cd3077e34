"""Lines of predictions: on the disk one by one, a whole file or a part, and read back."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from adapters.predictions import Text
from benchmarks.prediction_log import kept_predictions, prediction_log, read_predictions
from core_encoder.errors import InputError


def test_each_line_is_on_the_disk_before_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda number: (synced.append(os.fstat(number).st_size), real(number))[1])
    path, part = tmp_path / "deep" / "x.jsonl", tmp_path / "run" / "part.jsonl"
    sizes = []
    with prediction_log(path, part) as write:
        for name in "abc":
            write(Text(name, "ein Hünd"), {"target": ["a dog"]})
            lines = part.read_text(encoding="utf-8").splitlines()
            assert json.loads(lines[-1]) == {"id": name, "caption": "ein Hünd", "target": ["a dog"]}
            sizes.append(part.stat().st_size)
        assert not path.exists()
    assert synced == sizes and not part.exists()
    assert read_predictions(path) == [Text(name, "ein Hünd") for name in "abc"]


def test_after_an_accident_there_is_no_whole_file_and_what_was_answered_is_kept(tmp_path: Path) -> None:
    path, part = tmp_path / "x.jsonl", tmp_path / "x.jsonl.part"
    assert kept_predictions(part) == []
    with pytest.raises(KeyboardInterrupt), prediction_log(path, part) as write:
        write(Text("a", "x"), {})
        raise KeyboardInterrupt
    assert [one.name for one in tmp_path.iterdir()] == ["x.jsonl.part"]
    with part.open("a") as file:
        file.write('{"id": "b", "capt')  # killed in the middle of a line
    assert kept_predictions(part) == [Text("a", "x")]
    with prediction_log(path, part) as write:
        write(Text("b", "y"), {})
    assert read_predictions(path) == [Text("a", "x"), Text("b", "y")] and len(list(tmp_path.iterdir())) == 1


def test_what_cannot_be_read_back_is_answered_again(tmp_path: Path) -> None:
    part = tmp_path / "x.jsonl.part"
    part.write_text('{"id": "a", "mood": "good"}\n')
    assert kept_predictions(part) == [] and not part.exists()


@pytest.mark.parametrize("line", ["{", "[]", '{"id": "b"}'])
def test_a_damaged_line_is_named(line: str, tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text('{"id": "a", "caption": "x"}\n' + line + "\n")
    with pytest.raises(InputError, match=r"x\.jsonl: line 2: "):
        read_predictions(tmp_path / "x.jsonl")
    with pytest.raises(InputError, match=r"none\.jsonl: cannot be read"):
        read_predictions(tmp_path / "none.jsonl")
