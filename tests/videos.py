"""Real H.264 videos for the tests, written by PyAV."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def write_video(path: Path, frames: np.ndarray, fps: int = 16, crf: int = 12, gop: int = 12, bframes: int = 0) -> Path:
    """Write uint8 frames `(T, H, W, 3)` as a real H.264 file."""
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.width, stream.height = frames.shape[2], frames.shape[1]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.gop_size = gop
        stream.options = {"crf": str(crf), "preset": "ultrafast", "bf": str(bframes), "threads": "1"}
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        container.mux(stream.encode())
    return path


def moving_square(num_frames: int = 24, height: int = 64, width: int = 96, seed: int = 0) -> np.ndarray:
    """Frames `(T, H, W, 3)` of a bright square that moves over a seeded background: every frame differs."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(30, 160, (max(height // 16, 1), max(width // 16, 1), 3))
    background = np.kron(coarse, np.ones((16, 16, 1), dtype=np.int64)).astype(np.uint8)
    background = np.resize(background, (height, width, 3))
    side = max(height // 4, 2)
    frames = np.repeat(background[None], num_frames, axis=0)
    color = rng.integers(180, 255, 3)
    for t in range(num_frames):
        x = (t * (width - side)) // max(num_frames - 1, 1)
        frames[t, height // 3 : height // 3 + side, x : x + side] = color
    return frames
