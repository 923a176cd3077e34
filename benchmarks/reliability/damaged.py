"""Damaged video files through `prismhub encode`: each is encoded or listed with a reason, nothing crashes or hangs."""

from __future__ import annotations

import hashlib
import json
import statistics
from pathlib import Path

from benchmarks.reliability.commands import Ended, Started, left_behind, resident_bytes
from benchmarks.reliability.damage import DAMAGES, SUFFIXES
from benchmarks.reliability.stored import stored_records
from benchmarks.reliability.tally import Ground, Tally
from core_encoder.files.storage import plain_name
from pretrain.world.synthetic_world import SyntheticWorld, write_video

DECODERS = ("auto", "pyav")
MOST_GROWTH = 1.15  # of memory, from the first third of the files to the last


def damaged(ground: Ground) -> Tally:
    """Damaged files, each through every decoder."""
    tally = Tally()
    files = _write(ground, ground.folder / "videos", ground.many(500, 33))
    decoders = DECODERS[:1] if ground.small else DECODERS
    found = {decoder: _encode(ground, files, decoder, tally) for decoder in decoders}
    for path, damage in files.items():
        faults = [
            f"{decoder}: {path.name} ({damage}): {said[path]}" for decoder, said in found.items() if said.get(path)
        ]
        tally.count(faults)
    tally.measured["kinds of damage"] = len(DAMAGES)
    tally.measured["decoders"] = " and ".join(found)
    return tally


def _write(ground: Ground, folder: Path, count: int) -> dict[Path, str]:
    """The damaged files, and what was done to each."""
    folder.mkdir(parents=True)
    whole = []
    for number in range(12):
        world = SyntheticWorld(seed=ground.seed, size=64, num_frames=8 + 4 * number)
        path = write_video(folder.parent / f"{number}.mp4", world.clip(number).frames)
        whole.append(path.read_bytes())
    files = {}
    names = list(DAMAGES)
    for number in range(count):
        name = names[number % len(names)]
        rng = ground.chance("damaged", number)
        content = DAMAGES[name](rng, *rng.sample(whole, 2))
        path = folder / f"{number:04}-{plain_name(name)}{rng.choice(SUFFIXES)}"
        path.write_bytes(content)
        files[path] = name
    return files


def _encode(ground: Ground, files: dict[Path, str], decoder: str, tally: Tally) -> dict[Path, str]:
    """What is wrong with how each file ended; a run that died is begun again, as often as there is something to do."""
    home, store = ground.folder / f"home-{decoder}", ground.folder / f"store-{decoder}"
    command: list[str | Path] = ["encode", next(iter(files)).parent, "--store", store, "--decoder", decoder, "--json"]
    running = Started(command, home)
    memory: list[tuple[int, int]] = []

    def watch() -> None:
        if store.exists():
            memory.append((_dealt_with(store), resident_bytes(running.pid)))

    ended = running.end(watch=watch)
    faults = ended.faults(3) + [f"process {one} was left behind" for one in left_behind(home)]
    reasons = _reasons(ended, store)
    digests = {key.digest for _, key in stored_records(store)}
    found = {}
    for path in files:
        reason = reasons.get(str(path))
        if reason is not None:
            tally.refuse(f"{path.name}: {reason}", bool(reason) and "\n" not in reason and len(reason) < 400)
            found[path] = "" if reason else "no reason is given"
        elif hashlib.sha256(path.read_bytes()).hexdigest() not in digests:
            found[path] = "neither encoded nor listed"
    tally.faults += faults
    if ended.code == 3:
        _count_memory(decoder, memory, tally, ended)
    tally.measured[f"encoded by {decoder}"] = len(files) - len(reasons)
    ground.say(f"  {decoder}: {len(files) - len(reasons)} encoded, {len(reasons)} listed, {ended.seconds:.0f} s")
    return found


def _reasons(ended: Ended, store: Path) -> dict[str, str]:
    """Why each file was refused, by its path: as printed, and as listed where the command died."""
    if ended.code == 3:
        rows = ended.json["failed"]
    else:
        rows = [json.loads(line) for file in store.rglob("failures.jsonl") for line in file.read_text().splitlines()]
    return {row["path"]: row["reason"] for row in rows}


def _dealt_with(store: Path) -> int:
    """How many files have been listed so far: they lie evenly among the others."""
    return sum(file.read_bytes().count(b"\n") for file in store.rglob("failures.jsonl"))


def _count_memory(decoder: str, memory: list[tuple[int, int]], tally: Tally, ended: Ended) -> None:
    """Compare the memory while the second tenth of the files was dealt with to that of the last tenth.

    In the first tenth, libraries are still being loaded.
    """
    most = max((dealt for dealt, _ in memory), default=0)
    first = [held for dealt, held in memory if 0.1 * most <= dealt <= 0.2 * most and held]
    last = [held for dealt, held in memory if dealt >= 0.9 * most and held]
    if most < 50 or not first or not last:  # too few to tell
        return
    grown = statistics.median(last) / statistics.median(first)
    tally.measured[f"memory with {decoder}, last tenth to second"] = round(grown, 3)
    tally.measured[f"peak memory with {decoder}, MB"] = round(ended.peak_bytes / 1e6)
    if grown > MOST_GROWTH:
        tally.faults.append(f"{decoder}: memory grew {grown:.2f} times over the files")
