"""What the engine ray costs on one machine: `prismhub encode --engine ray` against the plain command.

    python -m benchmarks.speed.ray_engine --json ray_engine.json

Each run is a process of its own with an empty store. Ray is started and stopped within the command; what that takes,
whatever the work is, is measured by a run of one clip and told apart.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.speed.timing import Report, Timings, arguments
from benchmarks.speed.videos import write_videos

_ENCODE = "from prismhub.cli import main; main()"
_ENGINES = {"plain": (), "ray": ("--engine", "ray")}


def main() -> None:
    parser = arguments("`prismhub encode` by the workers of a local Ray against one process.", rounds=3)
    parser.add_argument("--clips", type=int, default=2000)
    options = parser.parse_args()
    seconds: dict[str, list[float]] = {name: [] for engine in _ENGINES for name in (engine, f"{engine}, one clip")}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_videos(folder / "many", options.clips)
        write_videos(folder / "one", 1)
        for number in range(options.rounds):
            for engine in list(_ENGINES)[:: -1 if number % 2 else 1]:
                for which, label in (("many", engine), ("one", f"{engine}, one clip")):
                    home = folder / f"home {number} {label}"
                    seconds[label].append(_encode(folder / which, home, engine, options.threads))
    timings = Timings({label: tuple(values) for label, values in seconds.items()})
    settings = {"encoder": "nano", "clips": options.clips, "rounds": options.rounds, "threads": options.threads}
    report = Report("the engine ray on one machine", timings, settings)
    report.at_most("ray against plain, the whole command", timings.ratio("ray", "plain"), 1.15)
    beyond = {
        engine: timings.median_s(engine) - timings.median_s(f"{engine}, one clip") for engine in _ENGINES
    }  # without what starting takes
    report.at_most("ray against plain, without starting and stopping", beyond["ray"] / beyond["plain"], 1.15)
    report.note("starting and stopping ray, s", timings.median_s("ray, one clip") - timings.median_s("plain, one clip"))
    report.publish(options.json)


def _encode(videos: Path, home: Path, engine: str, threads: int) -> float:
    """Seconds of one `prismhub encode`."""
    environment = {**os.environ, "PRISMHUB_HOME": str(home), "OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, "-c", _ENCODE, "encode", str(videos), "--encoder", "nano", "--quiet", *_ENGINES[engine]]
    started = time.perf_counter()
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
