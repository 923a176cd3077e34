"""How a server ends, as a process of its own: by Ctrl-C, SIGTERM and SIGKILL; and what it does beside long work."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from prismhub.cli import run
from prismhub.client import Connection
from tests import ROOT
from tests.prismhub.server.serving import serving
from tests.prismhub.server.test_attacks import form, upload
from tests.videos import moving_square, write_video

HEED = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"  # background jobs ignore it


class Started:
    """`prismhub serve` as a process of its own, with what it says on stderr."""

    def __init__(self, *options: str) -> None:
        code = f"{HEED}; from prismhub.cli import main; main()"
        words = [sys.executable, "-c", code, "serve", "--port", "0", "--accelerator", "cpu", *options]
        pipes = {"stderr": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.process = subprocess.Popen(words, **pipes, text=True, cwd=ROOT, start_new_session=True)
        self.said: list[str] = []
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said.append(line)
            if found := re.match(r"serving at (\S+)", line):
                self.url = found[1]
                return
        raise AssertionError("".join(self.said))

    def end(self) -> tuple[int, str]:
        """Wait for its end: exit code, and all that it said."""
        _, rest = self.process.communicate(timeout=60)
        return self.process.returncode, "".join(self.said) + rest


@contextmanager
def started(*options: str) -> Iterator[Started]:
    one = Started(*options)
    try:
        yield one
    finally:
        if one.process.poll() is None:
            one.process.kill()
            one.process.communicate()


def of_home(home: Path) -> list[int]:
    """The processes that were started with this PRISMHUB_HOME, but for this one."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            own = f"PRISMHUB_HOME={home}".encode() in (folder / "environ").read_bytes().split(b"\0")
            if own and (folder / "status").read_text().split("State:")[1].split()[0] != "Z":
                found.append(int(folder.name))
        except (OSError, IndexError):
            continue
    return [one for one in found if one != os.getpid()]


def until(holds: Callable[[], Any], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.05)


def running(server: Started) -> int:
    """How many requests wait or are answered."""
    port = int(server.url.rpartition(":")[2])
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    return int(re.findall(r"^prismhub_requests_running (\d+)", text, re.M)[0])


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_what_runs_is_finished_and_nothing_stays(trained: Path, tmp_path: Path, sent: signal.Signals) -> None:
    path = write_video(tmp_path / "a.mp4", moving_square())
    with started("--adapter", "x", "--max-wait-ms", "3000") as server, ThreadPoolExecutor(2) as several:
        answers = [several.submit(Connection(server.url).predict, path) for _ in range(2)]
        until(lambda: running(server) == 2)
        os.killpg(server.process.pid, sent)  # as a terminal or a service manager does: to all processes
        time.sleep(0.3)
        with pytest.raises(OSError), socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2]))):
            pass
        assert all(set(one.result()) == {"x"} for one in answers)
        code, said = server.end()
    assert code == 0 and said.endswith("stopped; what ran was finished\n"), said
    assert "Traceback" not in said and "rror" not in said
    until(lambda: not of_home(trained))
    assert not list((trained / "uploads").glob("*/*.mp4"))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").exists(), reason="processes are found in /proc")
def test_a_server_that_is_killed_in_a_batch_leaves_nothing_that_the_next_one_does_not_put_away(
    trained: Path, splits: Path, tmp_path: Path
) -> None:
    paths = [write_video(tmp_path / f"{seed}.mp4", moving_square(seed=seed)) for seed in range(4)]
    before = {path: path.read_bytes() for path in (trained / "features").rglob("*") if path.is_file()}
    with started("--adapter", "x", "--max-wait-ms", "20000", "--workers", "2") as server:
        for path in paths:
            threading.Thread(target=_ask_and_forget, args=(server.url, path), daemon=True).start()
        until(lambda: running(server) == 4)
        until(lambda: len(list((trained / "uploads").glob("*/*.mp4"))) == 4)
        assert len(of_home(trained)) >= 4, "the server, and those that decode"
        server.process.kill()
        server.process.communicate()
    until(lambda: not of_home(trained)), "decode processes end by themselves"
    assert len(list((trained / "uploads").glob("*/*.mp4"))) == 4, "nobody was there to remove them"
    assert {path: path.read_bytes() for path in (trained / "features").rglob("*") if path.is_file()} == before
    assert run(["cache", "verify"]) == 0
    with started("--adapter", "x", "--root", str(splits)) as server:
        left = list((trained / "uploads").iterdir())
        assert len([one for one in left if one.is_dir()]) == 1 and not list((trained / "uploads").glob("*/*.mp4"))
        assert set(Connection(server.url).predict(paths[0])) == {"x"}
        server.process.send_signal(signal.SIGINT)
        assert server.end()[0] == 0


