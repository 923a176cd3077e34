"""`prismhub index` on real files: what an archive then holds, and what the same command again touches."""

from __future__ import annotations

import errno
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import prismhub
from adapters import load_adapter
from core_encoder.clip_plan import Clip
from core_encoder.encoder import load_encoder
from core_encoder.extraction import extract
from core_encoder.features.feature_spec import FeatureSpec
from core_encoder.features.feature_store import FeatureStore
from prismhub.archive.folder_reader import FolderReader
from prismhub.cli import run
from tests.core_encoder.checkpoint_files import save, vision_model
from tests.prismhub.archive.real_archives import archived
from tests.prismhub.archive.test_scene_cuts import edited
from tests.prismhub.small_data import read_json
from tests.videos import moving_square, write_video


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
