"""What a curator measures of one clip: its length, its caption's length, its motion, what its bytes are."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from core_encoder.clip_plan import Clip, ClipPlan
from core_encoder.preprocessing import Preprocessing
from core_encoder.video.decoders import open_video
from core_encoder.video.video_files import video_digest
from pretrain.corpus.rows import Row
from pretrain.corpus.sources import Source, as_file, member_bytes, read_image

MOTION_FRAMES = 8  # evenly spaced over the clip, whatever its length
MOTION_PIXELS = 32  # side of the frames compared: noise and the codec's blocks average out

_GREY = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601
_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"  # kana and ideographs, which are written without spaces
_WORD = re.compile(rf"[{_CJK}]|[^\W_{_CJK}]+(?:['\u2019][^\W_{_CJK}]+)*")


@dataclass(frozen=True)
class ClipLook:
    """What one look at a clip's file gives.

    `frames` uint8 `(T, H, W, 3)` are for an encoder; those from `num_real` on are padding. `duration_s` is None for
    synthetic clips and 0 for images; `motion` is None for images.
    """

    duration_s: float | None
    motion: float | None
    frames: NDArray[np.uint8] | None = None
    num_real: int = 0


def count_words(caption: str) -> int:
    """Words of a caption: `a dog's ball` -> 3; each ideograph or kana counts as one."""
    return len(_WORD.findall(caption))


def motion_magnitude(frames: NDArray[np.uint8]) -> float | None:
    """How much a clip changes: the mean absolute difference in grey between neighbours among its frames.

    A fraction of the full range: 0 is a still picture, 1 black and white in turn. Camera motion and cuts count too.

    Args:
        frames: uint8 `(T, H, W, 3)`, small and evenly spaced over the clip.

    Returns:
        None for a single frame.
    """
    if len(frames) < 2:
        return None
    grey = frames.astype(np.float32) @ _GREY  # (T, H, W)
    return float(np.abs(np.diff(grey, axis=0)).mean() / 255)


def look_at_video(row: Row, num_frames: int = 0, preprocessing: Preprocessing | None = None) -> ClipLook:
    """Open the video of a row once: its duration, its motion, and with `preprocessing` frames for an encoder.

    Raises:
        UnreadableVideo: the file cannot be decoded, or the clip starts after its end.
    """
    with file_of(row) as path, open_video(path) as video:
        clip = Clip(str(path), row.start_s, row.end_s)
        [view] = ClipPlan(MOTION_FRAMES).views_of(video.facts, clip)
        small = video.read(view.frame_indices[: view.num_real], Preprocessing(MOTION_PIXELS, interpolation="bilinear"))
        look = ClipLook(view.end_s - view.start_s, motion_magnitude(small) or 0.0)
        if preprocessing is None:
            return look
        [view] = ClipPlan(num_frames).views_of(video.facts, clip)
        return ClipLook(
            look.duration_s, look.motion, video.read(view.frame_indices, preprocessing), num_real=view.num_real
        )


def look_at_image(row: Row, preprocessing: Preprocessing | None = None) -> ClipLook:
    """The same for an image, a clip of one frame.

    Raises:
        UnreadableVideo: the file is no image.
    """
    frames = read_image(row, preprocessing or Preprocessing(MOTION_PIXELS))
    return ClipLook(0.0, None, frames, num_real=1)


def look_at_drawing(source: Source, number: int, num_frames: int = 0, pre: Preprocessing | None = None) -> ClipLook:
    """The same for a clip of the synthetic world, which has no file and no duration."""
    small = source.read(number, MOTION_FRAMES, Preprocessing(MOTION_PIXELS))
    if pre is None:
        return ClipLook(None, motion_magnitude(small))
    frames = source.read(number, num_frames, pre)
    return ClipLook(None, motion_magnitude(small), frames, num_real=len(frames))


def file_digest(row: Row) -> str:
    """The sha256 of the bytes of a row's video or image, wherever they lie.

    Raises:
        UnreadableVideo: the file is missing or empty.
    """
    if row.member is None:
        return video_digest(row.video)
    return hashlib.sha256(member_bytes(row)).hexdigest()


@contextmanager
def file_of(row: Row) -> Iterator[Path]:
    """A path that decoders can open: for a member of a tar a file that lives as long as the block."""
    if row.member is None:
        yield Path(row.video)
        return
    with as_file(member_bytes(row), Path(row.member.name).suffix) as path:
        yield path
