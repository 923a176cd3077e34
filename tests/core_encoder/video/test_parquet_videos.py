"""Videos in Parquet files give the digests and frames of their files, and come once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from core_encoder.clip_plan import Clip, ClipPlan
from core_encoder.errors import InputError, UnreadableVideo
from core_encoder.files.remote import RemoteLimits, limit_remote
from core_encoder.video import parquet_videos, video_bytes
from core_encoder.video.decoders import read_clip
from core_encoder.video.parquet_videos import video_column, videos_in_parquet
from core_encoder.video.video_files import known_digest, video_digest
from prismhub.clips import find_clips
from tests.parquet_files import write_parquet
from tests.remote_servers import WebServer


@pytest.fixture
def files(video_file: Callable[..., Path]) -> list[Path]:
    """Four videos, each with a box of 200 kB that players pass over: they are larger than a footer."""
    found = [video_file(f"{seed}.mp4", seed=seed) for seed in range(4)]
    for seed, file in enumerate(found):
        box = np.random.default_rng(seed).bytes(200_000)
        file.write_bytes(file.read_bytes() + (len(box) + 8).to_bytes(4, "big") + b"free" + box)
    return found


@pytest.fixture
def parquet(nothing_known: None, files: list[Path], tmp_path: Path) -> Path:
    return write_parquet(tmp_path / "data" / "train.parquet", [file.read_bytes() for file in files])


def test_rows_give_the_digests_and_frames_of_their_files(parquet: Path, files: list[Path]) -> None:
    clips = find_clips([str(parquet)])
    assert [clip.path for clip in clips] == [f"{parquet}/video/00000{row}" for row in range(4)]
    assert clips == find_clips([str(parquet.parent)]) and find_clips([clips[1].path]) == clips[1:2]
    for clip, file in zip(clips, files, strict=True):
        assert video_digest(clip.path) == video_digest(str(file))
        np.testing.assert_array_equal(read_clip(clip, ClipPlan(4)), read_clip(Clip(str(file)), ClipPlan(4)))


def test_a_remote_row_group_comes_once_and_a_known_row_not_at_all(
    parquet: Path, files: list[Path], web: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet_videos, "_VIDEO_BLOCK", 1 << 16)
    paths = videos_in_parquet(Clip(f"{web.url}/data/train.parquet").path)  # type: ignore[arg-type]
    assert web.sent < 300_000 and known_digest(paths[0]) is None
    for path, file in zip(paths, files, strict=True):
        assert video_digest(path) == video_digest(str(file))
        read_clip(Clip(path), ClipPlan(4))
    assert web.sent < parquet.stat().st_size + 400_000
    monkeypatch.setattr("core_encoder.files.remote._facts", {})  # another process
    video_bytes._copies.clear()
    web.sent = 0
    assert [known_digest(path) for path in paths] == [video_digest(str(file)) for file in files]
    assert web.sent < 100
    parquet.write_bytes(parquet.read_bytes() + b"\0")
    monkeypatch.setattr("core_encoder.files.remote._facts", {})
    assert known_digest(paths[0]) is None


def test_a_small_bound_holds_the_wanted_row(parquet: Path, files: list[Path]) -> None:
    largest = max(file.stat().st_size for file in files)
    limit_remote(RemoteLimits(largest + 10))
    assert [video_digest(f"{parquet}/video/{row}") for row in (0, 3, 1)] == [
        video_digest(str(files[row])) for row in (0, 3, 1)
    ]
    assert sum(file.stat().st_size for file in video_bytes.copies().folder.iterdir()) <= largest + 10
    limit_remote(RemoteLimits(10))
    video_bytes._copies.clear()
    with pytest.raises(UnreadableVideo, match=r"its copy would be larger than .*--local-copies allows more"):
        read_clip(Clip(f"{parquet}/video/2"), ClipPlan(4))


def test_a_row_that_is_no_video_fails_alone(nothing_known: None, files: list[Path], tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", [files[0].read_bytes(), None, b"no video", files[1].read_bytes()])
    for row in (0, 3):
        read_clip(Clip(f"{path}/video/{row}"), ClipPlan(4))
    for row, problem in (
        ("video/1", "the row names a file, 1.mp4, and holds no bytes"),
        ("video/2", "text, not a video"),
        ("video/4", "there is no such row: it has 4"),
        ("activity/0", "has no column 'activity' of videos"),
    ):
        with pytest.raises(UnreadableVideo, match=problem):
            read_clip(Clip(f"{path}/{row}"), ClipPlan(4))


def test_which_column_holds_videos(tmp_path: Path) -> None:
    def columns_of(file: Path, asked: str | None = None) -> str:
        return video_column(file, parquet_videos.table_of(file), asked)

    plain = tmp_path / "plain.parquet"
    pq.write_table(pa.table({"clip": pa.array([b"x"]), "n": [1]}), plain)
    assert columns_of(plain) == "clip"
    two: dict[str, Any] = {"other": pa.array([b"x", b"y"])}
    typed = write_parquet(tmp_path / "typed.parquet", [b"x", b"y"], **two)
    assert columns_of(typed) == "video" and columns_of(typed, "other") == "other"
    untyped = write_parquet(tmp_path / "untyped.parquet", [b"x", b"y"], features=None, **two)
    with pytest.raises(InputError, match=r"untyped.parquet: 2 columns of videos; name one of video, other"):
        columns_of(untyped)
    with pytest.raises(InputError, match="no column 'vidoe' with the bytes of videos"):
        columns_of(typed, "vidoe")
    pq.write_table(pa.table({"n": [1]}), plain)
    with pytest.raises(InputError, match="no columns of videos; its rows hold no bytes of files"):
        videos_in_parquet(plain)


def test_a_file_that_is_no_parquet_or_ends_early(parquet: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.parquet").write_bytes(b"no table" * 100)
    with pytest.raises(InputError, match=r"bad.parquet: not a whole Parquet file"):
        find_clips([str(tmp_path / "bad.parquet")])
    parquet.write_bytes(parquet.read_bytes()[:-50])
    with pytest.raises(UnreadableVideo, match="not a whole Parquet file"):
        read_clip(Clip(f"{parquet}/video/0"), ClipPlan(4))
