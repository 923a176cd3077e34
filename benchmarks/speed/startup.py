"""How long a command takes that has next to nothing to do, against `import torch` alone.

    python -m benchmarks.speed.startup --json startup.json

Every run is a process of its own, on features that are cached; the videos of the small task are written first.
"""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.speed.timing import Report, arguments, take_turns

TORCH = "import torch"
LIGHTNING = "import torch, lightning"
_PRISMHUB = "from prismhub.cli import main; main()"
_LOAD = "from adapters import load_adapter; load_adapter('x')"
_WRITE = """
import sys
from pretrain.world.synthetic_world import write_dataset
write_dataset(sys.argv[1], clips_per_class={"train": 2, "val": 1, "test": 1})
"""


def main() -> None:
    options = arguments("Commands with next to nothing to do, against `import torch`.", rounds=7).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder, "videos")
        surroundings = {"PRISMHUB_HOME": str(Path(folder, "home")), "OMP_NUM_THREADS": str(options.threads)}
        environment = {**os.environ, **surroundings}
        _python(environment, _WRITE, str(data))
        train = ["train", "--data", str(data), "--encoder", "nano", "--epochs", "1", "--name", "x", "--quiet"]
        _python(environment, _PRISMHUB, *train)
        video = str(next(data.glob("test/*/*.mp4")))
        saved = ["--adapter", "x", "--quiet"]
        commands = {
            TORCH: (TORCH,),
            LIGHTNING: (LIGHTNING,),
            "prismhub --help": (_PRISMHUB, "--help"),
            "a path that is not there": (_PRISMHUB, "predict", str(Path(folder, "none.mp4")), *saved),
            "load_adapter": (_LOAD,),
            "prismhub predict": (_PRISMHUB, "predict", video, *saved),
            "prismhub evaluate": (_PRISMHUB, "evaluate", "--data", str(data), *saved),
            "prismhub train": (_PRISMHUB, *train, "--restart"),
        }
        runs = {name: functools.partial(_python, environment, *words) for name, words in commands.items()}
        timings = take_turns(runs, options.rounds)
    report = Report("start-up", timings, {"encoder": "nano", "threads": options.threads, "rounds": options.rounds})
    report.at_most("prismhub --help, seconds", timings.median_s("prismhub --help"), 0.5)
    report.at_most("a path that is not there, seconds", timings.median_s("a path that is not there"), 1)
    for name, bound in (
        ("load_adapter", 2),
        ("prismhub predict", 2),
        ("prismhub evaluate", 2),
        ("prismhub train", 2.6),
    ):
        report.at_most(f"{name} / {TORCH}", timings.ratio(name, TORCH), bound)
    report.note(f"{LIGHTNING} / {TORCH}", timings.ratio(LIGHTNING, TORCH))
    report.note(f"prismhub train / {LIGHTNING}", timings.ratio("prismhub train", LIGHTNING))
    report.publish(options.json)


def _python(environment: dict[str, str], code: str, *words: str) -> None:
    done = subprocess.run([sys.executable, "-c", code, *words], env=environment, capture_output=True, text=True)
    if done.returncode not in (0, 2):  # 2: the command that names no video
        raise SystemExit(f"{' '.join(words)} ended with {done.returncode}: {done.stderr}")


if __name__ == "__main__":
    main()
