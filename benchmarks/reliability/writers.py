"""Two writers on one feature store, with `cache prune` and `cache verify` among them, and a reader.

Both writers encode clips of the same videos, in rounds that overlap by half and begin at the same moment. The reader
reads again what it has read before: no key may be lost, and no value may become another.
"""

from __future__ import annotations

import hashlib
import random
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.reliability.commands import Ended, left_behind, prismhub
from benchmarks.reliability.stored import stored_records
from benchmarks.reliability.tally import Ground, Tally
from core_encoder.features.feature_spec import FeatureKey
from core_encoder.features.feature_store import FeatureStore
from pretrain.world.synthetic_world import SyntheticWorld, write_video

SECONDS = 600.0
CLIPS = 40  # of a writer in a round; half of them are the other's too
VIDEOS = 20
_READ_AGAIN = 200


def writers(ground: Ground) -> Tally:
    """Write, prune, verify and read for ten minutes."""
    return _Writers(ground).run(4.0 if ground.small else SECONDS * ground.length)


class _Writers:
    def __init__(self, ground: Ground) -> None:
        self.ground, self.tally = ground, Tally()
        self.store, self.home = ground.folder / "store", ground.folder / "home"
        world = SyntheticWorld(seed=ground.seed, size=64, num_frames=32)
        for number in range(VIDEOS):
            write_video(ground.folder / f"{number:02}.mp4", world.clip(number).frames)
        self._telling = threading.Lock()
        self._rounds = 0
        self._over = False  # both writers have ended
        self._together = threading.Barrier(2, self._next_round)
        self._until = 0.0
        self._stop = False

    def run(self, seconds: float) -> Tally:
        self._until = time.monotonic() + seconds
        reader = _Reader(self.store, self.ground.chance("reader"))
        beside = [threading.Thread(target=one, daemon=True) for one in (self._keep, reader.run)]
        work = [threading.Thread(target=self._write, args=(place,), daemon=True) for place in range(2)]
        for one in [*work, *beside]:
            one.start()
        for one in work:
            one.join()
        self._over = reader.over = True
        for one in beside:
            one.join()
        for words in (("prune",), ("verify",)):
            self._count(prismhub("cache", *words, "--store", self.store, home=self.home))
        self._check_end(reader)
        return self.tally

    def _next_round(self) -> None:
        """Whether there is another round, decided once for both."""
        self._stop = self._rounds > 0 and time.monotonic() >= self._until
        self._rounds += not self._stop

    def _write(self, place: int) -> None:
        while True:
            self._together.wait()
            if self._stop:
                return
            first = CLIPS * (self._rounds - 1) + place * CLIPS // 2
            manifest = self.ground.folder / f"clips-{place}.csv"
            manifest.write_text("path,start,end\n" + "".join(map(_row, range(first, first + CLIPS))))
            self._count(prismhub("encode", manifest, "--store", self.store, "--quiet", home=self.home))

    def _keep(self) -> None:
        """Look after the store while others write to it."""
        turns: Sequence[Sequence[str]] = (("verify",), ("prune",), ("verify",), ("prune", "--check-bytes"))
        number = 0
        while not self._over:
            self._count(prismhub("cache", *turns[number % len(turns)], "--store", self.store, home=self.home))
            number += 1

    def _count(self, ended: Ended) -> None:
        with self._telling:
            told = [f"{fault} {ended.out[-300:]}" for fault in ended.faults(0)]
            self.tally.count(told)

    def _check_end(self, reader: _Reader) -> None:
        """Every key that was ever asked for is there, as it was read."""
        found = {key: digest for (_, key), digest in stored_records(self.store).items()}
        wanted = CLIPS * self._rounds + CLIPS // 2
        lost = [key for key, digest in reader.known.items() if found.get(key) != digest]
        self.tally.lost = len(lost) + max(wanted - len(found), 0)
        self.tally.faults += reader.faults
        if len(found) != wanted:
            self.tally.faults.append(f"{len(found)} clips are stored, not {wanted}")
        self.tally.faults += [f"lost or another: {key}" for key in lost[:5]]
        self.tally.faults += [f"process {one} was left behind" for one in left_behind(self.home)]
        self.tally.faults += [f"half-written: {path}" for path in self.store.rglob(".*.tmp")]
        self.tally.measured |= {"rounds of both": self._rounds, "clips": wanted, "read": reader.count}


class _Reader:
    """Reads the store while it is written to."""

    def __init__(self, store: Path, rng: random.Random) -> None:
        self.root, self.rng = store, rng
        self.known: dict[FeatureKey, str] = {}
        self.faults: list[str] = []
        self.count = 0
        self.over = False

    def run(self) -> None:
        try:
            while not self.over and not list(self.root.glob("*/spec.json")):
                time.sleep(0.05)
            while not self.over:
                store = FeatureStore.open(next(self.root.glob("*/spec.json")).parent)
                for _ in range(20):
                    store.refresh()
                    self._read(store)
                    time.sleep(0.1)
                    if self.over:
                        return
        except Exception as error:  # whatever it is, it should not be
            self.faults.append(f"reader: {type(error).__name__}: {error}")

    def _read(self, store: FeatureStore) -> None:
        new = [key for key in store if key not in self.known]
        again = self.rng.sample(sorted(self.known), min(_READ_AGAIN, len(self.known)))
        for key in [*new, *again]:
            digest = hashlib.sha256(store.read(key).values.float().numpy().tobytes()).hexdigest()
            if self.known.setdefault(key, digest) != digest:
                self.faults.append(f"reader: {key} is another than before")
            self.count += 1


def _row(number: int) -> str:
    """A clip of its own for every number: the videos in turn, ever later by a millisecond."""
    start = number // VIDEOS / 1000
    return f"{number % VIDEOS:02}.mp4,{start:.3f},{start + 2:.3f}\n"
