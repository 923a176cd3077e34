"""Videos that lie elsewhere give the digest and the frames of their local copies, and fail with a reason."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest

from core_encoder.clip_plan import Clip, ClipPlan
from core_encoder.errors import InputError, UnreadableVideo
from core_encoder.files.remote import RemoteLimits, limit_remote
from core_encoder.video import video_bytes
from core_encoder.video.decoders import open_video, read_clip, read_facts
from core_encoder.video.opening import VideoLimits, limit_videos
from core_encoder.video.remote_folders import videos_at
from core_encoder.video.video_files import known_digest, video_digest
from tests.remote_servers import BUCKET, WebServer
from tests.videos import write_video

PLAN = ClipPlan(8)


@pytest.fixture
def noise(tmp_path: Path) -> Path:
    """A video of several blocks."""
    rng = np.random.default_rng(0)
    return write_video(tmp_path / "noise.mp4", rng.integers(0, 255, (48, 160, 240, 3), dtype=np.uint8), crf=10)


def sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


HABITS: dict[str, dict[str, Any]] = {
    "ranges": {},
    "no ranges": {"ranges": False},
    "no sizes": {"ranges": False, "sizes": False},
    "no tags": {"tags": False},
    "cuts connections": {"cut_after": 700_000},
    "breaks down at first": {"statuses": [503, 500, 429]},
}


@pytest.mark.parametrize("habits", HABITS.values(), ids=HABITS.keys())
@pytest.mark.parametrize("digest_first", [True, False], ids=["digest first", "frames first"])
def test_a_video_of_a_web_server_is_that_of_its_file(
    habits: dict[str, Any], digest_first: bool, web: WebServer, noise: Path
) -> None:
    for name, value in habits.items():
        setattr(web, name, value)
    path = Clip(f"{web.url}/noise.mp4").path
    if digest_first:
        assert video_digest(path) == sha256(noise)
    np.testing.assert_array_equal(read_clip(Clip(path), PLAN), read_clip(Clip(str(noise)), PLAN))
    assert video_digest(path) == sha256(noise)
    asked = len(web.asked)
    assert video_digest(path) == sha256(noise)
    assert len(web.asked) == asked


def test_the_bytes_of_a_new_video_come_once(web: WebServer, noise: Path) -> None:
    path = Clip(f"{web.url}/noise.mp4").path
    video_digest(path)
    with open_video(path) as video:
        video.read(range(video.facts.num_frames))
    assert noise.stat().st_size <= web.sent <= noise.stat().st_size + 1


def test_of_a_video_whose_times_are_known_only_parts_are_read(web: WebServer, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    noise = write_video(tmp_path / "long.mp4", rng.integers(0, 255, (96, 240, 320, 3), dtype=np.uint8), crf=4)
    path = Clip(f"{web.url}/long.mp4").path
    video_digest(path)
    read_facts(path)
    video_bytes._copies.clear()  # they had to make room
    web.sent = 0
    assert video_digest(path) == sha256(noise)
    with open_video(path) as video:
        video.read([0])
    assert web.sent < noise.stat().st_size / 2


def test_a_changed_video_has_another_digest(web: WebServer, noise: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = Clip(f"{web.url}/noise.mp4").path
    first = video_digest(path)
    assert known_digest(path) == first
    noise.write_bytes(noise.read_bytes() + b"\0")
    monkeypatch.setattr("core_encoder.files.remote._facts", {})  # another process
    assert known_digest(path) is None
    assert video_digest(path) == sha256(noise) != first


@pytest.mark.parametrize(
    "habits, reason",
    [
        ({"statuses": [403] * 9}, "access is denied (status 403)"),
        ({"statuses": [500] * 9}, "the server answers with status 500, 5 times"),
        ({"statuses": [404]}, "there is no such file"),
        ({"ranges": False, "cut_after": 300_000}, "the connection was cut, 5 times"),
    ],
)
def test_what_does_not_come_is_one_reason_with_the_host_and_no_secret(
    habits: dict[str, Any], reason: str, web: WebServer, noise: Path
) -> None:
    for name, value in habits.items():
        setattr(web, name, value)
    url = f"http://user:pw@127.0.0.1:{web.port}/noise.mp4?X-Amz-Signature=SECRET"
    with pytest.raises(UnreadableVideo) as caught:
        video_digest(url)
    assert str(caught.value) == f"{web.url}/noise.mp4: 127.0.0.1:{web.port}: {reason}"


def test_a_slow_server_costs_no_more_than_the_time_allowed(web: WebServer, noise: Path) -> None:
    web.piece_s = 0.2
    limit_remote(RemoteLimits(timeout_s=0.5))
    with pytest.raises(UnreadableVideo, match=r"did not come within 0.5 s"):
        video_digest(f"{web.url}/noise.mp4")


def test_a_server_that_says_nothing_is_given_up(web: WebServer, noise: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    web.first_s = 1.0
    monkeypatch.setattr("core_encoder.files.remote._STALL_S", 0.05)
    with pytest.raises(UnreadableVideo, match="the server does not answer in time, 5 times"):
        video_digest(f"{web.url}/noise.mp4")


def test_nobody_there(nothing_known: None) -> None:
    with pytest.raises(UnreadableVideo, match="127.0.0.1:9: the server cannot be reached"):
        video_digest("http://127.0.0.1:9/a.mp4")


def test_a_video_beyond_the_bound_is_read_in_parts_or_refused(web: WebServer, noise: Path) -> None:
    limit_remote(RemoteLimits(copies_bytes=1000))
    path = Clip(f"{web.url}/noise.mp4").path
    assert video_digest(path) == sha256(noise)
    np.testing.assert_array_equal(read_clip(Clip(path), PLAN), read_clip(Clip(str(noise)), PLAN))
    assert not list(video_bytes.copies().folder.iterdir())
    web.ranges = False
    with pytest.raises(UnreadableVideo, match=r"as a whole, and its copy would be larger than 1000 B \(--local-copies"):
        read_clip(Clip(f"{web.url}/noise.mp4?again=1"), PLAN)


def test_copies_stay_within_their_bound(
    web: WebServer, video_file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [video_file(f"{seed}.mp4", seed=seed) for seed in range(6)]
    bound = 2 * max(file.stat().st_size for file in files)
    limit_remote(RemoteLimits(copies_bytes=bound))
    for file in files:
        assert video_digest(f"{web.url}/{file.name}") == sha256(file)
        assert sum(copy.stat().st_size for copy in video_bytes.copies().folder.iterdir()) <= bound
    assert list(video_bytes.copies().folder.iterdir())


def test_decord_gets_a_copy(web: WebServer, noise: Path) -> None:
    pytest.importorskip("decord")
    found = read_clip(Clip(f"{web.url}/noise.mp4"), PLAN, decoder="decord")
    np.testing.assert_array_equal(found, read_clip(Clip(str(noise)), PLAN, decoder="decord"))


def test_what_is_no_video_is_named(web: WebServer, tmp_path: Path) -> None:
    (tmp_path / "page.mp4").write_text("<!DOCTYPE html><html>please log in")
    (tmp_path / "empty.mp4").touch()
    with pytest.raises(UnreadableVideo, match="a web page, not a video"):
        read_clip(Clip(f"{web.url}/page.mp4"), PLAN)
    with pytest.raises(UnreadableVideo, match=r"the file is empty \(0 bytes\)"):
        read_clip(Clip(f"{web.url}/empty.mp4"), PLAN)


def test_objects_of_a_store(s3: Any, noise: Path) -> None:
    s3.put(str(noise), f"{BUCKET}/some/noise.mp4")
    path = Clip(f"s3://{BUCKET}/some/noise.mp4").path
    np.testing.assert_array_equal(read_clip(Clip(path), PLAN), read_clip(Clip(str(noise)), PLAN))
    assert video_digest(path) == sha256(noise)
    np.testing.assert_array_equal(read_clip(Clip(path), PLAN), read_clip(Clip(str(noise)), PLAN))
    with pytest.raises(UnreadableVideo, match=f"s3://{BUCKET}: there is no such file"):
        video_digest(f"s3://{BUCKET}/none.mp4")


def test_folders_of_a_store_are_listed(s3: Any, video_file: Callable[..., Path]) -> None:
    for name in ("b.mp4", "a/x.MP4", "a/.hidden.mp4", ".trash/a.mp4", "a/notes.txt"):
        s3.put(str(video_file()), f"{BUCKET}/top/{name}")
    wanted = [f"s3://{BUCKET}/top/a/x.MP4", f"s3://{BUCKET}/top/b.mp4"]
    from core_encoder.files.urls import Url

    assert videos_at(Url(f"s3://{BUCKET}/top/")) == videos_at(Url(f"s3://{BUCKET}/top")) == wanted
    with pytest.raises(InputError, match="no video below this address"):
        videos_at(Url(f"s3://{BUCKET}/elsewhere/"))


def test_missing_packages_and_a_forbidden_network_are_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    from core_encoder.files.urls import Url

    def missing(*about: object, **options: object) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec, "filesystem", missing)
    with pytest.raises(InputError, match=r"s3fs is not installed, .*: pip install 'prismhub\[remote\]'"):
        videos_at(Url("s3://bucket/a.mp4"))
    monkeypatch.setenv("PRISMHUB_OFFLINE", "1")
    with pytest.raises(InputError, match="PRISMHUB_OFFLINE is set"):
        videos_at(Url("https://host/a.mp4"))


def test_a_process_that_opens_the_files_of_strangers_opens_no_address(web: WebServer, noise: Path) -> None:
    limit_videos(VideoLimits(remote=False))
    try:
        with pytest.raises(UnreadableVideo, match="an address, where only files are opened"):
            read_clip(Clip(f"{web.url}/noise.mp4"), PLAN)
    finally:
        limit_videos(VideoLimits())
    assert not web.asked


@pytest.mark.slow  # processes
def test_copies_go_with_their_process_also_when_it_was_killed(web: WebServer, noise: Path, private_home: Path) -> None:
    code = "import os, sys; from core_encoder.video.video_files import video_digest; video_digest(sys.argv[1]); "
    folder = private_home / "remote" / "videos"
    for end, left in (("os._exit(9)", 1), ("pass", 0)):
        asked = [sys.executable, "-c", code + end, f"{web.url}/noise.mp4?{end}"]
        subprocess.run(asked, check=False, timeout=60, env=os.environ, cwd=Path(__file__).parents[3])
        assert len(list(folder.iterdir())) == left
