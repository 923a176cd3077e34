"""Peak memory of `prismhub encode` with `nano` over 200 clips against 20.

    python -m benchmarks.speed.encode_memory --json encode_memory.json

Each run is a process of its own with an empty store; its peak is what the operating system counted for it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.speed.timing import Report, Timings, arguments
from benchmarks.speed.videos import write_videos

_ENCODE = "from prismhub.cli import main; main()"


def main() -> None:
    parser = arguments("Peak memory of an encoding of many clips against one of few.", rounds=3)
    parser.add_argument("--few", type=int, default=20)
    parser.add_argument("--many", type=int, default=200)
    options = parser.parse_args()
    counts = {f"{count} clips": count for count in (options.few, options.many)}
    peaks: dict[str, list[int]] = {name: [] for name in counts}
    seconds: dict[str, list[float]] = {name: [] for name in counts}
    with tempfile.TemporaryDirectory() as folder:
        for name, count in counts.items():
            write_videos(Path(folder, name), count)
        for number in range(options.rounds):
            for name in counts:
                home = Path(folder, f"home {number} {name}")
                peak, spent_s = _encode(Path(folder, name), home, options.threads)
                peaks[name].append(peak)
                seconds[name].append(spent_s)
    few, many = (sorted(values)[len(values) // 2] for values in peaks.values())
    timings = Timings({name: tuple(values) for name, values in seconds.items()})
    settings = {"encoder": "nano", "rounds": options.rounds, "threads": options.threads}
    report = Report("prismhub encode: peak memory", timings, settings)
    report.at_most(f"peak over {options.many} clips against {options.few}", many / few, 1.1)
    for name, values in peaks.items():
        report.note(f"peak over {name}, MiB", sorted(values)[len(values) // 2] / 2**20)
    report.publish(options.json)


def _encode(videos: Path, home: Path, threads: int) -> tuple[int, float]:
    """Peak memory in bytes and CPU seconds of one `prismhub encode`."""
    environment = {**os.environ, "PRISMHUB_HOME": str(home), "OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, "-c", _ENCODE, "encode", str(videos), "--encoder", "nano", "--quiet"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}")
    unit = 1 if sys.platform == "darwin" else 1024
    return usage.ru_maxrss * unit, usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