def _ask_and_forget(url: str, path: Path) -> None:
    try:
        Connection(url).predict(path)
    except Exception:
        return


def test_two_servers_do_not_share_a_port(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serving(adapter=["x"]) as server:
        assert run(["serve", "--port", str(server.port)]) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1 and f"port {server.port} of 127.0.0.1 cannot be had" in said
        assert "--port chooses another" in said
        assert server.client.health()["status"] == "ok"
    assert run(["serve", "--host", "192.0.2.1", "--port", "0"]) == 2
    assert "cannot be had" in capsys.readouterr().err


def test_an_upload_that_stops_half_way_costs_its_place_no_longer_than_it_takes(trained: Path, tmp_path: Path) -> None:
    content = write_video(tmp_path / "a.mp4", moving_square()).read_bytes()
    body, kind = form("a.mp4", content)
    head = (
        f"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with serving(adapter=["x"], queue=1) as server:
        for part in (0, len(body) // 2, len(body) - 1):
            with socket.create_connection(("127.0.0.1", server.port)) as one:
                one.sendall(head.encode() + body[:part])
                until(lambda: server.served.running == 1)
            until(lambda: server.served.running == 0)
        assert not list(server.served.uploads.folder.iterdir())
        assert upload(server, "a.mp4", content).status == 200


def test_bodies_that_are_too_large_are_refused_before_they_are_read(trained: Path) -> None:
    with serving(adapter=["x"]) as server:
        for kind, length in (
            ("application/json", 5_000_000),
            ("application/json", 10**11),
            ("multipart/form-data; boundary=B", 10**11),
            ("multipart/form-data; boundary=B", "much"),
        ):
            with socket.create_connection(("127.0.0.1", server.port)) as one:
                about = f"Content-Type: {kind}\r\nContent-Length: {length}\r\n\r\n"
                one.sendall(f"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\n{about}".encode())
                one.settimeout(10)
                assert one.recv(20).split()[1] in (b"413", b"400"), (kind, length)
        with socket.create_connection(("127.0.0.1", server.port)) as one:  # without a word of its length
            about = "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
            one.sendall(f"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\n{about}".encode())
            for _ in range(80):
                try:
                    one.sendall(b"10000\r\n" + b" " * 0x10000 + b"\r\n")
                except OSError:
                    break
            one.settimeout(10)
            assert one.recv(20).split()[1] == b"413"
        many = {f"field{i}": "x" for i in range(3000)}
        large = {"question": "x" * 100_000}
        for fields in (many, large):
            body, kind = form("a.mp4", b"x", **fields)
            reply = server.request("POST", "/v1/predict", body, content_type=kind)
            assert reply.status in (400, 422) and reply.error


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_long_videos_hold_up_no_short_ones(trained: Path, tmp_path: Path, workers: int) -> None:
    write_video(tmp_path / "long.mp4", moving_square(16 * 60, 64, 64))
    short = write_video(tmp_path / "short.mp4", moving_square())
    asked = {"video": "long.mp4", "window": 1.0, "step": 0.25}
    with serving(adapter=["x"], root=str(tmp_path), workers=workers) as server, ThreadPoolExecutor(3) as several:
        server.client.predict(short)
        slow = [several.submit(server.request, "POST", "/v1/predict", asked) for _ in range(2)]
        until(lambda: server.served.running == 2)
        time.sleep(0.2)
        times = []
        for _ in range(3):
            began = time.monotonic()
            assert set(server.client.predict(short)) == {"x"}
            times.append(time.monotonic() - began)
        assert not any(one.done() for one in slow[1:]), "the test is too short for this machine"
        assert sorted(times)[1] < 1.0, times
        for one in slow:
            assert one.result().status == 200 and len(one.result().json["x"][0]["windows"]) > 200


def test_adapters_come_and_go_while_long_questions_run(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained / "adapters" / "x", trained / "adapters" / "y")
    write_video(tmp_path / "long.mp4", moving_square(16 * 60, 64, 64))
    asked = {"video": "long.mp4", "window": 1.0, "step": 0.25}
    with serving(adapter=["x"], root=str(tmp_path)) as server, ThreadPoolExecutor(1) as several:
        slow = several.submit(server.request, "POST", "/v1/predict", asked)
        until(lambda: server.served.running == 1)
        time.sleep(0.2)
        assert server.client.load_adapter("y") == "y"
        server.client.unload_adapter("x")
        assert list(slow.result().json) == ["x"], json.dumps(slow.result().json)[:300]
        assert list(server.client.predict(served="long.mp4", end=1.0)) == ["y"]
