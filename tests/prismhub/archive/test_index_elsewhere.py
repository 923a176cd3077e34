"""`prismhub index` of videos on object stores, web servers and in tars: the archive of the same files here."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import prismhub
from core_encoder.errors import UnreadableVideo
from prismhub.archive.cut_scenes import save_scene
from prismhub.archive.found_scenes import common_folder
from prismhub.archive.scenes import ArchivedVideo
from prismhub.archive.video_folders import find_archived
from prismhub.cli import run
from prismhub.server.indexed_files import open_indexed
from prismhub.server.refusal import Refused
from tests.prismhub.archive.conftest import SRT
from tests.prismhub.archive.real_archives import archived
from tests.prismhub.commands.test_remote_videos import files_with_secrets
from tests.remote_servers import BUCKET, WebServer


def indexed(out: Path, *videos: str | Path) -> Any:
    return prismhub.index([str(one) for one in videos], out=out, encoder="nano", window=1.0)


def tar_of(path: Path, *files: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for file in files:
            tar.add(file, file.name)
    return path


def same_scenes(one: ArchivedVideo, other: ArchivedVideo) -> bool:
    pairs = list(zip(one.scenes, other.scenes, strict=True))
    return one.made_of == other.made_of and all(
        ours.thumbnail == theirs.thumbnail != b""
        and (ours.start_s, ours.end_s, ours.speech) == (theirs.start_s, theirs.end_s, theirs.speech)
        and np.array_equal(ours.vector, theirs.vector)
        for ours, theirs in pairs
    )


def test_a_folder_of_an_object_store(s3: Any, video_file: Callable[..., Path], tmp_path: Path) -> None:
    """As the same files here; the next run touches what is new, changed or gone."""
    here = tmp_path / "v"
    files = {f"{name}.mp4": video_file(f"v/{name}.mp4", seed=seed) for seed, name in enumerate("abc")}
    (here / "a.en.srt").write_text(SRT)
    tar = tar_of(tmp_path / "shards" / "000.tar", video_file("d.mp4", seed=5))
    for path in (*files.values(), here / "a.en.srt"):
        s3.put(str(path), f"{BUCKET}/v/{path.name}")
    s3.put(str(tar), f"{BUCKET}/v/deep/000.tar")
    there = f"s3://{BUCKET}/v/"
    done = indexed(tmp_path / "far", there)
    assert (done.videos, done.added, done.failures) == (4, 4, ())
    indexed(tmp_path / "near", here, tar)
    far, near = archived(tmp_path / "far"), archived(tmp_path / "near")
    assert list(far) == ["a.mp4", "b.mp4", "c.mp4", "deep/000.tar/d.mp4"]
    assert {one.root for one in far.values()} == {there.rstrip("/")}
    assert far["a.mp4"].place == f"s3://{BUCKET}/v/a.mp4" and far["a.mp4"].scenes[0].speech
    assert all(same_scenes(far[name], near[name]) for name in files)
    assert same_scenes(far["deep/000.tar/d.mp4"], near["000.tar/d.mp4"])

    again = indexed(tmp_path / "far", there)
    assert (again.unchanged, again.added, again.changed, again.removed) == (4, 0, 0, 0)
    s3.put(str(files["c.mp4"]), f"{BUCKET}/v/b.mp4")
    s3.rm(f"{BUCKET}/v/a.mp4")
    s3.pipe(f"{BUCKET}/v/e.mp4", b"no video at all")
    done = indexed(tmp_path / "far", there)
    assert (done.unchanged, done.changed, done.removed) == (2, 1, 1)
    [failure] = done.failures
    assert failure.path == f"s3://{BUCKET}/v/e.mp4"
    far = archived(tmp_path / "far")
    assert list(far) == ["b.mp4", "c.mp4", "deep/000.tar/d.mp4"] and same_scenes(far["b.mp4"], near["c.mp4"])
    indexed(tmp_path / "far", f"s3://{BUCKET}/v/c.mp4")  # one of them: the others were not looked for
    assert len(archived(tmp_path / "far")) == 3


def test_signed_addresses(
    web: WebServer,
    video_file: Callable[..., Path],
    tmp_path: Path,
    private_home: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What is known stays while a server is away, and nothing is fetched twice; no secret is kept."""
    names = [video_file(f"{seed}.mp4", seed=seed).name for seed in range(2)]
    whole = [f"http://user:pw@127.0.0.1:{web.port}/{name}?X-Amz-Signature=SECRET" for name in names]
    assert indexed(tmp_path / "archive", *whole).added == 2
    sizes = sum((tmp_path / name).stat().st_size for name in names)
    assert web.sent < 1.5 * sizes, "once"
    kept = archived(tmp_path / "archive")
    assert list(kept) == names and kept[names[0]].root == f"http://127.0.0.1:{web.port}"
    sent = web.sent
    assert indexed(tmp_path / "archive", *whole).unchanged == 2 and web.sent - sent < 100
    web.statuses = [404] * 100
    pytest.MonkeyPatch().setattr("core_encoder.files.remote._facts", {})
    done = indexed(tmp_path / "archive", *whole)
    assert len(done.failures) == 2 and "there is no such file" in done.failures[0].reason
    assert list(archived(tmp_path / "archive")) == names
    assert not files_with_secrets(tmp_path / "archive", private_home)
    assert not any(secret in caplog.text for secret in ("SECRET", "user:pw"))


