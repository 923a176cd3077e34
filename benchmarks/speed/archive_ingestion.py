"""An hour of video into an archive, cut at its shots, against `prismhub encode` of the same scenes.

    python -m benchmarks.speed.archive_ingestion --json archive_ingestion.json
    python -m benchmarks.speed.archive_ingestion --video street.mp4 --minutes 10

The file is `--video` repeated without encoding it anew until it is `--minutes` long; by default ten seconds of the
synthetic world at 640 x 272. `prismhub index` decodes every frame once for shot boundaries, pictures and vectors, and
writes features and archive; `prismhub encode` reads the same scenes from a list and writes the same features. Both are
processes of their own, on all cores, with a store of their own. Processor time says more than the clock where other
work is done beside.
"""

from __future__ import annotations

import csv
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from benchmarks.speed.long_video import REPEAT, WRITE, run
from benchmarks.speed.timing import Report, arguments, take_turns
from core_encoder.video.decoders import open_video


def main() -> None:
    parser = arguments("An hour into an archive against encoding the same scenes.", rounds=3)
    parser.add_argument("--video", type=Path, help="what to repeat (default: ten drawn seconds)")
    parser.add_argument("--minutes", type=float, default=60, help="how long the file becomes")
    parser.add_argument("--encoder", default="nano", help="encoder of both")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        video = options.video
        if video is None:
            video = folder / "drawn.mp4"
            subprocess.run([sys.executable, "-c", WRITE, str(video)], check=True)
        path = folder / "long" / "long.mp4"
        path.parent.mkdir()
        subprocess.run([sys.executable, "-c", REPEAT, video, str(60 * options.minutes), path], check=True)
        with open_video(path, "pyav") as opened:
            facts = opened.facts
        prismhub = [sys.executable, "-m", "prismhub"]
        places = iter(folder / f"place-{number}" for number in range(1000))
        peaks_mb: list[float] = []
        busy_s: dict[str, list[float]] = {"prismhub encode": [], "prismhub index": []}

        def counted(name: str, work: Callable[[], object]) -> None:
            before = os.times()
            work()
            after = os.times()
            used = after.children_user + after.children_system - before.children_user - before.children_system
            busy_s[name].append(used)

        def index(place: Path) -> None:
            own = ["--encoder", options.encoder, "--out", place / "archive", "--store", place / "store"]
            peaks_mb.append(run([*prismhub, "index", path, *own, "--quiet"], folder))

        first = next(places)
        index(first)
        scenes = _list_scenes(first / "archive" / "scenes.sqlite", path, folder / "scenes.csv")
        peaks_mb.clear()
        encode = [*prismhub, "encode", folder / "scenes.csv", "--kind", "embedding", "--encoder", options.encoder]
        timings = take_turns(
            {
                "prismhub encode": lambda: counted(
                    "prismhub encode", lambda: run([*encode, "--quiet", "--store", next(places) / "store"], folder)
                ),
                "prismhub index": lambda: counted("prismhub index", lambda: index(next(places))),
            },
            options.rounds,
            warm_up=False,
        )
    report = Report(
        "archive_ingestion",
        timings,
        {
            "seconds": round(facts.duration_s),
            "pixels": f"{facts.width}x{facts.height}",
            "scenes": scenes,
            "encoder": options.encoder,
        },
    )
    report.at_most("times the encoding", timings.ratio("prismhub index", "prismhub encode"), 1.3)
    seconds = {name: statistics.median(several) for name, several in busy_s.items()}
    report.note("times the encoding, by processor time", seconds["prismhub index"] / seconds["prismhub encode"])
    report.note("times real time", facts.duration_s / timings.median_s("prismhub index"))
    report.note("most memory of it, MB", max(peaks_mb))
    report.publish(options.json)


def _list_scenes(database: Path, video: Path, file: Path) -> int:
    """Write the scenes of an archive as a list that `encode` reads; how many there are."""
    with closing(sqlite3.connect(database)) as archive:
        rows = archive.execute("SELECT start_s, end_s FROM scenes ORDER BY start_s").fetchall()
    with file.open("w", newline="") as out:
        csv.writer(out).writerows([("video", "start", "end"), *((video, start_s, end_s) for start_s, end_s in rows)])
    return len(rows)


if __name__ == "__main__":
    main()
