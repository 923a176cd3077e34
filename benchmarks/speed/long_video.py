"""An hour of video in dense windows, encoded by the command line, against decoding alone of the same file.

    python -m benchmarks.speed.long_video --json long_video.json
    python -m benchmarks.speed.long_video --video street.mp4 --minutes 10

The file is `--video` repeated without encoding it anew until it is `--minutes` long; by default ten seconds of the
synthetic world at 640 x 272. Decoding is `ffmpeg -i FILE -f null -` where ffmpeg is on the search path, else the same
libav through PyAV. Both use all cores. Both start as processes, so that the memory of each is its own.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import av

from benchmarks.speed.timing import Report, arguments, take_turns
from core_encoder.video.decoders import open_video

ENCODING = ("--sampling", "dense", "--fps", "4", "--window-stride", "4", "--kind", "clip", "--encoder", "nano")
_WRITE = """
import sys, av
from pretrain.world.synthetic_world import SyntheticWorld
frames = SyntheticWorld(seed=0, size=640, num_frames=250).clip(0).frames[:, 184:456]
with av.open(sys.argv[1], "w") as file:
    stream = file.add_stream("libx264", rate=25, width=640, height=272, pix_fmt="yuv420p", options={"crf": "23"})
    for frame in frames:
        file.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
    file.mux(stream.encode())
"""
_DECODE = """
import sys, av
with av.open(sys.argv[1]) as file:
    file.streams.video[0].thread_type = "AUTO"
    for frame in file.decode(file.streams.video[0]):
        pass
"""


def repeat(video: Path, seconds: float, path: Path) -> Path:
    """Write the packets of `video` over and over until the file is `seconds` long."""
    with av.open(str(path), "w") as out:
        with av.open(str(video)) as source:
            stream = out.add_stream_from_template(source.streams.video[0])
        start = 0  # of the repeat that is written, in units of the source's time base
        while True:
            end = start
            with av.open(str(video)) as source:
                for packet in source.demux(source.streams.video[0]):
                    if packet.pts is None or packet.dts is None or packet.duration is None:
                        continue
                    packet.pts, packet.dts = packet.pts + start, packet.dts + start
                    end = max(end, packet.pts + packet.duration)
                    packet.stream = stream
                    out.mux(packet)
                time_base = source.streams.video[0].time_base
            start = end
            if time_base is None or start * time_base >= seconds:
                break
    return path


def run(command: Sequence[str | Path], home: Path) -> None:
    subprocess.run(
        [*map(str, command)], check=True, env={**os.environ, "PRISMHUB_HOME": str(home)}, stderr=subprocess.DEVNULL
    )


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
            subprocess.run([sys.executable, "-c", _WRITE, str(video)], check=True)
        path = repeat(video, 60 * options.minutes, folder / "long.mp4")
        with open_video(path, "pyav") as opened:
            facts = opened.facts
        decode: list[str | Path] = [sys.executable, "-c", _DECODE, path]
        if ffmpeg:
            decode = [ffmpeg, "-v", "error", "-i", path, "-f", "null", "-"]
        encode: list[str | Path] = [Path(sys.executable).parent / "prismhub", "encode", path, *ENCODING, "--store"]
        stores = iter(folder / f"store-{number}" for number in range(1000))
        timings = take_turns(
            {
                "decoding alone": lambda: run(decode, folder),
                "prismhub encode": lambda: run([*encode, next(stores)], folder),
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
    peak_mb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1000
    report.at_most("most memory of a process, MB", peak_mb, 600)
    report.publish(options.json)


if __name__ == "__main__":
    main()
