"""Frames that are read through and held: the same pixels as by seeking, however little is held."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from core_encoder.preprocessing import Preprocessing
from core_encoder.video.decoders import open_video
from core_encoder.video.held_frames import HeldFrames
from core_encoder.video.pyav_reader import PyAVReader
from tests.videos import moving_square, write_video


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("held") / "a.mp4", moving_square(40), gop=8, bframes=2)


@pytest.mark.parametrize("max_bytes", [0, 40_000, 1 << 30], ids=["nothing", "some", "all"])
@pytest.mark.parametrize("decoder", ["pyav", "decord"])
def test_no_pixel_depends_on_what_is_held(path: Path, max_bytes: int, decoder: str) -> None:
    with open_video(path, decoder) as video:
        wanted = video.read(range(40))
        small = video.read([3, 17, 39], Preprocessing(48))
    with open_video(path, decoder) as video, HeldFrames(video, lambda: open_video(path, decoder), max_bytes) as held:
        for index in range(40):
            frame = held.hold(index)
            assert frame is not None
            np.testing.assert_array_equal(frame.rgb(), wanted[index])
            if index == 19:
                np.testing.assert_array_equal(held.read([17, 3, 17]), wanted[[17, 3, 17]])
                held.let_go(10)
        np.testing.assert_array_equal(held.read([3, 17, 39], Preprocessing(48)), small)
        assert held.num_again >= 1, "frame 3 was let go"
        assert (held.num_again == 1) == (max_bytes > 1 << 20)


def test_reading_through_never_seeks(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_video(path, "pyav") as video:
        video.decode(0)
        monkeypatch.setattr(PyAVReader, "_seek", lambda *_: pytest.fail("a seek costs the frames that are under way"))
        for index in range(1, 40):
            video.decode(index)


def test_a_small_picture_shows_the_same(path: Path) -> None:
    with open_video(path, "pyav") as video, open_video(path, "decord") as other:
        frame, pixels = video.decode(9), other.decode(9)
        assert frame.small(48).shape == pixels.small(48).shape == (32, 48, 3)
        assert np.abs(frame.small(48).astype(int) - pixels.small(48)).mean() < 3
        np.testing.assert_array_equal(frame.small(500), frame.rgb())
        assert frame.nbytes < pixels.nbytes, "frames are held as they come from the decoder, not as RGB"


def test_a_damaged_frame_costs_itself(tmp_path: Path) -> None:
    """Frames behind it are still shown; whoever reads it is told as by any reader."""
    whole = write_video(tmp_path / "a.mp4", moving_square(48, seed=3), gop=8)
    data = bytearray(whole.read_bytes())
    at = data.index(b"mdat") + len(data) // 2
    data[at : at + 60] = b"\xff" * 60
    broken = tmp_path / "b.mp4"
    broken.write_bytes(data)
    with open_video(broken, "pyav") as video, HeldFrames(video, lambda: open_video(broken, "pyav"), 1 << 30) as held:
        found = [held.hold(index) for index in range(48)]
    missing = [index for index, frame in enumerate(found) if frame is None]
    assert missing and len(missing) <= 16 and found[-1] is not None
