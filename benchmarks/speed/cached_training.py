"""The second training on the same videos against the first: no frame is decoded, no clip encoded.

    python -m benchmarks.speed.cached_training --json cached_training.json

Each run is a `prismhub train` of its own; the second asks for another head, so that only the features are shared.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.speed.timing import Report, Timings, arguments
from pretrain.world.synthetic_world import DEMO_CLASSES, DEMO_CLIPS

_WRITE = "import sys; from pretrain.world.synthetic_world import write_dataset; write_dataset(sys.argv[1])"
_TRAIN = "from prismhub.cli import main; main()"


def main() -> None:
    options = arguments("A second training on the same videos against the first.", rounds=3).parse_args()
    seconds: dict[str, list[float]] = {"first training": [], "second training": []}
    decoded: dict[str, list[int]] = {name: [] for name in seconds}
    with tempfile.TemporaryDirectory() as folder:
        videos = Path(folder, "videos")
        subprocess.run([sys.executable, "-c", _WRITE, str(videos)], check=True)
        for number in range(options.rounds):
            home = Path(folder, f"home {number}")
            for name, dropout in zip(seconds, ("0.5", "0.4"), strict=True):
                started = time.perf_counter()
                done = _train(videos, home, dropout, options.threads)
                seconds[name].append(time.perf_counter() - started)
                decoded[name].append(int(done["frames_decoded"]))
    clips = len(DEMO_CLASSES) * sum(DEMO_CLIPS.values())
    timings = Timings({name: tuple(values) for name, values in seconds.items()})
    report = Report("prismhub train twice", timings, {"encoder": "nano", "clips": clips, "threads": options.threads})
    report.note("frames decoded by the first training", max(decoded["first training"]))
    report.at_most("frames decoded by the second training", max(decoded["second training"]), 0)
    report.note("first / second, whole command", timings.ratio("first training", "second training"))
    report.publish(options.json)


def _train(videos: Path, home: Path, dropout: str, threads: int) -> dict[str, Any]:
    environment = {**os.environ, "PRISMHUB_HOME": str(home), "OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, "-c", _TRAIN, "train", "--data", str(videos), "--encoder", "nano", "--epochs", "2"]
    command += ["--name", "x", "--head", f"dropout={dropout}", "--quiet", "--json"]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
    return dict(json.loads(done.stdout))


if __name__ == "__main__":
    main()
