"""Reading shuffled token records of 6 MB from the store, page cache warm, against a plain copy of as many bytes.

    python -m benchmarks.speed.feature_store_read --json feature_store_read.json

A record holds the tokens of one clip at Base: 16 frames x 256 patches x 768, fp16. Both sides fill the same batch of 8,
record by record in a new random order each round; the plain copy takes them from memory.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.speed.timing import Report, arguments, take_turns
from core_encoder.clip_plan import ClipPlan
from core_encoder.features.feature_spec import ClipKey, FeatureKey, FeatureSpec, RecordInfo
from core_encoder.features.feature_store import FeatureStore
from core_encoder.preprocessing import Preprocessing

SHAPE = (16, 256, 768)
BATCH = 8


def main() -> None:
    parser = arguments("Shuffled reads of token records against a plain copy.", rounds=15)
    parser.add_argument("--records", type=int, default=120, help="6 MiB each, on disk and once more in memory")
    parser.add_argument(
        "--folder", type=Path, help="where to write the store for a while [default: a temporary folder]"
    )
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    spec = FeatureSpec("base", "0" * 64, ClipPlan(16), Preprocessing(288), "none")
    generator = torch.Generator().manual_seed(0)
    memory = torch.randn((options.records, *SHAPE), generator=generator).half()
    keys = [ClipKey(f"{number:064x}", 0, -1).view(0) for number in range(options.records)]
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        written = FeatureStore(folder, spec)
        with written.writer() as writer:
            for key, values in zip(keys, memory, strict=True):
                writer.add(key, values, RecordInfo(1, 16, 0.0, 1.0, tuple(t / 16 for t in range(16))))
        batch = torch.empty((BATCH, *SHAPE), dtype=torch.float16)
        store = FeatureStore(folder, spec)
        assert torch.equal(store.read_batch(keys[:BATCH], out=batch), memory[:BATCH])
        shuffle = random.Random(0)

        def batches() -> list[list[int]]:
            order = shuffle.sample(range(options.records), options.records)
            return [order[first : first + BATCH] for first in range(0, len(order) - BATCH + 1, BATCH)]

        def plain_copy() -> None:
            for numbers in batches():
                for row, number in enumerate(numbers):
                    batch[row].copy_(memory[number])

        def read(store: FeatureStore) -> None:
            for numbers in batches():
                store.read_batch(_chosen(keys, numbers), out=batch)

        candidates = {
            "plain copy": plain_copy,
            "store, open": lambda: read(store),
            "store, opened anew": lambda: read(FeatureStore(folder, spec)),
        }
        timings = take_turns(candidates, options.rounds)
    num_bytes = options.records // BATCH * BATCH * memory[0].nbytes
    settings = {"records": options.records, "MiB each": memory[0].nbytes / 2**20, "threads": options.threads}
    report = Report("feature store: shuffled reads", timings, settings)
    report.at_least("store against plain copy", 1 / timings.ratio("store, open", "plain copy"), 0.7)
    report.at_least("store opened anew against plain copy", 1 / timings.ratio("store, opened anew", "plain copy"), 0.7)
    for name in candidates:
        report.note(f"{name}, GB/s", num_bytes / timings.median_s(name) / 1e9)
    report.publish(options.json)


def _chosen(keys: Sequence[FeatureKey], numbers: Sequence[int]) -> list[FeatureKey]:
    return [keys[number] for number in numbers]


if __name__ == "__main__":
    main()
