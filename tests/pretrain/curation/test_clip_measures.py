"""One clip's measures on real files, against a plain recomputation."""

from __future__ import annotations

import hashlib
import itertools
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from core_encoder.errors import UnreadableVideo
from core_encoder.preprocessing import Preprocessing
from pretrain.corpus.rows import Member, Row
from pretrain.curation.clip_measures import count_words, file_digest, look_at_image, look_at_video, motion_magnitude
from pretrain.world.synthetic_world import write_video
from tests.videos import moving_square


@pytest.mark.parametrize(
    ("caption", "words"),
    [
        ("", 0),
        ("a dog's ball", 3),
        ("A red-hot star, moving!", 5),
        ("12345", 1),
        ("один два", 2),
        ("一只狗在跑", 5),
        ("犬 runs", 2),
        ("... -- !!", 0),
        ("x" * 10_000, 1),
    ],
)
def test_words(caption: str, words: int) -> None:
    assert count_words(caption) == words


def test_motion_is_the_mean_difference_in_grey() -> None:
    still = np.full((4, 8, 8, 3), 90, np.uint8)
    assert motion_magnitude(still) == 0
    assert motion_magnitude(still[:1]) is None
    blink = still.copy()
    blink[::2], blink[1::2] = 0, 255
    assert motion_magnitude(blink) == pytest.approx(1.0)
    frames = np.random.default_rng(0).integers(0, 256, (5, 6, 6, 3), dtype=np.uint8)
    grey = 0.299 * frames[..., 0] + 0.587 * frames[..., 1] + 0.114 * frames[..., 2]
    expected = np.mean([np.abs(b - a).mean() for a, b in itertools.pairwise(grey)]) / 255
    assert motion_magnitude(frames) == pytest.approx(expected, rel=1e-5)


def test_a_look_at_a_video(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", moving_square(16, 48, 48), fps=8)
    still = write_video(tmp_path / "still.mp4", moving_square(16, 48, 48)[:1].repeat(16, axis=0), fps=8)
    look = look_at_video(Row(str(path)), 4, Preprocessing(12))
    assert look.duration_s == pytest.approx(2.0)
    assert look.frames is not None
    assert (look.frames.shape, look.num_real) == ((4, 12, 12, 3), 4)
    motion = look_at_video(Row(str(still))).motion
    assert look.motion is not None and motion is not None
    assert motion < 0.001 < 0.02 < look.motion
    assert look_at_video(Row(str(path), 0.5, 99.0)).duration_s == pytest.approx(1.5)
    short = look_at_video(Row(str(path), 0.0, 0.25), 4, Preprocessing(12))
    assert short.num_real == 2
    with pytest.raises(UnreadableVideo, match="starts at 9 s"):
        look_at_video(Row(str(path), 9.0))


def test_members_of_a_tar_are_measured_as_files(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", moving_square(8, 32, 32), fps=8)
    shard = tmp_path / "s.tar"
    with tarfile.open(shard, "w") as tar:
        tar.add(path, "x/0001.mp4")
    with tarfile.open(shard) as tar:
        entry = tar.getmember("x/0001.mp4")
    row = Row(str(shard), member=Member(entry.name, entry.offset_data, entry.size))
    alone = Row(str(path))
    assert file_digest(row) == file_digest(alone) == hashlib.sha256(path.read_bytes()).hexdigest()
    assert look_at_video(row) == look_at_video(alone)
    cut = Row(str(shard), member=Member(entry.name, entry.offset_data, 10**9))
    with pytest.raises(UnreadableVideo, match="before this member does"):
        file_digest(cut)


def test_a_look_at_an_image(tmp_path: Path) -> None:
    Image.fromarray(moving_square(1, 24, 24)[0]).save(tmp_path / "a.png")
    look = look_at_image(Row(str(tmp_path / "a.png")), Preprocessing(12))
    assert (look.duration_s, look.motion, look.num_real) == (0.0, None, 1)
    assert look.frames is not None
    assert look.frames.shape == (1, 12, 12, 3)
    (tmp_path / "b.png").write_bytes(b"no image")
    with pytest.raises(UnreadableVideo):
        look_at_image(Row(str(tmp_path / "b.png")))
