"""`prismhub tasks`: what is known, and whether its data is there, before anything is computed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from prismhub.cli import run
from tests.prismhub.test_startup import run_fresh
from tests.tasks.miniatures import kinetics


@pytest.fixture
def root(tmp_path: Path) -> Path:
    kinetics.write(tmp_path / "kinetics400")
    return tmp_path


def check(root: Path, capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, dict, str]:  # type: ignore[type-arg]
    code = run(["tasks", "check", "kinetics400", "--root", str(root), "--json", *options])
    out, err = capsys.readouterr()
    return code, json.loads(out) if out else {}, err


def test_benchmarks_are_listed_by_suite_and_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["tasks", "list"]) == 0
    assert "kinetics400" in (everything := capsys.readouterr().out) and "ava-frame-map-v1" in everything
    assert run(["tasks", "list", "all"]) == 0 and capsys.readouterr().out == everything
    assert run(["tasks", "list", "videoglue", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["suite"] for row in rows} == {"videoglue"} and len(rows) == 8
    assert run(["tasks", "list", "ava*", "--json"]) == 0
    assert [row["name"] for row in json.loads(capsys.readouterr().out)] == ["ava", "ava-kinetics"]
    assert run(["tasks", "list", "nothing"]) == 2
    assert "no benchmark or suite matches 'nothing'" in capsys.readouterr().err


def test_a_declaration_is_shown_whole(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["tasks", "show", "kinetics400"]) == 0
    shown = capsys.readouterr().out
    for part in ("classification-v1", "test: val", "1705.06950", "common knowledge", "VideoPrism-B (paper)", "84.2"):
        assert part in shown
    assert run(["tasks", "show", "kinetics400", "--json"]) == 0
    about = json.loads(capsys.readouterr().out)
    assert about["plan"] == {"num_frames": 16, "sampling": "stride", "stride": 4, "views": 4}
    assert about["sizes"] == {"train": 235_693, "test": 19_165}
    assert run(["tasks", "show", "kinetics"]) == 2
    assert "did you mean 'kinetics400'" in capsys.readouterr().err


def test_whole_data_passes(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, found, _ = check(root, capsys)
    train, test = found["splits"]
    assert code == 0 and found["classes"] == 3
    assert (train["samples"], train["videos"], train["opened"], train["declared"]) == (6, 6, 6, 235_693)
    assert (test["split"], test["official"], test["samples"], test["missing"], test["unreadable"]) == (
        *("test", "val", 3, [], []),
    )
    assert run(["tasks", "check", "kinetics400", "--folder", str(root / "kinetics400")]) == 0
    out, err = capsys.readouterr()
    assert "235693" in out and not err


def test_missing_and_unreadable_videos_are_named(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gone, broken = sorted((root / "kinetics400" / "train").rglob("*.mp4"))[:2]
    gone.unlink()
    broken.write_bytes(b"<html>not found</html>")
    code, found, _ = check(root, capsys)
    train = found["splits"][0]
    assert code == 3 and [Path(path).name for path in train["missing"]] == [gone.name]
    assert [(Path(path).name, "web page" in reason) for path, reason in train["unreadable"]] == [(broken.name, True)]
    assert run(["tasks", "check", "kinetics400", "--root", str(root)]) == 3
    err = capsys.readouterr().err
    assert f"train: missing: {root / 'kinetics400' / gone.name}" in err and "web page" in err
    assert (
        f"anywhere below {root / 'kinetics400'}; they are: " in err and "six digits" in err
    )  # what videos are called, and where one gets them
    gone_too = [path.unlink() for path in (root / "kinetics400" / "train").rglob("*.mp4")]
    code, found, _ = check(root, capsys, "--open", "0")
    assert code == 3 and len(gone_too) == 5 and (found["splits"][0]["opened"], found["splits"][1]["opened"]) == (0, 0)
    assert len(found["splits"][0]["missing"]) == 6


def test_those_opened_are_spread_evenly(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for video in (root / "kinetics400" / "train").rglob("*.mp4"):
        video.write_bytes(b"no video")
    code, found, _ = check(root, capsys, "--open", "3")
    train, test = found["splits"]
    assert code == 3 and (train["opened"], test["opened"]) == (3, 3)
    names = [Path(path).name[7:10] for path, _ in train["unreadable"]]
    assert names == ["00x", "10x", "20x"]


def test_wrong_annotations_come_first(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = root / "kinetics400" / "validate.csv"
    file.write_text(file.read_text().replace("time_start", "start"))
    next((root / "kinetics400" / "train").rglob("*.mp4")).unlink()
    code, found, _ = check(root, capsys)
    assert code == 2 and len(found["splits"][0]["missing"]) == 1
    assert "validate.csv: line 1: there is no column 'time_start'" in found["splits"][1]["error"]
    assert run(["tasks", "check", "kinetics400", "--root", str(root)]) == 2
    assert "prismhub: " in (err := capsys.readouterr().err) and "there is no column 'time_start'" in err


def test_what_cannot_be_asked_is_said(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, message in (
        (["kinetics400"], "give root, the folder of all data sets, or folder, that of this one"),
        (["kinetics400", "--root", str(root), "--folder", "x"], "give root or folder, not both"),
        (
            ["kinetics400", "--root", str(root / "none")],
            "none/kinetics400: no such folder; put the files of kinetics400",
        ),
        (["kinetics400", "--root", str(root), "--open", "-1"], "open must be 0 or more"),
        (["kinetics4000", "--root", str(root)], "unknown benchmark 'kinetics4000'; did you mean 'kinetics400'?"),
    ):
        assert run(["tasks", "check", *words]) == 2
        assert message in capsys.readouterr().err


def test_nothing_heavy_is_imported(root: Path) -> None:
    commands = [["tasks", "list"], ["tasks", "show", "ava"], ["tasks", "check", "kinetics400", "--root", str(root)]]
    assert [(code, loaded) for code, _, loaded in run_fresh(commands, ["torch", "lightning"])] == [(0, [])] * 3
