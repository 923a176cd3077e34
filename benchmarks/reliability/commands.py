"""Commands of prismhub as processes of their own: what they say, how they end, what they hold, what they leave."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

TIME_LIMIT_S = 600.0  # what takes longer hangs


@dataclass(frozen=True)
class Ended:
    """How a command ended; `code` is negative after a signal, and None where it hung and was killed."""

    words: tuple[str, ...]
    code: int | None
    out: str
    err: str
    seconds: float
    peak_bytes: int

    @property
    def json(self) -> Any:
        """What it printed with --json."""
        return json.loads(self.out)

    @property
    def said(self) -> list[str]:
        """The lines that prismhub says of why it ended."""
        return [line for line in self.err.splitlines() if line.startswith("prismhub: ")]

    def faults(self, *codes: int) -> list[str]:
        """What is wrong with how it ended, where it should have ended with one of `codes`."""
        shown = f"prismhub {' '.join(self.words)}"
        found = []
        if self.code is None:
            found.append(f"{shown}: hung, killed after {self.seconds:.0f} s")
        elif self.code not in codes:
            found.append(f"{shown}: ended with {self.code}: {self.err.strip()[-300:]}")
        if "Traceback" in self.err or "Traceback" in self.out:
            found.append(f"{shown}: a traceback: {self.err.strip()[-300:]}")
        if self.code in (1, 2) and len(self.said) != 1:
            found.append(f"{shown}: {len(self.said)} lines instead of one: {self.err.strip()[-300:]}")
        return found


class Started:
    """A command that runs, in a session of its own; its output goes to files, so that it never waits for a reader.

    With `file_bytes`, none of its files may grow larger.
    """

    def __init__(self, words: Sequence[str | Path], home: Path, file_bytes: int | None = None) -> None:
        self.words = tuple(map(str, words))
        self._began = time.monotonic()
        self._streams: tuple[IO[bytes], IO[bytes]] = (TemporaryFile(), TemporaryFile())  # noqa: SIM115 (closed by end)
        self._usage: Any = None
        self.code: int | None = None
        self._process = subprocess.Popen(
            [sys.executable, "-m", "prismhub", *self.words],
            env=environment_of(home),
            stdin=subprocess.DEVNULL,
            stdout=self._streams[0],
            stderr=self._streams[1],
            start_new_session=True,
            preexec_fn=None if file_bytes is None else partial(_limit_files, file_bytes),
        )
        self.pid = self._process.pid
        _running[self.pid] = self

    def runs(self) -> bool:
        """Whether it has not ended yet."""
        if self.code is None:
            found, status, usage = os.wait4(self.pid, os.WNOHANG)
            if found:
                self._usage = usage
                self.code = self._process.returncode = os.waitstatus_to_exitcode(status)
                _running.pop(self.pid, None)
        return self.code is None

    def wait(self, seconds: float) -> bool:
        """Wait so long for its end; whether it came."""
        until = time.monotonic() + seconds
        while self.runs():
            if time.monotonic() >= until:
                return False
            time.sleep(0.005)
        return True

    def kill(self) -> None:
        """`kill -9` of this process alone; its children are left to themselves, as by the kernel out of memory."""
        os.kill(self.pid, signal.SIGKILL)
        while self.runs():
            time.sleep(0.002)

    def said(self) -> str:
        """What it has said on stderr so far."""
        return self._read(1)

    def end(self, seconds: float = TIME_LIMIT_S, watch: Callable[[], None] = lambda: None) -> Ended:
        """Wait for its end, calling `watch` meanwhile; after so many seconds its whole session is killed."""
        until = time.monotonic() + seconds
        hung = False
        while self.runs():
            watch()
            time.sleep(0.01)
            if time.monotonic() >= until and not hung:
                hung = True
                os.killpg(self.pid, signal.SIGKILL)
        took = time.monotonic() - self._began
        unit = 1 if sys.platform == "darwin" else 1024
        texts = self._read(0), self._read(1)
        for stream in self._streams:
            stream.close()
        return Ended(self.words, None if hung else self.code, *texts, took, self._usage.ru_maxrss * unit)

    def _read(self, place: int) -> str:
        stream = self._streams[place]
        return os.pread(stream.fileno(), os.fstat(stream.fileno()).st_size, 0).decode("utf-8", "replace")


_running: dict[int, Started] = {}


def stop_all() -> None:
    """Kill the commands that still run, each with its session: no Ctrl-C reaches them there."""
    for process in list(_running):
        with suppress(ProcessLookupError):
            os.killpg(process, signal.SIGKILL)


def _limit_files(count: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (count, count))


def prismhub(*words: str | Path, home: Path, limit_s: float = TIME_LIMIT_S) -> Ended:
    """Run a command to its end."""
    return Started(words, home).end(limit_s)


def environment_of(home: Path) -> dict[str, str]:
    """The environment of a command whose home is `home`: offline, one thread."""
    fixed = {"PRISMHUB_HOME": str(home), "PRISMHUB_OFFLINE": "1", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    return {**os.environ, **fixed}


def processes_of(home: Path) -> list[int]:
    """The processes that were started with this home and still run; found in /proc, so none where there is none."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            own = f"PRISMHUB_HOME={home}".encode() in (folder / "environ").read_bytes().split(b"\0")
            if own and (folder / "status").read_text().split("State:")[1].split()[0] != "Z":
                found.append(int(folder.name))
        except (OSError, IndexError):  # it has ended
            continue
    return found


def left_behind(home: Path, seconds: float = 30) -> list[int]:
    """The processes of a home that have not ended by themselves within so many seconds; they are killed."""
    until = time.monotonic() + seconds
    while (left := processes_of(home)) and time.monotonic() < until:
        time.sleep(0.05)
    for one in left:
        os.kill(one, signal.SIGKILL)
    return left


def resident_bytes(process: int) -> int:
    """The memory that a process holds now; 0 when it has ended."""
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0
