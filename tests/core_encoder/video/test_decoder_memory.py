"""The memory that reading a few frames of a long, large video takes."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from core_encoder.video.decoders import has_decord


def write_ten_minutes_of_1080p(path: Path) -> None:
    """6000 frames of H.264 at 10 a second: one group of 100 pictures encoded once and repeated 60 times."""
    background = np.kron(np.random.default_rng(0).integers(0, 255, (27, 48, 3)), np.ones((40, 40, 1))).astype(np.uint8)
    encoder = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt = 1920, 1080, "yuv420p"
    encoder.time_base, encoder.framerate, encoder.gop_size = Fraction(1, 10), Fraction(10), 100
    encoder.options = {"preset": "ultrafast", "crf": "28", "threads": "1"}
    coded = []
    for t in range(100):
        background[:, 16 * t : 16 * t + 16] = (t, 255 - t, 128)
        coded += encoder.encode(av.VideoFrame.from_ndarray(background, format="rgb24"))
    coded += encoder.encode()
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 1920, 1080, "yuv420p"
        stream.codec_context.extradata = encoder.extradata
        for repeat in range(60):
            for t, packet in enumerate(coded):
                copy = av.Packet(bytes(packet))
                copy.stream, copy.time_base, copy.is_keyframe = stream, Fraction(1, 10), packet.is_keyframe
                copy.pts = copy.dts = 100 * repeat + t
                file.mux(copy)


GROWTH = """
import sys
from core_encoder.clip_plan import Clip, ClipPlan
from core_encoder.preprocessing import Preprocessing
from core_encoder.video.decoders import open_video, read_clip
import av, decord, torch
def peak_mib(line):
    return int(next(l for l in open("/proc/self/status") if l.startswith(line)).split()[1]) / 1024
Preprocessing(288).apply(__import__("numpy").zeros((480, 640, 3), "uint8"))
before = peak_mib("VmRSS")
frames = read_clip(Clip(sys.argv[1]), ClipPlan(16), Preprocessing(288), sys.argv[2])
with open_video(sys.argv[1], sys.argv[2]) as video:
    assert video.facts.num_frames == 6000 and abs(video.facts.duration_s - 600) < 1, video
assert frames.shape == (16, 288, 288, 3) and frames.std() > 10
print(peak_mib("VmHWM") - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's own account of memory")
def test_sixteen_frames_of_ten_minutes_of_1080p_stay_under_300_mb(tmp_path: Path) -> None:
    path = tmp_path / "long.mp4"
    write_ten_minutes_of_1080p(path)
    for decoder in ("decord", "pyav") if has_decord() else ("pyav",):
        command = [sys.executable, "-c", GROWTH, str(path), decoder]
        grown = float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        assert grown < 300, f"{decoder} grew by {grown:.0f} MiB"
