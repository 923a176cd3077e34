"""`prismhub index` on real files: what an archive then holds, and what the same command again touches."""

from __future__ import annotations

import errno
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import prismhub
from adapters import load_adapter, save_to_registry
from core_encoder.clip_plan import Clip
from core_encoder.encoder import load_encoder
from core_encoder.extraction import extract
from core_encoder.features.feature_spec import FeatureSpec
from core_encoder.features.feature_store import FeatureStore
from prismhub.archive.folder_reader import FolderReader
from prismhub.archive.scenes import ArchivedVideo
from prismhub.cli import run
from tests.adapters.every_kind import ROWS
from tests.core_encoder.checkpoint_files import save, vision_model
from tests.prismhub.archive.test_scene_cuts import edited
from tests.prismhub.archive.test_subtitles import with_subtitles
from tests.prismhub.small_data import read_json
from tests.videos import moving_square, write_video

KINDS = ("linear", "map_classifier", "temporal_localizer", "llm_decoder", "lit_text", "spatiotemporal_localizer")
SRT = "1\n00:00:00,200 --> 00:00:01,000\nhello there\n\n2\n00:00:02,500 --> 00:00:04,000\nand good bye\n"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of videos; to be copied."""
    folder = tmp_path_factory.mktemp("made") / "Vidéos mit Leerzeichen"
    edited(folder / "a.mp4", [20, 15, 30])
    edited(folder / "deep" / "b.mp4", [24, 20])
    with_subtitles(folder / "c.mkv")
    (folder / "a.en.srt").write_text(SRT)
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / made.name)


@pytest.fixture(scope="module")
def home_of_adapters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A PRISMHUB_HOME with an adapter of every kind on `nano`, called like its kind; to be copied."""
    home = tmp_path_factory.mktemp("home of adapters")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PRISMHUB_HOME", str(home))
        nano = load_encoder("nano")
        for row in ROWS:
            if row.name in KINDS:
                save_to_registry(row.on(nano), row.name)
    return home


@pytest.fixture
def saved(home_of_adapters: Path, private_home: Path) -> Path:
    return shutil.copytree(home_of_adapters, private_home, dirs_exist_ok=True)


def archived(archive: Path) -> dict[str, ArchivedVideo]:
    """What an archive holds, by path."""
    with FolderReader.open(archive) as index:
        videos = [index.video(*key) for key in index.made_of()]
        return {video.path: video for video in sorted((one for one in videos if one), key=lambda one: one.path)}


