"""A folder belongs to the run that began it; another one is refused in a line that says what differs."""

from __future__ import annotations

from pathlib import Path

import pytest

from core_encoder.errors import InputError
from fit.claim import Aspect, check_claim, claim, difference

ASPECTS = (Aspect("recipe", "settings"), Aspect("start", otherwise="the encoder has changed"))
RECORD = {"recipe": "a", "settings": {"lr": 0.1, "seed": 0}, "start": "x"}


def test_the_same_run_goes_on_and_another_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    check_claim(file, RECORD, ASPECTS, "restart it")
    assert not file.exists()
    claim(file, RECORD, ASPECTS, "restart it")
    begun = file.read_bytes()
    claim(file, RECORD | {"start": None}, ASPECTS, "restart it")  # not known: not compared
    with pytest.raises(InputError) as refused:
        claim(file, RECORD | {"recipe": "b", "settings": {"lr": 0.2, "seed": 0}}, ASPECTS, "restart it")
    assert str(refused.value) == f"{tmp_path}: was begun with another recipe (lr was 0.1, now 0.2); restart it"
    with pytest.raises(InputError, match=r"another start \(the encoder has changed\); restart it"):
        claim(file, RECORD | {"start": "y"}, ASPECTS, "restart it")
    with pytest.raises(InputError, match=r"another recipe \(was 'a', now 'b'\); restart it"):
        claim(file, {"recipe": "b"}, ASPECTS, "restart it")
    assert file.read_bytes() == begun


def test_a_file_that_is_no_record_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("[]")
    with pytest.raises(InputError, match="not the record of a run; restart it"):
        claim(tmp_path / "run.json", RECORD, ASPECTS, "restart it")


def test_a_difference_shows_three_entries_and_counts_the_rest() -> None:
    before, now = {"a": 1, "gone": 2}, {"a": 3, "b": 4, "c": 5}
    assert difference(before, before) == difference("x", now) == ""
    shown = "a was 1, now 3, b was None, now 4, c was None, now 5 and 1 more"
    assert difference(before, now) == shown