def test_tar_shards_of_this_machine(video_file: Callable[..., Path], tmp_path: Path) -> None:
    files = [video_file(f"{seed}.mp4", seed=seed) for seed in range(4)]
    shards = tmp_path / "shards"
    tar_of(shards / "00.tar", *files[:2])
    tar_of(shards / "01.tar", *files[2:])
    assert indexed(tmp_path / "archive", shards / "{00..01}.tar").added == 4
    kept = archived(tmp_path / "archive")
    assert list(kept) == ["00.tar/0.mp4", "00.tar/1.mp4", "01.tar/2.mp4", "01.tar/3.mp4"]
    assert {one.root for one in kept.values()} == {str(shards)}
    (shards / "loose.mp4").write_bytes(files[0].read_bytes())
    assert indexed(tmp_path / "archive", shards).added == 1, "what is in tars is not gone"
    tar_of(shards / "01.tar", *files[3:])
    done = indexed(tmp_path / "archive", shards / "01.tar")
    assert (done.unchanged, done.removed, done.videos) == (1, 1, 4)


def test_what_is_below_which_root() -> None:
    """Known roots go on holding what lies below them."""
    one = find_archived(["https://host/a/1.mp4", "https://host/a/b/2.mp4", "https://host/v?id=7"], ["https://host/a"])
    assert [video.key for video in one.videos[:2]] == [("https://host/a", "1.mp4"), ("https://host/a", "b/2.mp4")]
    root, path = one.videos[2].key
    assert root == "https://host" and path.startswith("v?~") and one.roots == ("https://host/a", "https://host")
    assert one.gone([("https://host/a", "3.mp4"), ("s3://bucket", "a.mp4"), ("/none", "a.mp4")]) == []


def test_folders_are_shown_as_addresses() -> None:
    paths = ["s3://bucket/videos/a/1.mp4", "s3://bucket/videos/ab/2.mp4"]
    assert common_folder(paths) == "s3://bucket/videos/" and common_folder(paths[:1]) == "s3://bucket/videos/a/"
    assert common_folder([*paths, "/videos/3.mp4"]) == common_folder(["https://a/1.mp4", "s3://a/2.mp4"]) == ""


def test_the_server_and_cutting_open_no_addresses(
    video_file: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even where a folder below the server's own is called like one."""
    path = video_file("s3:/bucket/a.mp4")
    from core_encoder.video.video_files import video_digest

    monkeypatch.chdir(tmp_path)
    assert os.path.realpath("s3://bucket/a.mp4") == str(path)
    video = ArchivedVideo("s3://bucket", "a.mp4", {"video": video_digest(path)}, 1, 96, 64, 16, "", ())
    with pytest.raises(Refused, match="does not lie on the server"):
        open_indexed(video)
    with pytest.raises(UnreadableVideo, match="it lies elsewhere"):
        save_scene(video.place, 0, 1, tmp_path / "out", "x")
    (tmp_path / "shard.tar").touch()
    with pytest.raises(UnreadableVideo, match="it lies in a tar"):
        save_scene(tmp_path / "shard.tar" / "a.mp4", 0, 1, tmp_path / "out", "x")


@pytest.mark.slow
def test_what_is_found_elsewhere_is_labelled_by_its_address(
    s3: Any, video_file: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    s3.put(str(video_file("a.mp4")), f"{BUCKET}/v/a.mp4")
    archive = tmp_path / "archive"
    indexed(archive, f"s3://{BUCKET}/v/")
    assert run(["label", str(archive), "a square", "--out", str(tmp_path / "l.csv"), "--anyway", "--quiet"]) == 0
    assert f"\ns3://{BUCKET}/v/a.mp4,0.000," in (tmp_path / "l.csv").read_text()
    capsys.readouterr()
    assert run(["search", str(archive), "a square", "--anyway", "--save", str(tmp_path / "cut")]) == 3
    said = capsys.readouterr()
    assert f"videos in s3://{BUCKET}/v/" in said.out and "it lies elsewhere" in said.err