def equal(one: ArchivedVideo, other: ArchivedVideo) -> None:
    """The same in all but the last places of vectors."""
    facts = ("root", "path", "made_of", "duration_s", "width", "height", "fps", "recorded")
    assert [getattr(one, name) for name in facts] == [getattr(other, name) for name in facts]
    for mine, theirs in zip(one.scenes, other.scenes, strict=True):
        assert (mine.start_s, mine.end_s, mine.speech) == (theirs.start_s, theirs.end_s, theirs.speech)
        assert mine.thumbnail == theirs.thumbnail
        np.testing.assert_allclose(mine.vector, theirs.vector, atol=2e-3)
        assert [(f.adapter, f.label, f.text) for f in mine.findings] == [
            (f.adapter, f.label, f.text) for f in theirs.findings
        ]


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The videos that are opened to be decoded, as it happens."""
    from core_encoder.video import clip_decoder, cutting

    seen: list[str] = []
    for module in (clip_decoder, cutting):
        original: Callable[..., Any] = module.open_video

        def opening(path: Any, *rest: Any, original: Callable[..., Any] = original, **more: Any) -> Any:
            seen.append(Path(path).name)
            return original(path, *rest, **more)

        monkeypatch.setattr(module, "open_video", opening)
    return seen


def test_what_an_archive_holds(folder: Path, tmp_path: Path, private_home: Path) -> None:
    done = prismhub.index(folder, out=tmp_path / "archive", encoder="nano")
    assert (done.videos, done.scenes, done.added, done.failures) == (3, 6, 3, ())
    videos = archived(tmp_path / "archive")
    assert list(videos) == ["a.mp4", "c.mkv", "deep/b.mp4"]
    first = videos["a.mp4"]
    assert (first.root, first.width, first.height, first.fps, first.duration_s) == (str(folder), 96, 64, 10.0, 6.5)
    assert [(one.start_s, one.end_s) for one in first.scenes] == [(0, 2), (2, 3.5), (3.5, 6.5)]
    assert [[cue.text for cue in one.speech] for one in first.scenes] == [
        ["hello there"],
        ["and good bye"],
        ["and good bye"],
    ]
    assert [cue.text for cue in videos["c.mkv"].scenes[0].speech][1] == "Für Elise ♪", "of a stream in the file"
    with FolderReader.open(tmp_path / "archive") as index:
        record = index.record
    nano = load_encoder("nano")
    assert (record.encoder, record.fingerprint, record.space) == ("nano", nano.fingerprint, "encoder")
    assert (record.width, record.roots, record.cuts["by"]) == (nano.embedding_dim, (str(folder),), "shots")
    clips = [Clip(str(folder / "a.mp4"), one.start_s, one.end_s) for one in first.scenes]
    spec = FeatureSpec.from_dict(record.features)
    extract(nano, clips, spec, tmp_path / "encoded")
    ours, theirs = FeatureStore(private_home / "features", spec), FeatureStore(tmp_path / "encoded", spec)
    assert set(theirs.keys()) < set(ours.keys()) and len(ours) == 6
    for scene, key in zip(first.scenes, sorted(theirs.keys()), strict=True):
        np.testing.assert_allclose(ours.read(key).values, theirs.read(key).values, atol=1e-3)
        np.testing.assert_allclose(scene.vector, theirs.read(key).values.float(), atol=3e-3)
    colours = [_mean_colour(one.thumbnail) for one in first.scenes]
    assert [int(np.argmax(colour)) for colour in colours] == [0, 1, 2], "pictures of the red, green and blue shot"


def _mean_colour(jpeg: bytes) -> np.ndarray:
    import io

    from PIL import Image

    picture = Image.open(io.BytesIO(jpeg))
    assert picture.format == "JPEG" and picture.size == (96, 64)
    return np.asarray(picture).reshape(-1, 3).mean(0)


@pytest.mark.usefixtures("saved")
def test_every_adapter_speaks_as_it_does_alone(folder: Path, tmp_path: Path, decoded: list[str]) -> None:
    names = ["linear", "map_classifier", "temporal_localizer", "llm_decoder", "lit_text"]
    prismhub.index(folder, adapter=names, out=tmp_path / "archive")
    assert sorted(decoded) == ["a.mp4", "b.mp4", "c.mkv"], "one decoding for cuts, pictures and every adapter"
    videos = archived(tmp_path / "archive")
    with FolderReader.open(tmp_path / "archive") as index:
        assert index.record.space == "lit_text"
    for path in ("a.mp4", "deep/b.mp4"):
        scenes = videos[path].scenes
        clips = [Clip(str(folder / path), one.start_s, one.end_s) for one in scenes]
        for name in names:
            answers: list[Any] = load_adapter(name).predict(clips)
            for scene, answer in zip(scenes, answers, strict=True):
                said = [one for one in scene.findings if one.adapter == name]
                if name == "lit_text":
                    np.testing.assert_allclose(scene.vector, answer.values, atol=3e-3)
                elif name == "llm_decoder":
                    assert [one.text for one in said] == [answer.text] * bool(answer.text.strip())
                elif name == "temporal_localizer":
                    shown = [(one.label, one.start_s, one.end_s) for one in answer.shown()]
                    assert [(one.label, one.start_s, one.end_s) for one in said] == pytest.approx(shown)
                    assert all(one.end_s is not None and one.end_s <= scene.end_s + 1e-3 for one in said)
                else:
                    assert [(one.label, one.score) for one in said] == [
                        (answer.label, pytest.approx(answer.score, abs=1e-3))
                    ]


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


def test_windows_and_lists(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    archive = tmp_path / "archive"
    prismhub.index(folder, out=archive, window=2)
    assert [(one.start_s, one.end_s) for one in archived(archive)["a.mp4"].scenes] == [(0, 2), (2, 4), (4, 6.5)]
    assert prismhub.index(folder, out=archive).unchanged == 3, "as before, without saying it again"
    (folder / "scenes.csv").write_text("video,start,end\na.mp4,0.5,1\na.mp4,2,9\ndeep/b.mp4,1,\n")
    done = prismhub.index(folder, out=archive, scenes=folder / "scenes.csv")
    assert done.changed == 2
    videos = archived(archive)
    assert [(one.start_s, one.end_s) for one in videos["a.mp4"].scenes] == [(0.5, 1), (2, 6.5)]
    assert [(one.start_s, one.end_s) for one in videos["deep/b.mp4"].scenes] == [(1, 4.4)]
    assert run(["index", str(folder), "--out", str(archive), "--quiet"]) == 2
    assert "come of a list: give it with --scenes" in capsys.readouterr().err
    assert prismhub.index(folder, out=archive, max_scene=2.0).changed == 3


def test_what_cannot_be_read_is_listed(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    archive = tmp_path / "archive"
    (folder / "broken.mp4").write_bytes((folder / "a.mp4").read_bytes()[:2000])
    (folder / "page.mp4").write_text("<html>not found</html>")
    said = read_json(capsys, "index", str(folder), "--out", str(archive), "--quiet", code=3)
    assert sorted(Path(one["path"]).name for one in said["failures"]) == ["broken.mp4", "page.mp4"]
    assert (said["videos"], said["added"]) == (3, 3)
    listed = (archive / "failures.jsonl").read_text().splitlines()
    assert len(listed) == 2 and "a web page" in "".join(listed)
    shutil.copy(folder / "a.mp4", folder / "broken.mp4")
    (folder / "page.mp4").unlink()
    assert run(["index", str(folder), "--out", str(archive), "--quiet"]) == 0
    assert (archive / "failures.jsonl").read_text() == "" and len(archived(archive)) == 4

    (folder / "a.mp4").write_text("overwritten with something that is no video at all")
    assert run(["index", str(folder), "--out", str(archive), "--quiet"]) == 3
    assert "a.mp4" not in archived(archive), "scenes of a file that is no more are not found"


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


def test_folders_in_folders(folder: Path, tmp_path: Path) -> None:
    """A file has one place, whichever folder is named."""
    prismhub.index(folder / "deep", out=tmp_path / "archive")
    prismhub.index([folder, folder / "deep", folder / "deep" / "b.mp4"], out=tmp_path / "archive")
    with FolderReader.open(tmp_path / "archive") as index:
        assert sorted(index.made_of()) == sorted(
            [(str(folder), "a.mp4"), (str(folder), "c.mkv"), (str(folder / "deep"), "b.mp4")]
        )
        assert index.record.roots == (str(folder / "deep"), str(folder))
    assert prismhub.index(folder / "deep", out=tmp_path / "archive").unchanged == 1


def test_scenes_that_cannot_be_decoded_are_left_out(tmp_path: Path) -> None:
    path = edited(tmp_path / "v" / "a.mp4", [20, 20, 20])
    data = bytearray(path.read_bytes())
    at = data.index(b"mdat") + int(len(data) * 0.45)
    data[at : at + 300] = b"\xff" * 300
    path.write_bytes(data)
    done = prismhub.index(path.parent, out=tmp_path / "archive", window=1.0)
    starts = [one.start_s for one in archived(tmp_path / "archive")["a.mp4"].scenes]
    failed = [one.start_s for one in done.failures]
    assert starts and failed and sorted(starts + failed) == [0, 1, 2, 3, 4, 5]


WRONG: dict[str, tuple[str, ...]] = {
    "no such file or folder": ("nowhere",),
    "no video in this folder": ("empty",),
    "window and max_scene cut videos in different ways": ("v", "--window", "2", "--max-scene", "3"),
    "window and scenes cut videos in different ways": ("v", "--window", "2", "--scenes", "x.csv"),
    "more than half of max_scene": ("v", "--min-scene", "6"),
    "num_frames must be at least 1": ("v", "--num-frames", "0"),
    "no adapter named 'linea'; did you mean 'linear'": ("v", "--adapter", "linea"),
    "is named twice": ("v", "--adapter", "linear", "--adapter", "linear@v1"),
    "answers about boxes": ("v", "--adapter", "spatiotemporal_localizer"),
    "the archive has no adapter 'linear'": ("v", "--without", "linear"),
    "is a file; an archive is a folder": ("v", "--out", "v/a.mp4"),
    "option 'videos' is missing": (),
}


@pytest.mark.usefixtures("saved")
@pytest.mark.parametrize("problem", WRONG)
def test_wrong_input_is_one_line(
    problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: Callable[..., str]
) -> None:
    write_video(tmp_path / "v" / "a.mp4", moving_square(8))
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    assert problem in says(2, "index", *WRONG[problem])
    assert not (tmp_path / "archive").exists()


@pytest.mark.usefixtures("saved")
def test_an_archive_keeps_its_encoder_and_space(
    folder: Path, tmp_path: Path, says: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from core_encoder.encoder import save_encoder

    archive = tmp_path / "archive"
    prismhub.index(folder, out=archive)
    other = load_encoder("nano")
    with monkeypatch.context() as patch:
        patch.setattr(other, "_fingerprint", None)
        next(iter(other.parameters())).data.mul_(1.01)
        save_encoder(other, tmp_path / "other")
    again = ("index", str(folder), "--out", str(archive), "--quiet")
    assert "its vectors are of encoder 'nano'" in says(2, *again, "--encoder", str(tmp_path / "other"))
    assert "was trained on features of encoder 'nano'" in says(
        2,
        "index",
        str(folder),
        "--out",
        str(tmp_path / "b"),
        "--encoder",
        str(tmp_path / "other"),
        "--adapter",
        "linear",
    )
    assert "has a space of its own" in says(2, *again, "--adapter", "lit_text")
    assert "its vectors are of 8 frames" in says(2, *again, "--num-frames", "4")


def test_an_encoder_without_words_says_so(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    silent = save(vision_model(), tmp_path / "silent")
    assert run(["index", str(folder), "--out", str(tmp_path / "archive"), "--encoder", str(silent)]) == 0
    assert "has no text tower: words are searched in speech, captions, labels" in capsys.readouterr().err
    with FolderReader.open(tmp_path / "archive") as index:
        assert (index.record.space, index.record.features["kind"]) == ("", "clip")
    vector = archived(tmp_path / "archive")["a.mp4"].scenes[0].vector
    assert len(vector) == load_encoder(silent).dim and np.linalg.norm(vector) == pytest.approx(1, abs=1e-2)


def test_two_at_once_and_a_full_disk(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: Callable[..., str]
) -> None:
    from prismhub.archive.ingest import locked_for_writing

    archive = tmp_path / "archive"
    with locked_for_writing(archive):
        assert "another prismhub index is writing" in says(2, "index", str(folder), "--out", str(archive))
    command = ["index", str(folder), "--out", str(archive), "--quiet"]

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("core_encoder.files.storage.os.fsync", full)
        assert "the disk is full; free space and run the same command again" in says(2, *command)
    (archive / "scenes.sqlite-wal").unlink(missing_ok=True)
    (archive / "scenes.sqlite").write_bytes(b"")  # as a full disk or a kill may leave it, before a table is in it
    assert "never finished; run prismhub index again" in says(2, "search", str(archive), "anything")
    assert run(command) == 0 and len(archived(archive)) == 3
    shutil.rmtree(archive)
    with monkeypatch.context() as patch:
        patch.setattr("core_encoder.files.storage.os.fsync", full)
        run(command)
    assert archived(archive) == {}, "nothing of a video whose features are not durable"
    code = (
        "import resource, signal, sys; from prismhub.cli import run; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (8000, 8000)); sys.exit(run(sys.argv[1:]))"
    )
    ended = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True, check=False)
    assert ended.returncode == 2 and "Traceback" not in ended.stderr, ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1, ended.stderr
    assert run(command) == 0 and len(archived(archive)) == 3


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
    for share in (0.3, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0):
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
