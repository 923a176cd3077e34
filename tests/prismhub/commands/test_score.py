"""`prismhub score`: all eight formats, one JSON object or a table, notes on stderr, and what is asked wrongly."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import prismhub
from prismhub.cli import run
from tasks.judges import JUDGES
from tests.prismhub.score_files import score_commands
from tests.prismhub.small_data import read_json

RECALLS = [f"{way}_{what}" for way in ("t2v", "v2t") for what in ("R@1", "R@5", "R@10", "MedR", "MeanR")]
GROUPS = ("locomotion", "object_interaction", "social_interaction", "others", "all")
EXPECTED = {
    "activitynet": {f"mAP@{0.5 + k / 20:g}": float(k < 6) for k in range(10)} | {"average_mAP": 0.6},
    "ava": {"mAP@0.5": 1.0},
    "chimpact": dict.fromkeys(["mAP@0.5", *(f"mAP@0.5_{name}" for name in GROUPS)])
    | {"mAP@0.5": 1.0, "mAP@0.5_social_interaction": 1.0, "mAP@0.5_all": 1 / 23},
    "charades": {"mAP": (1 + 1 + 0.5) / 3},
    "captions": {"CIDEr": None, "BLEU@4": None, "ROUGE_L": None},  # whatever pycocoevalcap says: tested elsewhere
    "retrieval": dict(zip(RECALLS, [200 / 3, 100, 100, 1, 4 / 3, 100, 100, 100, 1, 1], strict=True)),
    "classification": {"top1": 0.5, "top5": 1.0, "macro": 0.5, "mAP": 1.0},
    "nextqa-oe": dict.fromkeys(
        ["WUPS", *(f"WUPS_{kind}" for kind in ("CW", "CH", "TN", "TC", "DB", "DC", "DL", "DO", "C", "T", "D"))]
    )
    | {"WUPS": 100.0, "WUPS_DO": 100.0, "WUPS_D": 100.0},
}


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    monkeypatch.setenv("WNSEARCHDIR", str(tmp_path / "wordnet"))
    return score_commands(tmp_path)


def test_all_formats_are_judged(commands: dict[str, list[str]], capsys: pytest.CaptureFixture[str]) -> None:
    assert set(commands) == set(JUDGES) == set(EXPECTED)
    for task, command in commands.items():
        said = read_json(capsys, *command)
        assert list(said) == ["task", "protocol", "n", "metrics", "per_class"], task
        assert said["task"] == task and said["n"] == {
            "retrieval": 3,
            "charades": 2,
            "captions": 2,
            "classification": 2,
        }.get(task, 1)
        assert list(said["metrics"]) == list(EXPECTED[task])
        if task != "captions":
            assert said["metrics"] == pytest.approx(EXPECTED[task]), task
        assert bool(said["per_class"]) == (task not in ("captions", "retrieval", "nextqa-oe"))


def test_notes_go_to_stderr_and_the_result_alone_to_stdout(
    commands: dict[str, list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "classification.said.csv").write_text("id,run,sit\na,0.9,0.1\nc,0.6,0.4\n")
    assert run(commands["classification"]) == 0
    shown = capsys.readouterr()
    assert "note: 1 of 2 ids have no scores ('b'): they count as wrong\n" in shown.err
    assert "note: 1 scored ids are not in the truth ('c'): they are ignored\n" in shown.err
    assert "note" not in shown.out and "macro    0.5000" in shown.out
    assert "classification: 2 judged by classification-scores-v1" in shown.out
    assert run([*commands["classification"], "--quiet"]) == 0
    assert not capsys.readouterr().err


def test_the_same_in_python(commands: dict[str, list[str]], tmp_path: Path) -> None:
    files = {"truth": tmp_path / "ava.truth.csv", "predictions": str(tmp_path / "ava.said.csv")}
    found = prismhub.score(task="ava", **files)
    assert found.metrics == {"mAP@0.5": 0.5} and found.per_class["watch (a person)"] == 0.5
    assert found.notes == ("1 of 2 frames have no predictions ('a,903'): their boxes count as missed",)


def test_what_is_asked_wrongly(commands: dict[str, list[str]], tmp_path: Path, says: Callable[..., str]) -> None:
    assert "option 'truth' is missing: What is right" in says(2, "score", "--task", "ava", "--predictions", "x")
    assert "task 'ave' has no judge; did you mean 'ava'?" in says(2, *commands["ava"], "--task", "ave")
    assert "tokens means nothing for ava: leave it out" in says(2, *commands["ava"], "--tokens", "ptb")
    assert "references means nothing for charades: leave it out; it takes no further option" in says(
        2, *commands["charades"], "--references", "x.json"
    )
    (tmp_path / "ava.said.csv").write_text("a,0902,0.077,0.151,0.283,0.811,80,0.9\na,0902,0.1,0.1,wide,0.3,80,0.9\n")
    assert f"{tmp_path / 'ava.said.csv'}: line 2: x2 'wide' is not a finite number" in says(2, *commands["ava"])
