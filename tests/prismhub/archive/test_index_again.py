"""The same command again: only what is new, changed or gone is touched, and a killed run goes on."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import prismhub
from adapters import save_to_registry
from core_encoder.encoder import load_encoder
from core_encoder.errors import InputError
from prismhub.archive.folder_reader import FolderReader
from tests.adapters.every_kind import ROWS
from tests.prismhub.archive.real_archives import archived, equal
from tests.prismhub.archive.test_scene_cuts import edited


def test_only_what_changed_is_touched(folder: Path, tmp_path: Path, decoded: list[str]) -> None:
    archive = tmp_path / "archive"
    prismhub.index(folder, out=archive)
    before = archived(archive)
    decoded.clear()
    done = prismhub.index(folder, out=archive)
    assert (done.unchanged, done.added, done.changed, done.removed, decoded) == (3, 0, 0, 0, [])

    edited(folder / "new.mp4", [20, 20])
    edited(folder / "deep" / "b.mp4", [30, 20, 20])
    (folder / "c.mkv").rename(folder / "d.mkv")
    done = prismhub.index(folder, out=archive)
    assert (done.unchanged, done.added, done.changed, done.removed, done.videos) == (1, 2, 1, 1, 4)
    assert sorted(decoded) == ["b.mp4", "d.mkv", "new.mp4"]
    after = archived(archive)
    assert list(after) == ["a.mp4", "d.mkv", "deep/b.mp4", "new.mp4"]
    equal(after["a.mp4"], before["a.mp4"])
    assert len(after["deep/b.mp4"].scenes) == 3


def test_an_encoder_and_an_adapter_in_this_folder_are_found_from_another(
    folder: Path, tmp_path: Path, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from adapters.registry import find_adapter
    from core_encoder.encoder import save_encoder

    save_encoder(load_encoder("nano"), tmp_path / "own")
    shutil.copytree(find_adapter("linear"), tmp_path / "speaker")
    monkeypatch.chdir(tmp_path)
    prismhub.index(folder, out="archive", encoder="own", adapter="speaker")
    monkeypatch.chdir(folder)
    with FolderReader.open(tmp_path / "archive") as index:
        assert index.record.source == str(tmp_path / "own")
        assert index.record.adapters["speaker"].ref == str(tmp_path / "speaker")
    edited(folder / "new.mp4", [20])
    assert prismhub.index(folder, out=tmp_path / "archive").added == 1
    assert len(prismhub.search(tmp_path / "archive", "a red circle", anyway=True))


def test_one_that_another_run_overtakes_stops(
    folder: Path, tmp_path: Path, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would forget the adapter that the other one brought."""
    from prismhub.archive import scene_answers

    archive, opening = tmp_path / "archive", scene_answers.open_answers
    prismhub.index(folder / "deep", out=archive)

    def overtaken(*given: Any) -> Any:
        monkeypatch.undo()
        monkeypatch.setenv("PRISMHUB_HOME", str(saved))
        prismhub.index(folder / "deep", out=archive, adapter="linear")
        return opening(*given)

    monkeypatch.setattr(scene_answers, "open_answers", overtaken)
    with pytest.raises(InputError, match="another prismhub index changed this archive meanwhile"):
        prismhub.index(folder, out=archive)
    assert prismhub.index(folder, out=archive).added == 2
    with FolderReader.open(archive) as index:
        assert list(index.record.adapters) == ["linear"]


def test_subtitles_that_change_cost_no_decoding(folder: Path, tmp_path: Path, decoded: list[str]) -> None:
    archive = tmp_path / "archive"
    prismhub.index(folder, out=archive)
    before = archived(archive)["a.mp4"]
    decoded.clear()
    (folder / "a.en.srt").write_bytes("\ufeff00:00:00,000 --> 100:00:00,000\nfor ever\n".encode("utf-16-le"))
    (folder / "deep" / "b.vtt").write_text("WEBVTT\n\n00:09.000 --> 00:03.000\nbackwards, behind the end\n")
    done = prismhub.index(folder, out=archive)
    assert (done.changed, done.unchanged, decoded) == (2, 1, [])
    after = archived(archive)
    assert [[cue.text for cue in one.speech] for one in after["a.mp4"].scenes] == [["for ever"]] * 3
    assert [one.thumbnail for one in after["a.mp4"].scenes] == [one.thumbnail for one in before.scenes]
    assert not any(one.speech for one in after["deep/b.mp4"].scenes)
    (folder / "a.en.srt").unlink()
    prismhub.index(folder, out=archive)
    assert not any(one.speech for one in archived(archive)["a.mp4"].scenes)


