"""What counts as a video in memory, and what becomes of its pixels."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch

from core_encoder.array_videos import array_videos, is_array
from core_encoder.errors import InputError
from tests.videos import moving_square

FRAMES = moving_square(5, 12, 20)  # uint8 (5, 12, 20, 3)
FLOATS = np.moveaxis(FRAMES, -1, 1)[None].astype(np.float32) / 255  # (1, 5, 3, 12, 20)


@pytest.mark.parametrize(
    "given",
    [
        FRAMES,
        torch.from_numpy(FRAMES),
        FRAMES[..., ::-1][..., ::-1],
        FRAMES[None],
        FLOATS,
        FLOATS.astype(np.float64),
        torch.from_numpy(FLOATS).requires_grad_(),
        torch.from_numpy(FLOATS).bfloat16(),
        torch.from_numpy(FLOATS).half(),
    ],
    ids=lambda given: f"{type(given).__name__} {given.dtype} {given.ndim}",
)
def test_every_form_of_one_video_holds_the_same_frames(given: Any) -> None:
    [video] = array_videos([given])
    assert video.name == "0" and video.frames.dtype == np.uint8
    assert np.array_equal(video.frames, FRAMES)
    facts = video.facts
    assert (facts.num_frames, facts.duration_s, facts.width, facts.height) == (5, 5.0, 20, 12)


def test_videos_are_numbered_through_arrays_of_several() -> None:
    other = moving_square(3, 8, 8, seed=1)
    videos = array_videos([np.stack([FRAMES, FRAMES[::-1]]), other, np.concatenate([FLOATS, FLOATS])])
    assert [video.name for video in videos] == ["0", "1", "2", "3", "4"]
    assert np.array_equal(videos[1].frames, FRAMES[::-1]) and np.array_equal(videos[2].frames, other)
    assert array_videos([FLOATS[:0]]) == [] and array_videos([]) == []


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (FRAMES[0], r"uint8 \(12, 20, 3\)"),
        (np.moveaxis(FRAMES, -1, 1), r"uint8 \(5, 3, 12, 20\)"),
        (FRAMES.astype(np.int64), r"int64 \(5, 12, 20, 3\)"),
        (FRAMES / 255, r"float64 \(5, 12, 20, 3\)"),
        (FLOATS[0], r"float32 \(5, 3, 12, 20\)"),
        (np.moveaxis(FLOATS, 2, 1), r"float32 \(1, 3, 5, 12, 20\)"),
        (torch.zeros(2, 4, 8, 8, 3), r"not float32 \(2, 4, 8, 8, 3\)"),
        (FRAMES[:0], "without frames"),
        (FLOATS[:, :0], "without frames"),
        (FRAMES[:, :, :0], "without frames or pixels"),
        (FLOATS * 255, "divide grey levels by 255"),
        (FLOATS - 0.5, r"in \[0, 1\], but these reach from -0"),
        (FLOATS * np.nan, "reach from nan to nan"),
    ],
)
def test_anything_else_is_refused_with_what_is_expected(given: Any, says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        array_videos([FRAMES, given])
    assert "array 1: " in str(caught.value) and "\n" not in str(caught.value)


def test_floats_may_overshoot_by_their_rounding() -> None:
    [video] = array_videos([np.full((1, 2, 3, 4, 4), 1 + 1e-4, np.float32)])
    assert (video.frames == 255).all()


def test_what_is_an_array() -> None:
    assert is_array(FRAMES) and is_array(torch.zeros(1)) and is_array(FRAMES[0, 0, 0])
    for other in ("a.mp4", ["a.mp4"], np.array(["a.mp4"]), np.array([None]), None, 3):
        assert not is_array(other)


def test_arrays_need_no_torch() -> None:
    code = (
        "import sys, numpy; from core_encoder.array_videos import array_videos\n"
        "array_videos([numpy.zeros((2, 4, 4, 3), numpy.uint8)]); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
