"""A store of a million `clip` records: how fast it is written and opened, its memory, and how fast keys are found.

    python -m benchmarks.speed.feature_store_million --json feature_store_million.json

A record is the mean of a clip's tokens at Base: 768 numbers, fp16. The store is opened in a process of its own, which
reports what it took and how much its memory grew; 256 random records are looked up and read at a time.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.speed.timing import Report, Timings, arguments
from core_encoder.clip_plan import ClipPlan
from core_encoder.features.feature_spec import ClipKey, FeatureKey, FeatureSpec, RecordInfo
from core_encoder.features.feature_store import FeatureStore
from core_encoder.preprocessing import Preprocessing

WIDTH, BATCH = 768, 256
SPEC = FeatureSpec("base", "0" * 64, ClipPlan(16), Preprocessing(288), "none", kind="clip")
_OPEN = """
import json, resource, sys, time
from benchmarks.speed.feature_store_million import SPEC
from core_encoder.features.feature_store import FeatureStore
def megabytes():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 1e6
before, started = megabytes(), time.perf_counter()
store = FeatureStore(sys.argv[1], SPEC)
count = len(store)
print(json.dumps([count, time.perf_counter() - started, megabytes() - before]))
"""


def key(number: int) -> FeatureKey:
    """The key of record `number`: random bits, as digests are."""
    return ClipKey(random.Random(number).randbytes(32).hex(), 0, -1).view(0)


def main() -> None:
    parser = arguments("A store of many small records.", rounds=5)
    parser.add_argument("--records", type=int, default=1_000_000, help="1.8 KB each on disk")
    parser.add_argument("--folder", type=Path, help="where to write the store for a while [default: a temporary one]")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    values = torch.randn((4096, WIDTH), generator=torch.Generator().manual_seed(0)).half()
    times = tuple(t / 16 for t in range(16))
    keys = [key(number) for number in range(options.records)]
    seconds: dict[str, list[float]] = {"write": [], "open": [], f"look up {BATCH}": [], f"look up and read {BATCH}": []}
    grown = []
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        written = FeatureStore(folder, SPEC)
        started = time.perf_counter()
        with written.writer() as writer:
            for number, one in enumerate(keys):
                writer.add(one, values[number % len(values)], RecordInfo(1, 16, 0.0, 1.0, times))
        seconds["write"].append(time.perf_counter() - started)
        for _ in range(options.rounds):
            count, opened_s, megabytes = json.loads(
                subprocess.run([sys.executable, "-c", _OPEN, folder], stdout=subprocess.PIPE, check=True).stdout
            )
            assert count == options.records
            seconds["open"].append(opened_s)
            grown.append(megabytes)
        store = FeatureStore(folder, SPEC)
        batch = torch.empty((BATCH, WIDTH), dtype=torch.float16)
        shuffle = random.Random(0)
        for _ in range(40 * options.rounds):
            chosen = shuffle.sample(keys, BATCH)
            started = time.perf_counter()
            assert all(store.has(chosen))
            seconds[f"look up {BATCH}"].append(time.perf_counter() - started)
            started = time.perf_counter()
            store.read_batch(chosen, out=batch)
            seconds[f"look up and read {BATCH}"].append(time.perf_counter() - started)
    timings = Timings({name: tuple(several) for name, several in seconds.items()})
    settings = {"records": options.records, "width": WIDTH, "threads": options.threads}
    report = Report("feature store: many small records", timings, settings)
    report.at_least("records written a second", options.records / timings.median_s("write"), 15_000)
    report.at_most("seconds to open", timings.median_s("open"), 3)
    report.at_most("megabytes of memory for it", sorted(grown)[len(grown) // 2], 300)
    report.at_most(f"milliseconds to look up {BATCH} keys", 1000 * timings.median_s(f"look up {BATCH}"), 2)
    report.note(f"milliseconds to look up and read {BATCH}", 1000 * timings.median_s(f"look up and read {BATCH}"))
    report.publish(options.json)


if __name__ == "__main__":
    main()
