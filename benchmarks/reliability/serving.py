"""An hour of `prismhub serve` among hostile clients: honest ones beside them are answered, memory does not grow.

Hostile clients of every kind come again and again, several at once. Honest clients ask all the time about a served file
and upload one; a server that is full tells them to come again, and they do. All answers to one question are the same.
"""

from __future__ import annotations

import os
import re
import signal
import statistics
import threading
import time
from collections import Counter
from pathlib import Path

from benchmarks.reliability.commands import Started, left_behind, prismhub
from benchmarks.reliability.hostile_clients import CLIENTS, Answer, ask, upload
from benchmarks.reliability.jobs import write_classes
from benchmarks.reliability.tally import Ground, Tally

SECONDS = 3600.0
HOSTILE, HONEST = 4, 2  # at once
MOST_GROWTH = 1.15
GIVE_UP_S = 120.0  # of an honest client


def serving(ground: Ground) -> Tally:
    """Serve for an hour."""
    return _Serving(ground).run(5.0 if ground.small else SECONDS * ground.length)


class _Serving:
    def __init__(self, ground: Ground) -> None:
        self.ground, self.tally = ground, Tally()
        self.home, self.videos = ground.folder / "home", ground.folder / "videos"
        write_classes(self.videos, 8, ground.seed)
        train = ("train", "--data", self.videos, "--adapter", "linear", "--epochs", "2", "--val-fraction", "0")
        self._do(*train, "--name", "x")
        archive = ground.folder / "archive"
        self._do("index", self.videos, "--out", archive, "--encoder", "nano")
        limits = ("--queue", "16", "--max-seconds", "20", "--max-upload-mb", "4")
        words = ("serve", "--port", "0", "--adapter", "x", "--archive", archive, "--root", self.videos, *limits)
        self.server = Started(words, self.home)
        self.address = ("127.0.0.1", self._port())
        self.content = min(self.videos.rglob("*.mp4")).read_bytes()
        self._telling = threading.Lock()
        self._until = 0.0
        self._right: dict[str, bytes] = {}
        self.kinds: Counter[str] = Counter()
        self.again = 0  # how often an honest client was told to come again
        self.answered = 0

    def _do(self, *words: str | Path) -> None:
        ended = prismhub(*words, home=self.home)
        self.tally.faults += ended.faults(0)

    def _port(self) -> int:
        until = time.monotonic() + 120
        while time.monotonic() < until and self.server.runs():
            if found := re.search(r"serving at http://[\w.]+:(\d+)", self.server.said()):
                return int(found[1])
            time.sleep(0.05)
        raise RuntimeError(f"the server did not start: {self.server.said()}")

    def run(self, seconds: float) -> Tally:
        for turn in range(20 if not self.ground.small else 2):  # warm: what is loaded at first is no growth
            self._ask_honestly(0)
            self._be_hostile_once(HOSTILE, turn)
        self._until = time.monotonic() + seconds
        work = [threading.Thread(target=self._be_hostile, args=(number,), daemon=True) for number in range(HOSTILE)]
        work += [threading.Thread(target=self._be_honest, args=(number,), daemon=True) for number in range(HONEST)]
        for one in work:
            one.start()
        memory = []
        while any(one.is_alive() for one in work):
            memory.append(self._memory_bytes())
            time.sleep(min(1.0, seconds / 20))
        for _ in range(4):  # after all that, it still answers
            self._ask_honestly(0)
        self._end()
        self._count_memory(memory)
        self.tally.measured |= {"seconds served": round(seconds), "honest requests answered": self.answered}
        self.tally.measured |= {"told to come again": self.again, "kinds of hostile clients": len(self.kinds)}
        return self.tally

    def _be_hostile(self, number: int) -> None:
        turn = 0
        while time.monotonic() < self._until:
            self._be_hostile_once(number, turn)
            turn += 1

    def _be_hostile_once(self, number: int, turn: int) -> None:
        client = CLIENTS[(turn + 3 * number) % len(CLIENTS)]
        try:
            answer = client(self.address, self.ground.chance("hostile", number, turn), self.content)
        except OSError as error:  # refused or cut: as good as an answer, while the server is there
            answer = Answer(0 if self._is_there() else 500, str(error).encode())
        except Exception as error:  # a client must not end its row in silence
            answer = Answer(500, f"the client failed: {error!r}".encode())
        self._tell(client.__name__, answer)

    def _is_there(self) -> bool:
        with self._telling:
            return self.server.runs()

    def _tell(self, name: str, answer: Answer) -> None:
        shown = f"{name}: {answer.status}: {answer.body[:200]!r}"
        with self._telling:
            self.kinds[name] += 1
            self.tally.count([shown] if answer.is_server_fault else [])
            if answer.status >= 400 and answer.body:
                self.tally.refuse(shown, answer.is_named)

    def _be_honest(self, number: int) -> None:
        while time.monotonic() < self._until:
            self._ask_honestly(number)

    def _ask_honestly(self, number: int) -> None:
        """Ask, again where told to, until there is an answer; all answers are as the first."""
        for asked, question in (("served", lambda: ask(self.address, self._served())), ("upload", self._upload)):
            faults = [f"honest {asked}: no answer in {GIVE_UP_S:.0f} s"]
            until = time.monotonic() + GIVE_UP_S
            while time.monotonic() < until:
                try:
                    answer = question()
                except OSError as error:
                    answer = Answer(503 if self._is_there() else 0, str(error).encode())
                if answer.status in (503, 504):
                    with self._telling:
                        self.again += 1
                    time.sleep(0.2)
                    continue
                with self._telling:
                    right = self._right.setdefault(asked, answer.body)
                    self.answered += answer.status == 200
                faults = [] if answer.status == 200 and answer.body == right else [f"honest {asked}: {answer}"]
                break
            with self._telling:
                self.tally.count(faults)

    def _served(self) -> str:
        return min(self.videos.rglob("*.mp4")).relative_to(self.videos).as_posix()

    def _upload(self) -> Answer:
        return upload(self.address, self.content)

    def _memory_bytes(self) -> int:
        """What the processes of the server hold together, what they share counted once."""
        held = 0
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if os.getsid(int(folder.name)) == self.server.pid:
                    held += int((folder / "smaps_rollup").read_text().split("Pss:")[1].split()[0]) * 1024
            except (OSError, IndexError):  # it has ended
                continue
        return held

    def _count_memory(self, memory: list[int]) -> None:
        tenth = max(1, len(memory) // 10)
        first, last = statistics.median(memory[:tenth]), statistics.median(memory[-tenth:])
        self.tally.measured["memory, last tenth to first"] = round(last / first, 3)
        self.tally.measured["memory of the last tenth, MB"] = round(last / 1e6)
        if last > MOST_GROWTH * first and not self.ground.small:
            self.tally.faults.append(f"memory grew {last / first:.2f} times")

    def _end(self) -> None:
        """End the server as a service manager does; nothing of it may stay."""
        os.kill(self.server.pid, signal.SIGTERM)
        ended = self.server.end(60)
        self.tally.faults += ended.faults(0)
        self.tally.faults += [f"process {one} was left behind" for one in left_behind(self.home)]
        left = [path for path in (self.home / "uploads").rglob("*") if path.is_file()]
        self.tally.faults += [f"an upload was left behind: {path}" for path in left]
