"""A full disk at every kind of write: one line, exit code 2, nothing half-written, and it goes on when there is room.

The disk is a small file system in memory where this process may mount one; elsewhere the limit that a process has on
the size of its files stands in for it. Every command meets several disks: without a byte left, with room for its first
files, and one that fills up while it works.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.reliability.commands import Started, prismhub
from benchmarks.reliability.jobs import Bench, Place, Pretrain, write_classes
from benchmarks.reliability.stored import stored_records
from benchmarks.reliability.tally import Ground, Tally

DISK_BYTES = 32 << 20
BALLAST = "ballast"
Words = list[str | Path]
LEAST_FILE_BYTES = 4096  # where a limit stands in for the disk: what a command prints is a file as well


@dataclass(frozen=True)
class Write:
    """A command that writes to the disk: `words(disk)`, and files that show that it has begun to."""

    name: str
    words: Callable[[Path], Words]
    begun: str = "*"
    home_on_disk: bool = False
    code: int = 0  # how it ends with room


class Bottle:
    """A small disk at `folder`, filled by a file that takes all room but so much."""

    def __init__(self, folder: Path, mounted: bool) -> None:
        self.folder, self.mounted = folder, mounted

    def fill(self, left: int) -> None:
        """Leave so many bytes."""
        if not self.mounted:
            return
        path = self.folder / BALLAST
        path.unlink(missing_ok=True)
        with path.open("wb") as file:
            while (size := shutil.disk_usage(self.folder).free - left) > 0:
                with suppress(OSError):  # somebody else took some of it meanwhile
                    os.posix_fallocate(file.fileno(), 0, size)
                    return

    def empty(self) -> None:
        """Make room again."""
        (self.folder / BALLAST).unlink(missing_ok=True)


@contextmanager
def bottle(folder: Path) -> Iterator[Bottle]:
    """A disk of 32 MiB, or a folder that only plays one."""
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    try:
        yield Bottle(folder, mounted)
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=False)


def full_disk(ground: Ground) -> Tally:
    """Every write on every disk."""
    tally = Tally()
    base = _Base(ground)
    writes = base.writes()
    disks = {"full": 0, "nearly full": 12 << 10, "filling": None}
    if ground.small:
        del disks["nearly full"]
    mounted = False
    for write in writes:
        for name, left in disks.items():
            with bottle(ground.folder / f"{write.name} {name}") as disk:
                mounted = disk.mounted
                faults = _meet(base, write, disk, left, tally)
                if faults is not None:
                    tally.count([f"{write.name}, disk {name}: {fault}" for fault in faults])
            ground.say(f"  {write.name}, disk {name}: {'room enough' if faults is None else faults or 'survived'}")
    tally.measured["writes"] = ", ".join(write.name for write in writes)
    tally.measured["disk"] = "tmpfs of 32 MiB" if mounted else "a limit on the size of files"
    return tally


def _meet(base: _Base, write: Write, disk: Bottle, left: int | None, tally: Tally) -> list[str] | None:
    """What is wrong with how a command met a disk; None where it had room enough after all."""
    place = disk.folder / "place"
    place.mkdir()
    home = place / "home" if write.home_on_disk else base.home
    (place / "kept.txt").write_text("what was there before")
    if left is not None:
        disk.fill(left)
    running = Started(write.words(place), home, None if disk.mounted else max(left or 0, LEAST_FILE_BYTES))
    filled: list[Path] = []

    def watch() -> None:
        if left is None and not filled:
            filled.extend(path for path in place.rglob(write.begun) if path.is_file() and path.name != "kept.txt")
            if filled:
                disk.fill(0)

    ended = running.end(120, watch)
    if ended.code == write.code and left != 0:
        return None
    tally.refuse(f"{write.name}: {ended.err.strip()[-300:]}", any(_names(line, disk.folder) for line in ended.said))
    faults = ended.faults(2)
    faults += [f"half-written: {path.relative_to(place)}" for path in place.rglob(".*.tmp")]
    if (place / "kept.txt").read_text() != "what was there before":
        faults.append("what was there before is another")
    before = stored_records(place)
    disk.empty()
    again = prismhub(*write.words(place), home=home, limit_s=120)
    faults += [f"with room again: {fault}" for fault in again.faults(write.code)]
    now = stored_records(place)
    lost = [key for key in before if now.get(key) != before[key]]
    tally.lost += len(lost)
    return faults + [f"lost: {key}" for key in lost[:3]]


def _names(line: str, disk: Path) -> bool:
    """Whether a line says where the disk is full, or that what is to come does not fit."""
    return str(disk) in line and any(word in line for word in ("disk is full", "free", "may not grow", "raise"))


class _Base:
    """What the commands read: videos, an adapter, an archive, results; made once, on a disk with room."""

    def __init__(self, ground: Ground) -> None:
        self.ground, self.folder = ground, ground.folder / "base"
        self.home, self.videos = self.folder / "home", self.folder / "videos"
        write_classes(self.videos, ground.many(24, 12), ground.seed)
        self.video = min(self.videos.rglob("*.mp4"))
        if ground.small:
            return
        self._do("train", "--data", self.videos, "--adapter", "linear", "--epochs", "2", "--name", "x")
        self.archive, self.results = self.folder / "archive", self.folder / "results"
        self._do("index", self.videos, "--out", self.archive, "--encoder", "nano", "--window", "1")
        self.bench, self.pretrain = Bench(), Pretrain()
        small = Ground(self.folder, ground.seed, small=True)
        self.bench.prepare(self.folder / "bench", small)
        self.pretrain.prepare(self.folder / "pretrain", small)
        self._do(*self._bench(self.results))

    def _do(self, *words: str | Path) -> None:
        ended = prismhub(*words, home=self.home)
        if ended.code:
            raise RuntimeError(f"prismhub {' '.join(map(str, words))}: {ended.err}")

    def _bench(self, output: Path) -> Words:
        words = self.bench.words(self.folder / "bench", Place(self.folder))
        words[words.index("--output") + 1] = output
        return words

    def writes(self) -> list[Write]:
        """Every kind of write."""
        video, videos = self.video, self.videos
        fine: Words = ["--feature-dtype", "fp32", "--layers", "1,2,3,4,5,6"]
        features = Write("features", lambda disk: ["encode", videos, *fine, "--store", disk], "spec.json")
        if self.ground.small:
            return [features]
        data: Words = ["train", "--data", videos, "--epochs", "4"]
        train: Words = [*data, "--adapter", "map_classifier", "--checkpoint-every-s", "0"]
        short: Words = [*data, "--adapter", "linear", "--store", self.home / "features", "--run", self.folder / "run"]
        index: Words = ["index", videos, "--encoder", "nano", "--out"]
        search: Words = ["search", self.archive, "circle", "--anyway"]
        label: Words = ["label", self.archive, "circle", "--anyway"]
        recipe = self.folder / "pretrain"
        return [
            features,
            Write("predictions", lambda disk: ["predict", video, "--adapter", "x", "--html", disk / "page.html"]),
            Write("adapter", lambda disk: [*short, "--name", "y"], "*", home_on_disk=True),
            Write("training run", lambda disk: [*train, "--run", disk / "run"], "checkpoint.safetensors"),
            Write("home", lambda disk: [*train, "--name", "z"], "*.sqlite", home_on_disk=True),
            Write("cells", lambda disk: self._bench(disk / "results"), "run.json"),
            Write("archive", lambda disk: [*index, disk / "a"], "scenes.sqlite"),
            Write("archive of windows", lambda disk: [*index, disk / "a", "--window", "0.25"], "*.sqlite-wal", True),
            Write("pretraining", lambda disk: self.pretrain.words(recipe, Place(disk)), "recipe.json"),
            Write("export", lambda disk: ["export", self.archive, "--out", disk / "a.parquet", "--thumbnails"]),
            Write("report", lambda disk: ["report", self.results, "--html", disk / "r.html", "--csv", disk / "r.csv"]),
            Write("rows of features", lambda disk: ["embed", videos, "--out", disk / "rows.npz"]),
            Write("result", lambda disk: ["evaluate", "--data", videos, "--adapter", "x", "--out", disk / "r.json"]),
            Write("found scenes", lambda disk: [*search, "--save", disk / "found"]),
            Write("contact sheet", lambda disk: [*search, "--html", disk / "s.html"]),
            Write("manifest", lambda disk: [*label, "--out", disk / "l.csv"]),
            Write("list of failures", lambda disk: ["encode", self._broken(), "--failures", disk / "f.jsonl"], code=3),
        ]

    def _broken(self) -> Path:
        folder = self.folder / "broken"
        if not folder.exists():
            shutil.copytree(self.videos, folder)
            (folder / "broken.mp4").write_bytes(b"no video")
        return folder
