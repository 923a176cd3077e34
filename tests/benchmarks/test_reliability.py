"""The campaign against accidents: its parts, and every accident in small."""

from __future__ import annotations

import logging
import random
from pathlib import Path

import pytest

from benchmarks.reliability import __main__ as campaign
from benchmarks.reliability.accidents import ACCIDENTS, parts_of
from benchmarks.reliability.damage import DAMAGES
from benchmarks.reliability.killed import differences
from benchmarks.reliability.table import table
from benchmarks.reliability.tally import Ground, Tally
from core_encoder.errors import InputError
from tests.videos import moving_square, write_video

ROWS = ["damaged", "tampered", "full-disk", "writers", "serving", "killed-encode"]


def test_accidents_are_found_by_name() -> None:
    assert [row for row in parts_of("") if row.startswith("killed-")] == [
        *("killed-encode", "killed-train", "killed-bench", "killed-index", "killed-pretrain")
    ]
    assert list(parts_of("serving, killed-train")) == ["serving", "killed-train"]
    with pytest.raises(InputError, match="accident 'tempered' is unknown; did you mean 'tampered'?"):
        parts_of("tempered")
    assert set(ROWS) <= set(parts_of(""))


def test_every_damage_changes_the_file_and_a_seed_repeats_it(tmp_path: Path) -> None:
    one, other = (write_video(tmp_path / f"{n}.mp4", moving_square(n + 8, seed=n)).read_bytes() for n in range(2))
    for damage in DAMAGES.values():
        made = [damage(random.Random(seed), one, other) for seed in (*range(10), *range(10))]
        assert made[:10] == made[10:]
        assert sum(content != one for content in made[:10]) >= 8, damage.__name__


def test_a_tally_is_whole_when_nothing_is_wrong() -> None:
    tally = Tally()
    tally.count([])
    tally.refuse("a.mp4: truncated", True)
    assert tally.ok
    tally.refuse("something is wrong", False)
    assert not tally.ok and tally.faults == ["not named: something is wrong"]
    assert not Tally(tried=1, survived=0, faults=["x"]).ok and not Tally(lost=1).ok
    tally.measured["minutes"] = 3
    assert table({"damaged": tally}).splitlines()[-1] == "| damaged | 1 | 1 | 0 | 1 of 2 | minutes: 3 |"


def test_ends_that_differ_are_named() -> None:
    assert differences({"a": "1", "b": "2"}, {"a": "1", "b": "2"}) == []
    assert differences({"a": "1", "b": "2"}, {"b": "3", "c": "4"}) == [
        *("missing: a", "more than undisturbed: c", "not as undisturbed: b")
    ]


def test_what_is_finished_is_kept_and_what_is_wrong_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[Ground] = []
    stores = logging.getLogger("core_encoder.features.feature_store")

    def accident(ground: Ground) -> Tally:
        seen.append(ground)
        assert not stores.isEnabledFor(logging.WARNING), "they are what it looks for"
        return Tally(1, int(len(seen) == 1), faults=[] if len(seen) == 1 else ["a.mp4: it hung"])

    monkeypatch.setitem(ACCIDENTS, "damaged", {"damaged": accident})  # type: ignore[arg-type]
    words = ["--out", str(tmp_path), "--only", "damaged", "--small"]
    assert campaign.main(words) == campaign.main(words) == 0
    assert len(seen) == 1 and seen[0].small and not seen[0].folder.exists()
    assert campaign.main([*words, "--seed", "1"]) == 1
    assert "damaged: a.mp4: it hung" in capsys.readouterr().out
    assert len(seen) == 2 and seen[1].folder.exists(), "it shows the fault"
    assert campaign.main(["--out", str(tmp_path), "--only", "x"]) == 2
    assert stores.isEnabledFor(logging.WARNING)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").exists(), reason="processes are found in /proc")
@pytest.mark.parametrize("row", ROWS)
def test_small_accidents_are_survived(row: str, tmp_path: Path) -> None:
    tally = parts_of(row)[row](Ground(tmp_path, small=True, say=lambda text: None))
    assert tally.ok and tally.tried, tally.faults