@pytest.mark.usefixtures("saved")
def test_what_needs_no_encoder_needs_no_torch(folder: Path, tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    prismhub.index(folder, out=archive, adapter="linear")
    (folder / "deep" / "b.mp4").unlink()
    (folder / "a.en.srt").write_text("00:00:00,0 --> 00:00:01,0\nsomething else\n")
    code = "import sys, prismhub; print(prismhub.index(sys.argv[1], out=sys.argv[2])); sys.exit('torch' in sys.modules)"
    for did in ("1 changed, 1 removed, 1 unchanged", "2 unchanged"):
        done = subprocess.run([sys.executable, "-c", code, str(folder), str(archive)], capture_output=True, text=True)
        assert done.returncode == 0 and did in done.stdout, done
    with FolderReader.open(archive) as index:
        assert list(index.record.adapters) == ["linear"]


@pytest.mark.usefixtures("saved")
def test_an_encoder_that_is_another_one_now_leaves_the_archive_as_it_was(
    folder: Path, tmp_path: Path, says: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from core_encoder.encoder import save_encoder

    archive, own = tmp_path / "archive", save_encoder(load_encoder("nano"), tmp_path / "own")
    prismhub.index(folder, out=archive, encoder=str(own))
    other = load_encoder("nano")
    with monkeypatch.context() as patch:
        patch.setattr(other, "_fingerprint", None)
        next(iter(other.parameters())).data.mul_(1.01)
        shutil.rmtree(own)
        save_encoder(other, own)
    (folder / "a.mp4").unlink()
    again = ("index", str(folder), "--out", str(archive), "--quiet")
    assert "its vectors are of encoder" in says(2, *again, "--adapter", "linear")
    with FolderReader.open(archive) as index:
        assert len(index.made_of()) == 3 and not index.record.adapters


@pytest.mark.usefixtures("saved")
def test_a_new_adapter_answers_from_what_is_stored(folder: Path, tmp_path: Path, decoded: list[str]) -> None:
    archive = tmp_path / "archive"
    prismhub.index(folder, out=archive, adapter="map_classifier")
    decoded.clear()
    done = prismhub.index(folder, out=archive, adapter="llm_decoder")
    assert (done.answered, done.unchanged, decoded) == (3, 3, [])
    together = tmp_path / "together"
    prismhub.index(folder, out=together, adapter=["map_classifier", "llm_decoder"])
    for path, video in archived(archive).items():
        equal(video, archived(together)[path])
    edited(folder / "new.mp4", [20])
    prismhub.index(folder, out=archive)
    assert {one.adapter for one in archived(archive)["new.mp4"].scenes[0].findings} == {"map_classifier", "llm_decoder"}

    save_to_registry(
        next(row for row in ROWS if row.name == "map_classifier").on(load_encoder("nano"), seed=5), "map_classifier"
    )
    done = prismhub.index(folder, out=archive, adapter="map_classifier")
    assert done.answered == 4, "trained again, it is asked again"
    done = prismhub.index(folder, out=archive, without="map_classifier")
    assert {one.adapter for video in archived(archive).values() for s in video.scenes for one in s.findings} == {
        "llm_decoder"
    }


def test_features_kept_for_adapters_to_come(folder: Path, tmp_path: Path, saved: Path, decoded: list[str]) -> None:
    prismhub.index(folder, out=tmp_path / "archive", keep=["tokens"])
    decoded.clear()
    assert prismhub.index(folder, out=tmp_path / "archive", adapter="map_classifier").answered == 3
    assert decoded == []


def test_only_what_is_surely_gone_leaves(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = tmp_path / "archive"
    other = edited(tmp_path / "other" / "x.mp4", [20])
    prismhub.index([folder, other], out=archive)
    from prismhub.archive import video_folders

    monkeypatch.setattr(video_folders, "find_files", lambda place: [folder / "a.mp4"])  # a folder that may not be read
    assert prismhub.index(folder, out=archive).removed == 0
    monkeypatch.undo()
    monkeypatch.setenv("PRISMHUB_HOME", str(tmp_path / "home"))
    shutil.rmtree(folder / "deep")
    assert prismhub.index(folder, out=archive).removed == 1
    shutil.rmtree(other.parent)
    assert prismhub.index(folder, out=archive).removed == 0, "that folder was not asked about"
    assert sorted(archived(archive)) == ["a.mp4", "c.mkv", "x.mp4"]


@pytest.mark.slow
def test_killed_at_any_moment_it_goes_on_and_ends_equal(made: Path, tmp_path: Path, saved: Path) -> None:
    for number in range(8):
        edited(made.parent / "many" / f"{number}.mp4", [20, 25 + number, 30, 40])
    many = made.parent / "many"
    words = [str(many), "--adapter", "map_classifier", "--adapter", "linear", "--quiet"]
    command = [sys.executable, "-m", "prismhub.cli", "index", *words, "--out"]
    began = time.monotonic()
    subprocess.run([*command, str(tmp_path / "calm")], check=True)
    whole_s = time.monotonic() - began
    stormy, kills = tmp_path / "stormy", 0
    for share in (0.2, 0.3, 0.4, 0.6, 0.7, 0.8, 0.9, 1.0):  # some early: the machine may have become faster
        process = subprocess.Popen([*command, str(stormy), "--store", str(tmp_path / "store")])
        try:
            process.wait(share * whole_s)
        except subprocess.TimeoutExpired:
            process.kill()
            kills += process.wait() == -9
        if (stormy / "scenes.sqlite").exists():
            with FolderReader.open(stormy) as index:
                for key in index.made_of():
                    kept = index.video(*key)
                    assert kept is not None and kept.scenes[-1].end_s == pytest.approx(kept.duration_s, abs=2e-3)
    assert kills >= 3
    subprocess.run([*command, str(stormy), "--store", str(tmp_path / "store")], check=True)
    calm, ended = archived(tmp_path / "calm"), archived(stormy)
    assert calm.keys() == ended.keys() and len(calm) == 8
    for path, video in calm.items():
        equal(video, ended[path])
