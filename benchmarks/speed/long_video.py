"""An hour of video in dense windows, encoded by the command line, against decoding alone of the same file.

    python -m benchmarks.speed.long_video --json long_video.json
    python -m benchmarks.speed.long_video --video street.mp4 --minutes 10

The file is `--video` repeated without encoding it anew until it is `--minutes` long; by default ten seconds of the
synthetic world at 640 x 272. Decoding is `ffmpeg -i FILE -f null -` where ffmpeg is on the search path, else the same
libav through PyAV. Both use all cores. Both start as processes of their own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.speed.timing import Report, arguments, take_turns
from core_encoder.video.decoders import open_video

ENCODING = ("--sampling", "dense", "--fps", "4", "--window-stride", "4", "--kind", "clip", "--encoder", "nano")
WRITE = """
import sys, av
from pretrain.world.synthetic_world import SyntheticWorld
frames = SyntheticWorld(seed=0, size=640, num_frames=250).clip(0).frames[:, 184:456]
with av.open(sys.argv[1], "w") as file:
    stream = file.add_stream("libx264", rate=25, width=640, height=272, pix_fmt="yuv420p", options={"crf": "23"})
    for frame in frames:
        file.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
    file.mux(stream.encode())
"""
REPEAT = """
import sys, av
video, seconds = sys.argv[1], float(sys.argv[2])
with av.open(sys.argv[3], "w") as out:
    with av.open(video) as source:
        stream = out.add_stream_from_template(source.streams.video[0])
    start = end = 0  # of the repeat that is written, in units of the source's time base
    time_base = 0
    while start * time_base < seconds or not start:
        with av.open(video) as source:
            for packet in source.demux(source.streams.video[0]):
                if packet.pts is not None:
                    packet.pts, packet.dts = packet.pts + start, packet.dts + start
                    time_base, end = packet.time_base, max(end, packet.pts + packet.duration)
                    packet.stream = stream
                    out.mux(packet)
        start = end
"""
_DECODE = """
import sys, av
with av.open(sys.argv[1]) as file:
    file.streams.video[0].thread_type = "AUTO"
    for frame in file.decode(file.streams.video[0]):
        pass
"""


def run(command: Sequence[str | Path], home: Path) -> float:
    """Run a command to its end; the most memory it had, in MB."""
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(
        [*map(str, command)], env={**os.environ, "PRISMHUB_HOME": str(home)}, stdout=quiet, stderr=quiet
    )
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{command[0]} ended with exit code {process.returncode}")
    return used.ru_maxrss / 1000


def main() -> None:
    parser = arguments("Dense windows of a long video against decoding alone.", rounds=3)
    parser.add_argument("--video", type=Path, help="what to repeat (default: ten drawn seconds)")
    parser.add_argument("--minutes", type=float, default=60, help="how long the file becomes")
    options = parser.parse_args()
    ffmpeg = shutil.which("ffmpeg")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        video = options.video
        if video is None:
            video = folder / "drawn.mp4"
            subprocess.run([sys.executable, "-c", WRITE, str(video)], check=True)
        path = folder / "long.mp4"
        subprocess.run([sys.executable, "-c", REPEAT, video, str(60 * options.minutes), path], check=True)
        with open_video(path, "pyav") as opened:
            facts = opened.facts
        decode: list[str | Path] = [sys.executable, "-c", _DECODE, path]
        if ffmpeg:
            decode = [ffmpeg, "-v", "error", "-i", path, "-f", "null", "-"]
        encode: list[str | Path] = [Path(sys.executable).parent / "prismhub", "encode", path, *ENCODING, "--store"]
        stores = iter(folder / f"store-{number}" for number in range(1000))
        peaks_mb: list[float] = []
        timings = take_turns(
            {
                "decoding alone": lambda: run(decode, folder),
                "prismhub encode": lambda: peaks_mb.append(run([*encode, next(stores)], folder)),
            },
            options.rounds,
            warm_up=False,
        )
    report = Report(
        "long_video",
        timings,
        {
            "seconds": round(facts.duration_s),
            "pixels": f"{facts.width}x{facts.height}",
            "decoding": "ffmpeg" if ffmpeg else "PyAV",
        },
    )
    report.at_most("times the decoding", timings.ratio("prismhub encode", "decoding alone"), 1.4)
    report.note("times real time", facts.duration_s / timings.median_s("prismhub encode"))
    report.at_most("most memory of it, MB", max(peaks_mb), 600)
    report.publish(options.json)


if __name__ == "__main__":
    main()
