"""Finding videos, and the remembered digests of their bytes."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from core_encoder.errors import InputError, UnreadableVideo
from core_encoder.video import video_files
from core_encoder.video.video_bytes import Identity
from core_encoder.video.video_files import find_videos, video_digest


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that were really read, in order."""
    real, names = hashlib.file_digest, []

    def counting(file, name):  # type: ignore[no-untyped-def]
        names.append(Path(file.name).name)
        return real(file, name)

    monkeypatch.setattr(video_files.hashlib, "file_digest", counting)
    return names


def test_a_digest_is_computed_once(tmp_path: Path, hashed: list[str]) -> None:
    file = tmp_path / "a b é.mp4"
    file.write_bytes(b"one")
    os.utime(file, ns=(1, 1))
    assert video_digest(file) == video_digest(str(file)) == hashlib.sha256(b"one").hexdigest()
    assert hashed == ["a b é.mp4"]


def test_changed_bytes_change_the_digest(tmp_path: Path, hashed: list[str]) -> None:
    file = tmp_path / "a.mp4"
    file.write_bytes(b"one")
    video_digest(file)
    file.write_bytes(b"two")  # the same size
    os.utime(file, ns=(1, 1))
    assert video_digest(file) == hashlib.sha256(b"two").hexdigest()
    assert len(hashed) == 2


def test_a_change_behind_an_old_date_is_seen(tmp_path: Path) -> None:
    file = tmp_path / "a.mp4"
    for content in (b"one", b"two"):  # the same size and date, as after rsync -t or cp -p
        file.write_bytes(content)
        os.utime(file, ns=(1, 1))
        assert video_digest(file) == hashlib.sha256(content).hexdigest()


def test_what_was_just_written_is_not_remembered_yet(
    tmp_path: Path, hashed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file system whose clock ticks in seconds gives both contents the same times."""
    file = tmp_path / "a.mp4"
    file.write_bytes(b"one")
    coarse = Identity.of_file(file.stat())
    monkeypatch.setattr(Identity, "of_file", lambda status: coarse)
    video_digest(file)
    file.write_bytes(b"two")
    assert video_digest(file) == hashlib.sha256(b"two").hexdigest()
    assert len(hashed) == 2


def test_a_home_that_cannot_be_written_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("PRISMHUB_HOME", str(tmp_path / "file" / "home"))
    for name in "abc":
        (tmp_path / name).write_bytes(b"one")
        os.utime(tmp_path / name, ns=(1, 1))
        assert video_digest(tmp_path / name) == hashlib.sha256(b"one").hexdigest()
    assert len(caplog.messages) == 1 and "not remembered" in caplog.text


def test_relative_paths_are_not_confused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("x", "y"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.mp4").write_bytes(name.encode())
        os.utime(tmp_path / name / "a.mp4", ns=(1, 1))
    digests = []
    for name in ("x", "y"):
        monkeypatch.chdir(tmp_path / name)
        digests.append(video_digest("a.mp4"))
    assert digests[0] != digests[1]


@pytest.mark.parametrize("content", [b"", b"this is no database" * 100, "a folder"])
def test_a_broken_memory_costs_only_time(tmp_path: Path, private_home: Path, content: bytes | str) -> None:
    memory = private_home / "video_digests.sqlite"
    if isinstance(content, str):
        memory.mkdir()
    else:
        memory.write_bytes(content)
    file = tmp_path / "a.mp4"
    file.write_bytes(b"one")
    for _ in range(2):
        assert video_digest(file) == hashlib.sha256(b"one").hexdigest()


def test_threads_and_processes_share_the_memory(tmp_path: Path, private_home: Path, hashed: list[str]) -> None:
    files = [tmp_path / f"{i}.mp4" for i in range(40)]
    for i, file in enumerate(files):
        file.write_bytes(bytes([i]) * 1000)
        os.utime(file, ns=(1, 1))
    code = """
import sys
from core_encoder.video.video_files import video_digest
for f in sys.argv[1:]:
    print(video_digest(f))
"""
    others = [
        subprocess.Popen([sys.executable, "-c", code, *map(str, files)], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    with ThreadPoolExecutor(4) as pool:
        ours = list(pool.map(video_digest, files))
    assert ours == [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
    for other in others:
        assert other.communicate()[0].split() == ours and other.returncode == 0
    hashed.clear()
    assert [video_digest(file) for file in files] == ours and hashed == [], "every digest was remembered"


@pytest.mark.parametrize(("name", "reason"), [("none.mp4", "no such file"), ("", "a folder"), ("e.mp4", "empty")])
def test_what_is_no_file_has_no_digest(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / "e.mp4").touch()
    with pytest.raises(UnreadableVideo, match=reason):
        video_digest(tmp_path / name)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_is_no_video(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.mp4")  # opening it would wait for a writer for ever
    with pytest.raises(UnreadableVideo, match=r"a\.mp4: a pipe, socket or device"):
        video_digest(tmp_path / "a.mp4")


def test_videos_are_found_by_suffix_and_sorted(tmp_path: Path) -> None:
    for name in ("b/ü 2.MP4", "b/1.webm", "a.mkv", ".hidden.mp4", ".git/c.mp4", "notes.txt", "b/clip.mp4.part"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "b" / "loop").symlink_to(tmp_path)
    assert [p.relative_to(tmp_path).as_posix() for p in find_videos(tmp_path)] == ["a.mkv", "b/1.webm", "b/ü 2.MP4"]


def test_linked_folders_are_found_under_every_name(tmp_path: Path) -> None:
    (tmp_path / "train" / "cats").mkdir(parents=True)
    (tmp_path / "train" / "cats" / "1.mp4").touch()
    (tmp_path / "all").symlink_to(tmp_path / "train")
    (tmp_path / "z").symlink_to(tmp_path / "train")
    found = [p.relative_to(tmp_path).as_posix() for p in find_videos(tmp_path)]
    assert found == ["all/cats/1.mp4", "train/cats/1.mp4", "z/cats/1.mp4"]


@pytest.mark.skipif(os.name == "nt" or sys.platform == "darwin", reason="every name is UTF-8 here")
def test_a_digest_under_a_name_that_is_no_utf8(
    tmp_path: Path, hashed: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    file = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe.mp4"))
    file.write_bytes(b"one")
    os.utime(file, ns=(1, 1))
    assert video_digest(file) == video_digest(file)
    assert len(hashed) == 1 and not caplog.records


def test_a_link_to_itself_does_not_hide_its_folder(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").touch()
    (tmp_path / "b.mp4").symlink_to("b.mp4")
    (tmp_path / "c").symlink_to("c")
    assert [path.name for path in find_videos(tmp_path)] == ["a.mp4", "b.mp4"]


def test_folders_without_videos_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").touch()
    for folder, reason in (
        (tmp_path, "no video in this folder"),
        (tmp_path / "x", "no such folder"),
        (tmp_path / "a.txt", "not a folder"),
    ):
        with pytest.raises(InputError, match=reason):
            find_videos(folder)
