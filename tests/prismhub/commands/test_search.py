"""`prismhub search`, `label` and `export` on an archive of real videos with vectors of `nano`."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

import prismhub
from adapters import load_adapter
from adapters.registry import save_to_registry
from core_encoder import Clip, InputError, load_encoder
from prismhub.archive.found_scenes import Found
from prismhub.archive.scene_index import FolderIndex
from prismhub.archive.searching import ArchiveSearch
from prismhub.cli import run
from tests import ROOT
from tests.adapters.every_kind import ROWS
from tests.prismhub.archive.archives import RECORD, make, scene, video
from tests.prismhub.archive.real_archives import Shown, index_world
from tests.prismhub.small_data import FAST, read_json
from tests.text_models import tiny_bert
from tests.videos import moving_square, write_video

LEFT, UP = "a red circle moving left", "a green square moving up"
VIDEOS = {
    "Derby_2024/GoalReplay3.mp4": [
        Shown("red circle", "moving left", "moving left", 0.93, LEFT, "what a goal, said the commentator"),
        Shown("red circle", "moving left", "moving left", 0.8, "a red circle is moving left"),
        Shown("blue star", "approaching", "approaching", 0.7, "a blue star"),
    ],
    "holiday.mp4": [
        Shown("green square", "moving up", "moving up", 0.55, UP, "the penalty was clear"),
        Shown("yellow heart", "shaking", "shaking", 0.51, "a yellow heart"),
        Shown("purple ring", "moving right", "moving left", 0.45, "something purple"),
    ],
    "street scene.mp4": [
        Shown("cyan triangle", "receding", "receding", 0.99, speech="le café est fermé"),
        Shown("blue star", "moving down"),
    ],
}
LIT = next(row for row in ROWS if row.name == "lit_text")
KEYS = {"video", "start", "end", "score", "parts", "caption", "labels", "speech", "thumbnail"}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `videos/` and `archive/`; read only."""
    folder = tmp_path_factory.mktemp("world")
    index_world(folder / "videos", VIDEOS, folder / "archive").close()
    return folder


def places(found: list[dict[str, object]]) -> list[tuple[str, float, float]]:
    return [(Path(str(one["video"])).name, float(str(one["start"])), float(str(one["end"]))) for one in found]


