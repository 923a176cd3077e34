"""`prismhub serve` under load: 8 clients at once for three minutes, `nano` with three adapters.

    python -m benchmarks.speed.serving --json serving.json
    python -m benchmarks.speed.serving --seconds 30 --rounds 2

A server of its own process answers clients that each ask about the next file as soon as they have an answer; the files
lie below its root, their features are stored nowhere. After that, in turns: `prismhub encode` of all files into an
empty store (a process that is warm: what is timed holds no start), all files asked about with three adapters, and with
one. Memory is that of the server and its decode processes together, by the second; the first minute is compared with
the last. Beside other work times mean little: the seconds of processor time that each side took are noted too, those of
the clients left out.
"""

from __future__ import annotations

import http.client
import itertools
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from benchmarks.speed.timing import Report, arguments, take_turns

ADAPTERS = {"map": ("map_classifier",), "linear": ("linear",), "map-too": ("map_classifier", "--seed", "1")}
_WRITE = """
import sys
from pathlib import Path
from pretrain.world.synthetic_world import SyntheticWorld, write_video
world = SyntheticWorld(seed=0, size=int(sys.argv[3]), num_frames=32)
for index in range(int(sys.argv[2])):
    path = Path(sys.argv[1], "even" if index % 2 else "odd", f"{index:04}.mp4")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_video(path, world.clip(index).frames)
"""
_ENCODE = """
import sys, prismhub
for line in sys.stdin:
    videos, store = line.rstrip("\\n").split("\\t")
    prismhub.encode(videos, store=store, encoder="nano")
    print("done", flush=True)
"""


