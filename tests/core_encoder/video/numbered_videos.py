"""Videos of many containers and codecs, in which every frame carries its own number."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from core_encoder.video.decoders import has_decord
from tests.videos import moving_square

N = 60
B_FRAMES = {"preset": "medium", "bf": "3"}
OPEN_GOP = B_FRAMES | {"x264-params": "open-gop=1:keyint=12:min-keyint=12:scenecut=0"}
DECODERS = [
    "pyav",
    pytest.param("decord", marks=pytest.mark.skipif(not has_decord(), reason="no decord")),
]


def numbered(num_frames: int = N, height: int = 64, width: int = 96) -> np.ndarray:
    """Frames `(T, H, W, 3)` whose number stands in the top row, in black and white squares of 8 pixels."""
    frames = moving_square(num_frames, height, width)
    for t in range(num_frames):
        for bit in range(10):
            frames[t, :8, 8 * bit : 8 * bit + 8] = 255 * ((t >> bit) & 1)
    return frames


def number(frame: np.ndarray) -> int:
    return sum(int(frame[4, 8 * bit + 4].mean() > 128) << bit for bit in range(10))


def write(
    path: Path,
    frames: np.ndarray,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    options: dict[str, str] | None = None,
    container: dict[str, str] | None = None,
    times_ms: Sequence[int] | None = None,
    rotation: int = 0,
    rate: int = 25,
    prepare: Callable[[Any], object] | None = None,
    piped: bool = False,
) -> Path:
    """Write frames as a file of any kind; `prepare` gets the stream, `piped` writes as into a pipe: nothing twice."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pipe = Pipe()
    format_name = {".webm": "webm", ".mkv": "matroska"}[path.suffix] if piped else None
    with av.open(pipe if piped else str(path), "w", format_name, options=container or {}) as file:
        stream = file.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], pixel_format
        stream.codec_context.gop_size = 12
        if times_ms is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        if rotation:
            stream.set_display_rotation(rotation)
        if prepare is not None:
            prepare(stream)
        stream.options = ({"crf": "12", "preset": "ultrafast"} if codec == "libx264" else {}) | (options or {})
        for t, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            if times_ms is not None:
                frame.pts, frame.time_base = int(times_ms[t]), Fraction(1, 1000)
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    if piped:
        path.write_bytes(pipe.written)
    return path


class Pipe(io.RawIOBase):
    """Takes bytes and cannot go back."""

    def __init__(self) -> None:
        self.written = bytearray()

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False

    def write(self, data: Any, /) -> int:
        self.written += data
        return len(data)


IRREGULAR_MS = np.cumsum(np.random.default_rng(0).integers(10, 100, N)).tolist()
FILES: dict[str, dict[str, Any]] = {
    "plain.mp4": {},
    "faststart.mp4": {"container": {"movflags": "faststart"}},
    "fragments.mp4": {"container": {"movflags": "frag_keyframe+empty_moov"}},
    "b_frames.mp4": {"options": B_FRAMES},
    "b_frames.mkv": {"options": B_FRAMES},
    "b_frames.avi": {"options": B_FRAMES},
    "b_frames.ts": {"options": B_FRAMES},
    "open_gop.mp4": {"options": OPEN_GOP},
    "open_gop.mkv": {"options": OPEN_GOP},
    "variable_rate.mp4": {"options": B_FRAMES, "times_ms": IRREGULAR_MS},
    "variable_rate.mkv": {"options": B_FRAMES, "times_ms": IRREGULAR_MS},
    "late_start.mp4": {"options": B_FRAMES, "times_ms": [5000 + 40 * t for t in range(N)]},
    "full_range.mp4": {"pixel_format": "yuvj420p"},
    "ten_bit.mp4": {"pixel_format": "yuv420p10le"},
    "interlaced.mp4": {"options": {"x264-params": "interlaced=1:tff=1"}},
    "mpeg4.avi": {"codec": "mpeg4"},
    "mpeg1.mpg": {"codec": "mpeg1video"},
    "mpeg2.ts": {"codec": "mpeg2video", "options": {"bf": "2"}},
    "flash.flv": {},
    "vp9.webm": {"codec": "libvpx-vp9", "options": {"cpu-used": "8", "deadline": "realtime"}},
    "Ein Vidéo 视频 (1).mp4": {"options": B_FRAMES},
}