def test_words_and_looks_find_a_scene_together(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = read_json(capsys, "search", str(world / "archive"), LEFT, "--quiet")
    assert all(set(one) == KEYS for one in found)
    best = found[0]
    assert places(found)[0] == ("GoalReplay3.mp4", 0.0, 2.0)  # two scenes that follow each other
    assert best["video"] == str(world / "videos" / "Derby_2024" / "GoalReplay3.mp4")
    assert set(best["parts"]) == {"text", "vector"} and min(best["parts"].values()) > 0
    assert best["score"] == pytest.approx(sum(best["parts"].values()))
    assert best["labels"][0]["label"] == "moving left" and str(best["thumbnail"]).startswith("data:image/jpeg;base64,")
    alone = read_json(capsys, "search", str(world / "archive"), LEFT, "--all", "--top", "2", "--quiet")
    assert sorted(places(alone)) == [("GoalReplay3.mp4", 0.0, 1.0), ("GoalReplay3.mp4", 1.0, 2.0)]


def test_looks_alone_rank_as_plain_cosines_do(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["search", str(world / "archive"), "a blue star", "--mode", "vector", "--all", "--anyway", "--quiet"]
    found = read_json(capsys, *asked)
    nano = load_encoder("nano")
    with FolderIndex.open(world / "archive") as index:
        kept = index.scenes(index.every_scene())
        cosines = index.vectors([one.id for one in kept]) @ nano.embed_text(["a blue star"])[0].numpy()
    order = [(Path(kept[i].video.path).name, kept[i].scene.start_s) for i in np.argsort(-cosines, kind="stable")]
    ours = [(name, start) for name, start, _ in places(found)]
    assert ours == order[: len(ours)] and ("street scene.mp4", 1.0) in ours[:3]


def test_what_is_said_and_what_files_are_called_is_found(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    archive = str(world / "archive")
    for text, name in (("penalty", "holiday.mp4"), ("cafe", "street scene.mp4"), ("goal replay", "GoalReplay3.mp4")):
        assert places(read_json(capsys, "search", archive, text, "--mode", "text"))[0][0] == name
    assert len(read_json(capsys, "search", archive, '"said the commentator"')) == 1
    assert read_json(capsys, "search", archive, '"the said commentator"') == []


def test_an_example_finds_itself_and_its_like(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    example = world / "videos" / "Derby_2024" / "GoalReplay3.mp4"
    asked = ["search", str(world / "archive"), "--like", str(example), "--start", "2", "--end", "3", "--all", "--quiet"]
    found = read_json(capsys, *asked)
    assert places(found)[0] == ("GoalReplay3.mp4", 2.0, 3.0)
    assert [set(one["parts"]) for one in found[:1]] == [{"vector"}]
    with_words = read_json(capsys, "search", str(world / "archive"), "penalty", "--like", str(example), "--quiet")
    assert any(one["parts"]["text"] > 0 for one in with_words if "holiday" in one["video"])


def test_a_condition_is_kept_before_ranking(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    archive = str(world / "archive")
    where = ["--where", "label = 'moving left' and score < 0.85", "--all", "--quiet", "--anyway"]
    assert places(read_json(capsys, "search", archive, LEFT, *where)) == [("GoalReplay3.mp4", 1.0, 2.0)]
    assert places(read_json(capsys, "search", archive, "something purple", *where))[0] == ("holiday.mp4", 2.0, 3.0)
    listed = read_json(capsys, "search", archive, "--where", "recorded >= '2024-03'")
    assert places(listed) == [("street scene.mp4", 0.0, 1.0), ("street scene.mp4", 1.0, 2.0)]


def test_nothing_matches_what_is_not_there(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    archive = str(world / "archive")
    for text in ("a giraffe eating leaves", "breaking news from london", "people in a meeting"):
        assert run(["search", archive, text, "--quiet", "--json"]) == 0
        shown = capsys.readouterr()
        assert json.loads(shown.out) == []
        assert shown.err.startswith(f"nothing here matches {text!r}; the nearest is /") and "--anyway" in shown.err
        assert len(read_json(capsys, "search", archive, text, "--quiet", "--anyway")) > 0
    for text in (LEFT, UP, "a blue star", "a cyan triangle"):
        assert len(read_json(capsys, "search", archive, text, "--quiet", "--mode", "vector")) > 0


def test_what_unrelated_texts_reach_is_kept_in_the_archive(world: Path, tmp_path: Path) -> None:
    archive = shutil.copytree(world / "archive", tmp_path / "archive")
    with FolderIndex.open(archive) as index:
        index._run("DELETE FROM background")
    prismhub.search(archive, LEFT)
    with FolderIndex.open(archive) as index:
        texts, best, number, rows = index.background()
        assert texts.shape == (len(best), index.record.width) and (number, rows) == (1, 8)
        index.upsert([replace(index.video(str(world / "videos"), "holiday.mp4"), path="again.mp4")])
    prismhub.search(archive, LEFT)
    with FolderIndex.open(archive) as index:
        assert index.background()[3] == 11 and np.allclose(index.background()[1], best)  # of equal scenes


def test_the_table_is_for_people(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["search", str(world / "archive"), LEFT, "--top", "2", "--quiet"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.strip("─ ")]
    assert lines[0].split()[:3] == ["video", "time", "score"]
    assert lines[1].split()[:3] == ["1", "GoalReplay3.mp4", "0:00-0:02"] and "words" in lines[1]
    assert lines[-1] == f"videos in {world / 'videos' / 'Derby_2024'}/"
    assert run(["search", str(world / "archive"), "--where", "start = 0"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.strip("─ ")]
    assert lines[0].split()[:4] == ["video", "time", "what", "is"]
    assert [line.split()[1] for line in lines[1:3]] == ["Derby_2024/GoalReplay3.mp4", "holiday.mp4"]
    assert lines[-1] == f"videos in {world / 'videos'}/"


def test_python_finds_scenes_with_a_readable_repr(world: Path) -> None:
    found = prismhub.search(world / "archive", LEFT, top=2)
    assert isinstance(found, Found) and 1 <= len(found) <= 2
    assert found[0].labels == {"moving left": pytest.approx(0.93)} or "moving left" in found[0].labels
    assert found[0].caption and found[0].thumbnail[:2] == b"\xff\xd8" and found[0].scenes == 2
    shown = repr(found)
    assert shown.startswith(f"Found({len(found)} scenes for {LEFT!r})") and "GoalReplay3.mp4" in shown
    assert "0.0-2.0 s" in repr(found[0]) and "thumbnail" not in repr(found[0])


def test_searching_words_alone_loads_no_encoder(world: Path) -> None:
    code = (
        "import sys, prismhub; found = prismhub.search(sys.argv[1], 'penalty', mode='text'); assert len(found) == 1; "
        "sys.exit(any(name in sys.modules for name in ('torch', 'lightning', 'transformers')))"
    )
    assert subprocess.run([sys.executable, "-c", code, str(world / "archive")], cwd=ROOT, check=False).returncode == 0


def test_an_archive_that_knows_no_words_is_searched_in_what_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], says: Callable[..., str]
) -> None:
    archive = tmp_path / "archive"
    make(archive, [video("a.mp4", scene(0, caption="a dog"))], replace(RECORD, space="", encoder="blind")).close()
    assert run(["search", str(archive), "dog"]) == 0
    shown = capsys.readouterr()
    assert (
        "encoder 'blind' knows no words" in shown.err and "searching in speech, captions, labels and names" in shown.err
    )
    assert "a dog" in shown.out
    assert "knows no words" in says(2, "search", str(archive), "dog", "--mode", "vector")


@pytest.mark.parametrize(
    ("text", "known"),
    [("circle", True), ("a", True), ("barrel", False), ("the barrel", True), ("zeppelin", False), ("ein Hund", False)],
)
def test_words_are_known_and_not_only_spelled(world: Path, text: str, known: bool) -> None:
    with ArchiveSearch(world / "archive") as archive:
        assert archive.space.knows(text) is known


def test_words_that_the_text_tower_does_not_know_are_searched_as_words(
    world: Path, capsys: pytest.CaptureFixture[str], says: Callable[..., str]
) -> None:
    archive = str(world / "archive")
    assert run(["search", archive, "一只红色的狗"]) == 0
    shown = capsys.readouterr()
    assert "the text tower of 'nano' knows none of these words" in shown.err and "nothing here matches" in shown.err
    assert "knows none of these words" in says(2, "search", archive, "一只红色的狗", "--mode", "vector")


def test_another_encoder_is_refused_in_one_line(world: Path, tmp_path: Path, says: Callable[..., str]) -> None:
    other = load_encoder("nano")
    with torch.no_grad():
        next(iter(other.model.parameters())).add_(0.01)
    other._fingerprint = None
    prismhub.save_encoder(other, tmp_path / "other")
    line = says(2, "search", str(world / "archive"), LEFT, "--encoder", str(tmp_path / "other"))
    assert "its vectors are of encoder 'nano'" in line and "not of 'other'" in line
    moved = shutil.copytree(world / "archive", tmp_path / "archive")
    with FolderIndex.open(moved) as index:
        index._save("record", asdict(replace(index.record, source=str(tmp_path / "moved"))))
    line = says(2, "search", str(moved), LEFT)
    assert "its encoder 'nano' is not at hand" in line and "say where it lies with --encoder" in line
    assert run(["search", str(moved), LEFT, "--encoder", "nano", "--quiet"]) == 0


def test_what_is_wrong_is_said_in_one_line(world: Path, tmp_path: Path, says: Callable[..., str]) -> None:
    archive = str(world / "archive")
    make(tmp_path / "empty", []).close()
    assert "no such folder; make one with: prismhub index" in says(2, "search", str(tmp_path / "nowhere"), "x")
    assert "no archive" in says(2, "search", str(tmp_path), "x")
    assert "did you mean 'label'" in says(2, "search", archive, "x", "--where", "lable = 'a'")
    assert "means nothing here" in says(2, "search", archive, "x", "--where", "label = 'a'; DROP TABLE scenes")
    assert "say what to look for" in says(2, "search", archive)
    assert "text is empty" in says(2, "search", archive, "   ")
    assert "no such file" in says(2, "search", archive, "--like", "nowhere.mp4")
    assert "give it with like" in says(2, "search", archive, "x", "--start", "2")
    assert "top must be at least 1" in says(2, "search", archive, "x", "--top", "0")
    assert "an example has none" in says(2, "search", archive, "--like", "a.mp4", "--mode", "text")
    (tmp_path / "no video.mp4").write_bytes(b"no video")
    assert "no video.mp4: cannot be read" in says(2, "search", archive, "--like", str(tmp_path / "no video.mp4"))
    assert "cannot be written" in says(
        2, "search", archive, LEFT, "--html", str(world / "videos" / "holiday.mp4" / "x")
    )


def test_an_empty_archive_is_said_to_be_empty(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(tmp_path / "empty", []).close()
    assert run(["search", str(tmp_path / "empty"), "a dog", "--json"]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out) == [] and "the archive holds no scene" in shown.err


def test_found_scenes_become_files_and_one_that_is_gone_is_listed(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moved = shutil.copytree(world, tmp_path / "moved")
    with FolderIndex.open(moved / "archive") as index:
        index._run("UPDATE videos SET root = ?", (str(moved / "videos"),))
    (moved / "videos" / "holiday.mp4").unlink()
    asked = ["search", str(moved / "archive"), "--where", "start = 0", "--save", str(tmp_path / "cut"), "--quiet"]
    assert run(asked) == 3
    shown = capsys.readouterr()
    assert "holiday.mp4: not read: the file is not there any more" in shown.err
    files = sorted(path.name for path in (tmp_path / "cut").iterdir())
    assert files == ["001-GoalReplay3-0.0-1.0.mp4", "003-street-scene-0.0-1.0.mp4"]


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are bytes on Linux alone")
def test_a_file_whose_name_is_no_text_is_indexed_and_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], says: Callable[..., str]
) -> None:
    archive, name = str(tmp_path / "archive"), os.fsdecode(b"caf\xe9")
    write_video(tmp_path / "v" / f"{name}.mp4", moving_square(16))
    (tmp_path / "v" / f"{name}.srt").write_text("00:00:00,0 --> 00:00:01,0\nhello there\n")
    assert run(["index", str(tmp_path / "v"), "--window", "1", "--out", archive, "--quiet"]) == 0
    capsys.readouterr()
    assert read_json(capsys, "index", str(tmp_path / "v"), "--out", archive, "--quiet")["unchanged"] == 1
    files = {"--html": tmp_path / "page.html", "--edl": tmp_path / "cuts.edl", "--save": tmp_path / "cut"}
    words = [str(word) for pair in files.items() for word in pair]
    asked = [sys.executable, "-m", "prismhub", "search", archive, "hello", "--mode", "text", *words]
    shown = subprocess.run(asked, cwd=ROOT, env=os.environ | {"PYTHONIOENCODING": "utf-8:strict"}, capture_output=True)
    assert shown.returncode == 0 and b"caf\\udce9.mp4" in shown.stdout, shown
    assert "caf" in files["--html"].read_text() and "caf" in files["--edl"].read_text()
    assert [path.suffix for path in files["--save"].iterdir()] == [".mp4"]
    assert run(["export", archive, "--out", str(tmp_path / "all.parquet"), "--quiet"]) == 0
    assert "is no UTF-8, which a manifest needs" in says(
        2, "label", archive, "hello", "--mode", "text", "--out", "x.csv"
    )


def test_found_scenes_become_a_manifest_that_train_reads(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive, lines = str(world / "archive"), []
    for number, text in enumerate((LEFT, UP, "a blue star")):
        out = tmp_path / f"{number}.csv"
        asked = ["label", archive, text, "--out", str(out), "--all", "--anyway", "--top", "3", "--quiet", "--json"]
        said = read_json(capsys, *asked)
        rows = list(csv.DictReader(out.open(encoding="utf-8")))
        assert said == {"file": str(out), "scenes": len(rows), "labels": {text: len(rows)}}
        assert {row["label"] for row in rows} == {text} and all(Path(row["path"]).is_file() for row in rows)
        lines += rows
    splits = ["train", "val", "test"]
    with (tmp_path / "all.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [*lines[0], "split"])
        writer.writeheader()
        writer.writerows(row | {"split": splits[i % 3]} for i, row in enumerate(lines))
    assert run(["train", "--data", str(tmp_path / "all.csv"), *FAST, "--name", "found"]) == 0


def test_the_scenes_an_adapter_is_least_sure_of_come_first(
    world: Path, tmp_path: Path, says: Callable[..., str]
) -> None:
    archive, out = str(world / "archive"), tmp_path / "unsure.csv"
    assert run(["label", archive, "--near", "labels", "--out", str(out), "--top", "3", "--quiet"]) == 0
    rows = list(csv.DictReader(out.open(encoding="utf-8")))
    assert [(row["label"], Path(row["path"]).name) for row in rows] == [
        ("moving left", "holiday.mp4"),
        ("shaking", "holiday.mp4"),
        ("moving up", "holiday.mp4"),
    ]
    assert [float(row["score"]) for row in rows] == pytest.approx([1.0, 0.98, 0.9])
    assert "no adapter 'lables' has answered" in says(2, "label", archive, "--near", "lables", "--out", str(out))
    assert "give one of them" in says(2, "label", archive, "x", "--near", "labels", "--out", str(out))
    assert "is a .csv file" in says(2, "label", archive, "x", "--out", "x.txt")
    nothing = says(2, "label", archive, "a giraffe eating leaves", "--out", str(out), "--quiet")
    assert "nothing here matches" in nothing and "--anyway" in nothing


def test_an_archive_becomes_a_parquet_file(world: Path, tmp_path: Path, says: Callable[..., str]) -> None:
    from pyarrow import parquet

    out = tmp_path / "scenes.parquet"
    assert prismhub.export(world / "archive", out=out, thumbnails=True) == 8
    rows = parquet.read_table(out).to_pylist()
    shown = [(name, place, one) for name, several in VIDEOS.items() for place, one in enumerate(several)]
    assert [(row["video"], row["place"]) for row in rows] == [(name, place) for name, place, _ in shown]
    for row, (_, place, one) in zip(rows, shown, strict=True):
        assert (row["start"], row["end"], row["fps"]) == (place, place + 1, 16.0)
        assert [found["label"] for found in row["findings"] if found["label"]] == ([one.label] if one.label else [])
        assert [cue["text"] for cue in row["speech"]] == ([one.speech] if one.speech else [])
        assert np.linalg.norm(row["vector"]) == pytest.approx(1, abs=1e-3) and row["thumbnail"][:2] == b"\xff\xd8"
    assert prismhub.export(world / "archive", out=out, vectors=False, where="label = 'receding'") == 1
    assert "vector" not in parquet.read_schema(out).names
    assert "exported to a .parquet file" in says(2, "export", str(world / "archive"), "--out", "x.csv")


def test_the_parts_of_a_query_that_contradict_are_refused(world: Path) -> None:
    with pytest.raises(InputError, match="a text or an example to be near to"):
        prismhub.search(world / "archive", mode="vector", where="fps = 1")


@pytest.mark.slow
def test_an_archive_in_the_space_of_an_adapter_is_asked_by_its_words(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], says: Callable[..., str]
) -> None:
    bert = tiny_bert(tmp_path / "bert")
    row = replace(LIT, options={"text_tower": str(bert), "tune": "projection", "hidden": 24})
    save_to_registry(row.on(load_encoder("nano")), "pairs")
    archive, videos = tmp_path / "archive", world / "videos"
    indexed = ["index", str(videos), "--adapter", "pairs", "--window", "1", "--out", str(archive), "--quiet"]
    assert run(indexed) == 0
    capsys.readouterr()
    adapter, clip = load_adapter("pairs"), Clip(str(videos / "holiday.mp4"), 1.0, 2.0)
    paths = [Clip(str(path), float(i), i + 1.0) for path in sorted(videos.rglob("*.mp4")) for i in range(3)]
    clips = [one for one in paths if "street" not in one.path or one.start_s < 2]
    vectors = torch.stack([one.values for one in adapter.predict(clips)])
    cosines = (adapter.embed_text(["a red circle"]) @ vectors.T)[0]  # type: ignore[operator]
    order = [(Path(clips[i].path).name, clips[i].start_s) for i in cosines.argsort(descending=True).tolist()]
    asked = ["search", str(archive), "a red circle", "--mode", "vector", "--all", "--anyway", "--quiet"]
    found = [(name, start) for name, start, _ in places(read_json(capsys, *asked))]
    assert found == order[: len(found)]
    like = ["search", str(archive), "--like", clip.path, "--start", "1", "--end", "2", "--all", "--quiet"]
    assert places(read_json(capsys, *like))[0] == ("holiday.mp4", 1.0, 2.0)

    moved = bert.rename(tmp_path / "moved")
    assert "say where it lies now with text_tower" in says(2, *asked)
    assert read_json(capsys, *asked, "--text-tower", str(moved)) is not None
    other = replace(row, options=row.options | {"text_tower": str(moved)}).on(load_encoder("nano"))
    with torch.no_grad():
        for weight in other.parameters():
            if weight.requires_grad:
                weight.add_(0.1)
    save_to_registry(other, "others")
    with FolderIndex.open(archive) as index:
        kept = index.record.adapters["pairs"]
        index._save("record", asdict(replace(index.record, adapters={"pairs": replace(kept, ref="others")})))
    assert "is another one now" in says(2, *asked)