class Server:
    """`prismhub serve` in a session of its own."""

    def __init__(self, root: Path, home: Path) -> None:
        words = [sys.executable, "-m", "prismhub", "serve", "--port", "0", "--root", str(root)]
        for name in ADAPTERS:
            words += ["--adapter", name]
        environment = {**os.environ, "PRISMHUB_HOME": str(home)}
        self.process = subprocess.Popen(
            words, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if found := re.match(r"serving at http://([\w.]+:[0-9]+)", line):
                self.address = found[1]
                break
        else:
            raise SystemExit("the server did not start")
        self._said = threading.Thread(target=self.process.stderr.read, daemon=True)
        self._said.start()

    def memory_mb(self) -> float:
        """What its processes hold together, what they share counted once."""
        held = (text.split("Pss:")[1].split()[0] for text in of_session(self.process.pid, "smaps_rollup"))
        return sum(map(int, held)) / 1000

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(60)


def of_session(leader: int, name: str) -> Iterator[str]:
    """A file of /proc of every process in a session."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if os.getsid(int(folder.name)) == leader:
                yield (folder / name).read_text()
        except OSError:  # it has ended
            continue


def processor_s(leader: int) -> float:
    """Seconds of processor time that the processes of a session have taken, and those of them that have ended."""
    fields = (text.rpartition(")")[2].split() for text in of_session(leader, "stat"))
    return sum(sum(map(int, several[11:15])) for several in fields) / os.sysconf("SC_CLK_TCK")


class Client:
    """One client, which keeps its connection."""

    def __init__(self, address: str) -> None:
        self._connection = http.client.HTTPConnection(address, timeout=120)
        self.seconds: list[float] = []
        self.failed = 0

    def ask(self, name: str, adapters: Sequence[str]) -> None:
        """Ask about a video; what is no answer of every adapter is counted as failed."""
        began = time.perf_counter()
        try:
            body = json.dumps({"video": name, "adapters": list(adapters)})
            self._connection.request("POST", "/v1/predict", body, {"Content-Type": "application/json"})
            answer = self._connection.getresponse()
            found = json.loads(answer.read())
            self.failed += answer.status != 200 or set(found) != set(adapters)
        except (OSError, ValueError, http.client.HTTPException):
            self._connection.close()
            self.failed += 1
        self.seconds.append(time.perf_counter() - began)

    def close(self) -> None:
        """Let the connection go; the next question opens another. A server ends those that are idle for seconds."""
        self._connection.close()


@contextmanager
def encoder_process(home: Path) -> Iterator[tuple[Callable[[Path, Path], None], int]]:
    """A function that encodes a folder into a store, in a process that is warm, and the number of the process."""
    environment = {**os.environ, "PRISMHUB_HOME": str(home)}
    with subprocess.Popen(
        [sys.executable, "-c", _ENCODE],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        stdin, stdout = process.stdin, process.stdout

        def encode(videos: Path, store: Path) -> None:
            stdin.write(f"{videos}\t{store}\n")
            stdin.flush()
            if stdout.readline() != "done\n":
                raise SystemExit("prismhub encode failed")

        yield encode, process.pid
        stdin.close()


def load(clients: Sequence[Client], names: Sequence[str], seconds: float, server: Server) -> list[float]:
    """All clients ask for so many seconds; the memory of the server at every second."""
    until = time.monotonic() + seconds
    following = itertools.cycle(names)
    taking = threading.Lock()
    memory: list[float] = []

    def work(client: Client) -> None:
        while time.monotonic() < until:
            with taking:
                name = next(following)
            client.ask(name, list(ADAPTERS))

    with ThreadPoolExecutor(len(clients)) as several:
        running = [several.submit(work, client) for client in clients]
        while not all(one.done() for one in running):
            memory.append(server.memory_mb())
            time.sleep(1)
    return memory


def ask_all(clients: Sequence[Client], names: Sequence[str], adapters: Sequence[str]) -> None:
    """Every file once, by all clients together."""
    left, taking = iter(names), threading.Lock()
    for client in clients:
        client.close()

    def work(client: Client) -> None:
        while True:
            with taking:
                name = next(left, None)
            if name is None:
                return
            client.ask(name, adapters)

    with ThreadPoolExecutor(len(clients)) as several:
        list(several.map(work, clients))


def main() -> None:
    parser = arguments("A server of three adapters under load, against encoding alone.", rounds=5)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=180, help="how long the clients ask")
    parser.add_argument("--videos", type=int, default=240, help="files that are asked about")
    parser.add_argument("--size", type=int, default=160, help="their height and width in pixels")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # the server, in a session of its own, must not outlive us
    os.environ.setdefault("OMP_NUM_THREADS", str(options.threads))  # of server and encoder alike
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as the command line does
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        videos, home, stores = folder / "videos", folder / "home", folder / "stores"
        subprocess.run([sys.executable, "-c", _WRITE, str(videos), str(options.videos), str(options.size)], check=True)
        names = [path.relative_to(videos).as_posix() for path in sorted(videos.rglob("*.mp4"))]
        train(videos, home)
        server = Server(videos, home)
        try:
            clients = [Client(server.address) for _ in range(options.clients)]
            ask_all(clients, names, list(ADAPTERS))  # warm
            memory = load(clients, names, options.seconds, server)
            took = sorted(second for client in clients for second in client.seconds[1:])
            with encoder_process(home) as (encode, encoding):
                numbers = itertools.count()

                def encode_all() -> None:
                    encode(videos, stores / str(next(numbers)))
                    shutil.rmtree(stores, ignore_errors=True)

                worked: dict[str, float] = {}

                def counted(name: str, leader: int, run: Callable[[], None]) -> Callable[[], None]:
                    def work() -> None:
                        before = processor_s(leader)
                        run()
                        worked[name] = worked.get(name, 0.0) + processor_s(leader) - before

                    return work

                ours, every = server.process.pid, list(ADAPTERS)
                timings = take_turns(
                    {
                        "prismhub encode": counted("encode", encoding, encode_all),
                        "three adapters": counted("three", ours, lambda: ask_all(clients, names, every)),
                        "one adapter": counted("one", ours, lambda: ask_all(clients, names, ["map"])),
                    },
                    options.rounds,
                )
        finally:
            server.close()
    minute = max(1, min(60, len(memory) // 3))
    report = Report(
        "serving",
        timings,
        {
            "clients": options.clients,
            "seconds": options.seconds,
            "videos": options.videos,
            "pixels": f"{options.size}x{options.size}",
            "frames": 32,
            "threads": options.threads,
        },
    )
    asked = sum(len(client.seconds) for client in clients)
    report.at_most("failed requests", sum(client.failed for client in clients), 0)
    report.at_least("throughput, of prismhub encode", timings.ratio("prismhub encode", "three adapters"), 0.8)
    first, last = statistics.median(memory[:minute]), statistics.median(memory[-minute:])
    report.at_most("memory, last minute to first", last / first, 1.05)
    report.at_most("three adapters, times one", timings.ratio("three adapters", "one adapter"), 1.1)
    report.note("throughput, by processor time", worked["encode"] / worked["three"])
    report.note("three adapters, by processor time", worked["three"] / worked["one"])
    report.note("requests", asked)
    report.note("requests a second, three adapters", len(names) / timings.median_s("three adapters"))
    report.note("clips a second, prismhub encode", len(names) / timings.median_s("prismhub encode"))
    report.note("median seconds of a request", statistics.median(took))
    report.note("99th percentile of them", took[int(0.99 * len(took))])
    report.note("memory of the first minute, MB", first)
    report.note("memory of the last minute, MB", last)
    report.publish(options.json)


def train(videos: Path, home: Path) -> None:
    """The adapters, trained for an epoch each; their features go again, so that the server has none."""
    for name, (kind, *more) in ADAPTERS.items():
        words = ["train", "--data", str(videos), "--adapter", kind, "--name", name, "--epochs", "1", *more, "--quiet"]
        environment = {**os.environ, "PRISMHUB_HOME": str(home)}
        quiet = subprocess.DEVNULL
        subprocess.run([sys.executable, "-m", "prismhub", *words], check=True, env=environment, stdout=quiet)
    shutil.rmtree(home / "features")


if __name__ == "__main__":
    main()
