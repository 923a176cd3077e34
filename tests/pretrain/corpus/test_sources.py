"""Pixels of rows: videos, images and members of tars give what a direct decoder gives."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from core_encoder.errors import InputError, UnreadableVideo
from core_encoder.preprocessing import Preprocessing
from pretrain.corpus.manifest import HubSpec, SyntheticSpec, Tier
from pretrain.corpus.rows import Member, Row
from pretrain.corpus.sources import decode_bytes, open_source
from pretrain.world.captions import caption_of
from pretrain.world.motions import OPPOSITE
from pretrain.world.synthetic_world import SyntheticWorld
from pretrain.world.world_objects import HELD_OUT_OBJECTS, SEEN_OBJECTS
from tests import ROOT
from tests.pretrain.corpora import same, write_clips, write_jsonl, write_pictures, write_tar

PREPROCESSING = Preprocessing(32)


def decoded(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def test_a_video_is_sampled_over_its_span(tmp_path: Path) -> None:
    [path] = write_clips(tmp_path, 1)  # 6 frames at 6 fps, 32 pixels
    frames = decoded(path)
    rows = [{"video": "000.mp4"}, {"video": "000.mp4", "start": 0.5, "end": 1.0}]
    source = open_source(Tier("t", "clean", table=write_jsonl(tmp_path / "c.jsonl", rows)))
    assert same(source.read(0, 3, PREPROCESSING), frames[[1, 3, 5]])
    assert same(source.read(1, 3, PREPROCESSING), frames[[3, 4, 5]])
    assert source.read(0, 3, Preprocessing(16)).shape == (3, 16, 16, 3)


def test_a_video_with_fewer_frames_shows_each_longer_and_none_stands_still_at_its_end(tmp_path: Path) -> None:
    [path] = write_clips(tmp_path, 1)  # 6 frames at 6 fps, 32 pixels
    frames = decoded(path)
    rows = [{"video": "000.mp4"}, {"video": "000.mp4", "start": 0.5, "end": 1.0}]
    source = open_source(Tier("t", "clean", table=write_jsonl(tmp_path / "c.jsonl", rows)))
    assert same(source.read(0, 8, PREPROCESSING), frames[[0, 1, 1, 2, 3, 4, 4, 5]])
    assert same(source.read(1, 8, PREPROCESSING), frames[[3, 3, 3, 4, 4, 5, 5, 5]])
    write_tar(tmp_path / "a.tar", [(path.name, path.read_bytes())])
    shards = open_source(Tier("t", "noisy", shards=(str(tmp_path / "*.tar"),)))
    assert same(shards.read(0, 8, PREPROCESSING), source.read(0, 8, PREPROCESSING))


def test_a_member_of_a_tar_is_the_file_it_was(tmp_path: Path) -> None:
    paths = write_clips(tmp_path, 3)
    members = [(path.name, path.read_bytes()) for path in paths]
    write_tar(tmp_path / "a.tar", members)
    shards = open_source(Tier("t", "noisy", shards=(str(tmp_path / "*.tar"),)))
    rows = [{"video": path.name} for path in paths]
    table = open_source(Tier("t", "noisy", table=write_jsonl(tmp_path / "c.jsonl", rows)))
    for number in range(3):
        assert same(shards.read(number, 4, PREPROCESSING), table.read(number, 4, PREPROCESSING))


@pytest.mark.parametrize("suffix", ["." + "x" * 300, ".m\0p", ".m/p", ""])
def test_a_member_may_be_called_anything(tmp_path: Path, suffix: str) -> None:
    [path] = write_clips(tmp_path, 1)
    row = Row("a.tar", member=Member(f"1{suffix}", 0, 1))
    assert decode_bytes(path.read_bytes(), row, 3, PREPROCESSING).shape == (3, 32, 32, 3)


def test_images_are_clips_of_one_frame(tmp_path: Path) -> None:
    paths = write_pictures(tmp_path, 2)
    Image.fromarray(np.full((8, 8), 7, np.uint8), mode="L").save(tmp_path / "grey.png")
    rows = [{"image": paths[0].name}, {"image": paths[1].name}, {"image": "grey.png"}]
    source = open_source(Tier("t", "noisy", media="image", table=write_jsonl(tmp_path / "c.jsonl", rows)))
    expected = PREPROCESSING.apply(np.array(Image.open(paths[1])))
    assert same(source.read(1, 8, PREPROCESSING), expected[None])
    assert same(source.read(2, 8, PREPROCESSING), np.full((1, 32, 32, 3), 7, np.uint8))
    write_tar(tmp_path / "a.tar", [("x.png", paths[1].read_bytes()), ("x.txt", b"x")])
    shards = open_source(Tier("t", "noisy", media="image", shards=(str(tmp_path / "a.tar"),)))
    assert same(shards.read(0, 8, PREPROCESSING), expected[None])


def test_pictures_taken_sideways_are_set_upright(tmp_path: Path) -> None:
    picture = Image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3))
    exif = picture.getexif()
    exif[0x0112] = 3  # upside down
    picture.save(tmp_path / "a.png", exif=exif)
    table = write_jsonl(tmp_path / "c.jsonl", [{"image": "a.png"}])
    source = open_source(Tier("t", "noisy", media="image", table=table))
    assert same(source.read(0, 1, Preprocessing(4))[0], np.asarray(picture)[::-1, ::-1])


@pytest.mark.parametrize("content", [b"", b"garbage" * 50, None])
@pytest.mark.parametrize("media", ["video", "image"])
def test_what_cannot_be_read_is_named(tmp_path: Path, media: str, content: bytes | None) -> None:
    name = "b.mp4" if media == "video" else "b.jpg"
    if content is not None:
        (tmp_path / name).write_bytes(content)
    (tmp_path / "there.mp4").write_bytes(b"x")
    rows = [{"video": name}, {"video": "there.mp4"}]
    source = open_source(Tier("t", "noisy", media=media, table=write_jsonl(tmp_path / "c.jsonl", rows)))
    with pytest.raises(UnreadableVideo) as caught:
        source.read(0, 4, PREPROCESSING)
    assert caught.value.path == str(tmp_path / name)


def test_a_damaged_member_is_named_by_shard_and_member(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", [("x/1.mp4", b"garbage" * 99)])
    source = open_source(Tier("t", "noisy", shards=(str(tmp_path / "a.tar"),)))
    with pytest.raises(UnreadableVideo) as caught:
        source.read(0, 4, PREPROCESSING)
    assert caught.value.path == f"{tmp_path}/a.tar/x/1.mp4"
    assert "/tmp" not in caught.value.reason
    (tmp_path / "a.tar").write_bytes((tmp_path / "a.tar").read_bytes()[:600])
    with pytest.raises(UnreadableVideo, match="the shard ends"):
        source.read(0, 4, PREPROCESSING)


def synthetic(media: str = "video", quality: str = "clean", **fields: object) -> Tier:
    return Tier("w", quality, media=media, synthetic=SyntheticSpec(**fields))


def test_the_synthetic_world(tmp_path: Path) -> None:
    source = open_source(synthetic(seed=3, split="try", objects="held_out", length=40))
    assert len(source) == 40
    clip = SyntheticWorld(3, "try", 32, 8, HELD_OUT_OBJECTS).clip(5)
    row = source.row(5)
    assert row.labels == {"object": clip.object_name, "motion": clip.motion}
    assert clip.object_name in row.caption
    assert same(source.read(5, 8, PREPROCESSING), clip.frames)
    assert source.row(5) == row
    coarse = open_source(synthetic(seed=3, size=16)).read(5, 8, PREPROCESSING)
    assert coarse.shape == (8, 32, 32, 3)


def test_one_frame_of_a_synthetic_clip() -> None:
    source = open_source(Tier("world", "clean", synthetic=SyntheticSpec(size=16, length=4)))
    assert source.read(0, 1, Preprocessing(16)).shape == (1, 16, 16, 3)


def test_synthetic_images(tmp_path: Path) -> None:
    source = open_source(synthetic(media="image", length=5))
    frames, row = source.read(2, 8, PREPROCESSING), source.row(2)
    assert frames.shape == (1, 32, 32, 3)
    assert row.labels.keys() == {"object"}
    assert row.labels["object"] in row.caption


def test_synthetic_captions_have_the_quality_asked_for() -> None:
    clean, noisy = open_source(synthetic()), open_source(synthetic(quality="noisy"))
    names = [clean.row(number).labels["object"] in clean.row(number).caption for number in range(60)]
    assert all(names)
    right = sum(noisy.row(number).labels["object"] in noisy.row(number).caption for number in range(60))
    assert 10 < right < 50
    asked = open_source(synthetic(quality="noisy", captions="clean"))
    assert [asked.row(n).caption for n in range(9)] == [clean.row(n).caption for n in range(9)]
    assert caption_of("red star", "", "clean", np.random.default_rng(0))


def test_the_world_of_a_tier_can_be_narrow_and_clean() -> None:
    fields = {"spread": 0.2, "distractors": 0, "neighbours": 0.0, "background_contrast": 0.0}
    source = open_source(synthetic(seed=3, split="try", objects="seen", **fields))
    drawn = SyntheticWorld(
        3, "try", 32, 8, SEEN_OBJECTS, distractors=0, neighbours=0.0, background_contrast=0.0, spread=(0.2, 0.2)
    )
    assert same(source.read(5, 8, PREPROCESSING), drawn.clip(5).frames)
    assert source.digest != open_source(synthetic(seed=3, split="try", objects="seen")).digest


def test_every_second_clip_may_be_the_one_before_played_backwards() -> None:
    source = open_source(
        Tier("w", "clean", together=4, synthetic=SyntheticSpec(seed=3, reversals=True, motion_share=1))
    )
    reversed_pairs = 0
    for number in range(0, 60, 2):
        first, second = source.row(number).labels, source.row(number + 1).labels
        assert first["object"] == second["object"]
        if OPPOSITE[first["motion"]] != first["motion"]:
            reversed_pairs += 1
            assert second["motion"] == OPPOSITE[first["motion"]] and second["motion"] in source.row(number + 1).caption
            one, other = (source.read(place, 8, PREPROCESSING) for place in (number, number + 1))
            assert same(one[::-1], other) and not same(one, other)
    assert 10 < reversed_pairs < 30


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_captions_name_the_motion_as_often_as_is_asked(share: float) -> None:
    source = open_source(synthetic(motion_share=share))
    assert [row.labels["motion"] in row.caption for row in map(source.row, range(50))] == [bool(share)] * 50


def test_digests_of_before_worlds_could_be_narrow_stay() -> None:
    digest = "40f21e1fc73ed8bf083bc5779073f8a3bfaf4da88df08e74a8ebf0a5f39a98d1"
    assert open_source(synthetic(seed=1, split="clean_clips", objects="seen", length=50000)).digest == digest


def test_digests_tell_worlds_apart() -> None:
    tiers = [synthetic(), synthetic(seed=1), synthetic(quality="noisy"), synthetic(media="image"), synthetic(length=9)]
    digests = [open_source(tier).digest for tier in tiers]
    assert len(set(digests)) == 5
    assert open_source(synthetic()).digest == digests[0]


def test_a_hub_tier_has_no_random_access() -> None:
    with pytest.raises(InputError, match="tier 'h' streams from the Hub"):
        open_source(Tier("h", "noisy", hub=HubSpec("org/name")))


def test_a_row_outside_the_video(tmp_path: Path) -> None:
    write_clips(tmp_path, 1)
    table = write_jsonl(tmp_path / "c.jsonl", [{"video": "000.mp4", "start": 9, "end": 10}])
    source = open_source(Tier("t", "noisy", table=table))
    assert source.row(0) == Row(str(tmp_path / "000.mp4"), 9.0, 10.0)
    with pytest.raises(UnreadableVideo, match="starts at 9 s"):
        source.read(0, 4, PREPROCESSING)


def test_a_place_for_temporary_files_that_takes_none_is_no_damaged_clip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [path] = write_clips(tmp_path, 1)
    write_tar(tmp_path / "a.tar", [(path.name, path.read_bytes())])
    source = open_source(Tier("t", "noisy", shards=(str(tmp_path / "a.tar"),)))
    monkeypatch.setattr(tempfile, "tempdir", str(path))  # a file: no folder can be made in it
    with pytest.raises(InputError, match=r"000\.mp4: cannot be written") as caught:
        source.read(0, 4, PREPROCESSING)
    assert not isinstance(caught.value, UnreadableVideo) and "\n" not in str(caught.value)


@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="no limits of this kind")
def test_no_room_in_any_place_for_temporary_files_is_no_damaged_clip(tmp_path: Path) -> None:
    [path] = write_clips(tmp_path, 1)
    code = f"""
        import resource, signal
        from pathlib import Path
        from core_encoder.errors import InputError
        from core_encoder.preprocessing import Preprocessing
        from pretrain.corpus.rows import Row
        from pretrain.corpus.sources import decode_bytes
        content = Path({str(path)!r}).read_bytes()
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        try:
            decode_bytes(content, Row("a.tar/1.mp4"), 4, Preprocessing(32))
        except InputError as error:
            print(error)
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    run = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
    assert "free space there, or let TMPDIR name" in run.stdout and run.stdout.count("\n") == 1
