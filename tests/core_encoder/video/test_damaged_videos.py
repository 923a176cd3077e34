"""Files that are no videos, or only parts of one: refused in one line, and never a wrong frame."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

from core_encoder.errors import UnreadableVideo
from core_encoder.video.decoders import open_video
from tests.core_encoder.video.numbered_videos import DECODERS, N, number, numbered, write


def unreadable(path: Path, decoder: str) -> str:
    """The one line that opening and reading every frame of a file ends in."""
    with pytest.raises(UnreadableVideo) as raised, open_video(path, decoder) as video:
        video.read(range(video.facts.num_frames))
    message = str(raised.value)
    assert raised.value.path == str(path) and message.startswith(str(path)) and "\n" not in message
    assert len(message) < len(str(path)) + 250, "a reason, not a stack trace"
    return message


@pytest.mark.parametrize("decoder", ["auto", *DECODERS])
def test_files_that_are_no_videos(tmp_path: Path, decoder: str, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("this is not a video\n" * 50)
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "page.mp4").write_text("\n<!DOCTYPE html>\n<html><body>404</body></html>")
    (tmp_path / "answer.mp4").write_text('{"error": "gone"}')
    (tmp_path / "pointer.mp4").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    (tmp_path / "begun.mp4").write_bytes(bytes(5000))
    (tmp_path / "noise.mp4").write_bytes(random.Random(0).randbytes(5000))
    (tmp_path / "itself.mp4").symlink_to("itself.mp4")
    (tmp_path / "gone.mp4").symlink_to("nowhere.mp4")
    (tmp_path / "it.txt").write_text("ffmpeg draws letters\n" * 40)
    (tmp_path / "list.mp4").write_text("ffconcat version 1.0\nfile plain.mp4\n")
    write(tmp_path / "plain.mp4", numbered(4))
    with av.open(str(tmp_path / "sound.mp4"), "w") as file:
        stream = file.add_stream("aac", rate=16000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        sound.sample_rate = 16000
        file.mux(stream.encode(sound))
        file.mux(stream.encode())
    for name, reason in {
        "missing.mp4": "no such file",
        "empty.mp4": "empty",
        "folder.mp4": "a folder",
        "text.mp4": "text, not a video",
        "it.txt": "text, not a video",
        "page.mp4": "a web page, not a video",
        "answer.mp4": "text, not a video",
        "pointer.mp4": "a pointer of Git LFS",
        "begun.mp4": "begins with zeros",
        "noise.mp4": "Invalid data",
        "itself.mp4": "a link that leads back to itself",
        "gone.mp4": "no such file",
        "sound.mp4": "no video stream",
        "list.mp4": "a playlist",
    }.items():
        assert reason in unreadable(tmp_path / name, decoder)
    assert capfd.readouterr().err == "", "decoders keep quiet; the error says it all"


@pytest.mark.parametrize("decoder", ["auto", *DECODERS])
@pytest.mark.parametrize("share", [0.15, 0.5, 0.8])
@pytest.mark.parametrize("name", ["plain.mp4", "faststart.mp4", "fragments.mp4", "b_frames.mkv", "b_frames.avi"])
def test_truncated_files_are_refused(
    made: Callable[[str], Path],
    tmp_path: Path,
    name: str,
    share: float,
    decoder: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    content = made(name).read_bytes()
    path = tmp_path / name
    path.write_bytes(content[: int(len(content) * share)])
    reason = unreadable(path, decoder)
    assert "truncated" in reason or name == "plain.mp4", "only that one had its index at the end"
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("name", ["b_frames.mkv", "b_frames.avi", "faststart.mp4"])
def test_losing_the_tail_never_shows_a_wrong_frame(made: Callable[[str], Path], tmp_path: Path, name: str) -> None:
    """Near the end only an index may be gone: all frames are right, or the file is refused."""
    content = made(name).read_bytes()
    opened = 0
    for lost in range(1, 2000, 199):
        path = tmp_path / name
        path.write_bytes(content[:-lost])
        try:
            with open_video(path) as video:
                numbers = [number(frame) for frame in video.read(range(video.facts.num_frames))]
        except UnreadableVideo as error:
            assert "truncated" in error.reason
            continue
        assert numbers == list(range(len(numbers))) and len(numbers) >= N - 7, "less than this Matroska cannot tell"
        opened += 1
    assert opened == 0 or not name.endswith(".mp4")


def test_a_transport_stream_may_end_anywhere(made: Callable[[str], Path], tmp_path: Path) -> None:
    content = made("b_frames.ts").read_bytes()
    path = tmp_path / "cut.ts"
    path.write_bytes(content[: len(content) // 2])
    with open_video(path, "auto") as video:
        whole = range(video.facts.num_frames - 1)
        assert 20 < len(whole) < 40
        assert [number(frame) for frame in video.read(whole)] == list(whole)


@pytest.mark.parametrize("decoder", ["auto", *DECODERS])
def test_damaged_bytes_never_crash_or_hang(
    made: Callable[[str], Path], tmp_path: Path, decoder: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """Each damaged file is decoded or refused with one line; PyAV gives no frame that its decoder marks as damaged."""
    content = made("b_frames.mp4").read_bytes()
    refused = 0
    for seed in range(12):
        rng, damaged = random.Random(seed), bytearray(content)
        for _ in range(rng.choice([1, 10, 200])):
            damaged[rng.randrange(48, len(content))] = rng.randrange(256)
        path = tmp_path / "damaged.mp4"
        path.write_bytes(damaged)
        try:
            with open_video(path, decoder) as video:
                assert video.read(range(0, video.facts.num_frames, 7)).shape[0] > 0
        except UnreadableVideo as error:
            assert "\n" not in str(error) and str(error).startswith(str(path))
            refused += 1
    assert refused > 0
    assert capfd.readouterr().err == ""
