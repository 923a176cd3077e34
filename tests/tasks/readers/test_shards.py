"""Tar shards as data: samples, labels and splits of WebDataset's layout, here and on an object store."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core_encoder.clip_plan import Clip, ClipPlan
from core_encoder.errors import InputError, UnreadableVideo
from core_encoder.files.tar_files import shard_names
from core_encoder.video.decoders import read_clip
from core_encoder.video.video_files import video_digest
from prismhub.clips import find_clips
from tasks.readers.annotations import read_samples
from tasks.readers.captions import read_captions
from tests.remote_servers import BUCKET


def write_tar(path: Path, members: Mapping[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return path


@pytest.fixture
def videos(video_file: Callable[..., Path]) -> list[bytes]:
    return [video_file(f"{seed}.mp4", seed=seed).read_bytes() for seed in range(4)]


@pytest.fixture
def shards(tmp_path: Path, videos: list[bytes]) -> Path:
    """Two shards of two videos each, in a folder of their own."""
    for shard in range(2):
        members: dict[str, bytes] = {}
        for place in range(2):
            number = 2 * shard + place
            members[f"{number:04d}.mp4"] = videos[number]
            members[f"{number:04d}.cls"] = b"walk" if number % 2 else b"run"
            members[f"{number:04d}.json"] = json.dumps({"caption": f"a dog, {number}"}).encode()
        write_tar(tmp_path / "shards" / f"shard-00{shard}.tar", members)
    return tmp_path / "shards"


def test_samples_of_shards(shards: Path) -> None:
    found = read_samples(shards)
    assert [one.id for one in found] == [f"shard-00{n // 2}.tar/000{n}.mp4" for n in range(4)]
    assert [one.labels for one in found] == [("run",), ("walk",), ("run",), ("walk",)]
    assert found == read_samples(shards / "shard-{000..001}.tar")
    assert read_samples(shards / "shard-000.tar") == found[:2]
    told = read_captions(shards)
    assert [one.captions for one in told] == [(f"a dog, {n}",) for n in range(4)]


def test_the_names_of_shards_and_of_their_folders_say_splits(shards: Path, videos: list[bytes], tmp_path: Path) -> None:
    for name in ("train-000.tar", "val-000.tar", "test/000.tar"):
        write_tar(tmp_path / "split" / name, {f"{name[:2]}.mp4": videos[0], f"{name[:2]}.cls": b"run"})
    assert {one.id: one.split for one in read_samples(tmp_path / "split")} == {
        "train-000.tar/tr.mp4": "train",
        "val-000.tar/va.mp4": "val",
        "test/000.tar/te.mp4": "test",
    }


def test_members_give_the_digests_and_frames_of_their_files(shards: Path, tmp_path: Path) -> None:
    clips = find_clips([str(shards)])
    assert clips == find_clips([str(shards / "shard-{000..001}.tar")]) and len(clips) == 4
    for seed, clip in enumerate(clips):
        file = str(tmp_path / f"{seed}.mp4")
        assert video_digest(clip.path) == video_digest(file)
        np.testing.assert_array_equal(read_clip(clip, ClipPlan(4)), read_clip(Clip(file), ClipPlan(4)))
    assert find_clips([clips[0].path]) == clips[:1]


def test_manifests_may_name_members(shards: Path) -> None:
    (shards / "list.csv").write_text("path,label\nshard-000.tar/0001.mp4,a\nshard-001.tar/0002.mp4,b\n")
    found = read_samples(shards / "list.csv")
    assert [one.id for one in found] == ["shard-000.tar/0001.mp4", "shard-001.tar/0002.mp4"]
    read_clip(found[1].clip, ClipPlan(4))


def test_shards_of_an_object_store(s3: Any, shards: Path, private_home: Path) -> None:
    s3.put(str(shards), f"{BUCKET}/shards", recursive=True)
    there, here = read_samples(f"s3://{BUCKET}/shards/"), read_samples(shards)
    assert [(one.id, one.labels) for one in there] == [(one.id, one.labels) for one in here]
    assert read_samples(f"s3://{BUCKET}/shards/shard-{{000..001}}.tar") == there
    assert read_samples(Path(f"s3://{BUCKET}/shards")) == there
    assert len(list((private_home / "remote" / "tars").iterdir())) == 2
    clips = find_clips([f"s3://{BUCKET}/shards/"])
    for theirs, ours in zip(clips, find_clips([str(shards)]), strict=True):
        assert video_digest(theirs.path) == video_digest(ours.path)
        np.testing.assert_array_equal(read_clip(theirs, ClipPlan(4)), read_clip(ours, ClipPlan(4)))


def test_classes_are_folders_of_an_object_store(s3: Any, videos: list[bytes]) -> None:
    for number, label in enumerate(("run", "walk", "run")):
        s3.pipe(f"{BUCKET}/data/{label}/{number}.mp4", videos[number])
    found = read_samples(f"s3://{BUCKET}/data/")
    assert {one.id: one.labels for one in found} == {
        "run/0.mp4": ("run",),
        "run/2.mp4": ("run",),
        "walk/1.mp4": ("walk",),
    }
    assert found[0].clip.path == f"s3://{BUCKET}/data/run/0.mp4"


def test_no_member_leads_out_of_its_tar(tmp_path: Path, videos: list[bytes]) -> None:
    (tmp_path / "secret.mp4").write_bytes(videos[1])
    tar = write_tar(tmp_path / "a.tar", {"../secret.mp4": videos[0], "/etc/b.mp4": videos[0], "./in/c.mp4": videos[0]})
    assert [clip.path for clip in find_clips([str(tar)])] == [f"{tar}/in/c.mp4"]
    with pytest.raises(UnreadableVideo, match="there is no such file in the tar"):
        read_clip(Clip(f"{tar}/../secret.mp4"), ClipPlan(4))


@pytest.mark.parametrize(
    "members, problem",
    [
        ({"a.mp4": b"x"}, "sample 'a': no label column"),
        ({"a.txt": b"x"}, "holds no videos"),
        ({"a.mp4": b"x", "a.cls": b" "}, "sample 'a': cls is empty"),
        ({"a.mp4": b"x", "a.json": b"[1]"}, "sample 'a': its .json must be an object"),
        ({"a.mp4": b"x", "a.cls": b"\xff"}, "sample 'a': what is told of it is not valid UTF-8"),
    ],
)
def test_what_is_wrong_with_a_sample_is_named(members: dict[str, bytes], problem: str, tmp_path: Path) -> None:
    tar = write_tar(tmp_path / "a.tar", members)
    with pytest.raises(InputError, match=f"a.tar: {problem}"):
        read_samples(tar)


def test_a_tar_that_is_none_or_ends_early(tmp_path: Path, shards: Path) -> None:
    (tmp_path / "bad.tar").write_bytes(b"no tar" * 100)
    with pytest.raises(InputError, match="bad.tar: not a whole, uncompressed tar"):
        read_samples(tmp_path / "bad.tar")
    cut = shards / "shard-000.tar"
    cut.write_bytes(cut.read_bytes()[:3000])
    with pytest.raises(InputError, match="not a whole, uncompressed tar"):
        find_clips([str(cut)])


def test_names_by_their_numbers() -> None:
    assert shard_names("a-{08..10}.tar") == ["a-08.tar", "a-09.tar", "a-10.tar"]
    assert shard_names("{0..1}/{0..1}") == ["0/0", "0/1", "1/0", "1/1"]
    assert shard_names("a{b}.tar") == ["a{b}.tar"]
    with pytest.raises(InputError, match="must count up"):
        shard_names("a-{10..08}.tar")
