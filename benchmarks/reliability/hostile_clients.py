"""Clients that mean no good: each talks to a server once, and returns what it was answered, if anything.

They speak HTTP by hand: no client library would say such things.
"""

from __future__ import annotations

import json
import random
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.reliability.damage import DAMAGES

PATIENCE_S = 30.0
_BOUNDARY = "B0undary"


@dataclass(frozen=True)
class Answer:
    """Status and body of a response; status 0 where there was none."""

    status: int
    body: bytes

    @property
    def is_server_fault(self) -> bool:
        """Whether the server blames itself; that it is busy or that time is over is no fault."""
        return self.status >= 500 and self.status not in (503, 504)

    @property
    def is_named(self) -> bool:
        """Whether a refusal says in one line why."""
        try:
            told = json.loads(self.body)["error"]
        except (ValueError, KeyError, TypeError):
            told = self.body.decode("utf-8", "replace")  # of the HTTP parser, below any route
        return bool(told) and "\n" not in told.strip() and "Traceback" not in told


NOTHING = Answer(0, b"")
Address = tuple[str, int]
Client = Callable[[Address, random.Random, bytes], Answer]


def cuts_upload(address: Address, rng: random.Random, video: bytes) -> Answer:
    """Goes away in the middle of an upload."""
    whole = _upload(video)
    with socket.create_connection(address, PATIENCE_S) as connection:
        connection.sendall(whole[: rng.randrange(len(whole))])
    return NOTHING


def stalls(address: Address, rng: random.Random, video: bytes) -> Answer:
    """Sends half of an upload, says nothing for seconds, and goes."""
    whole = _upload(video)
    with socket.create_connection(address, PATIENCE_S) as connection:
        connection.sendall(whole[: len(whole) // 2])
        time.sleep(rng.uniform(0.5, 5))
    return NOTHING


def trickles(address: Address, rng: random.Random, video: bytes) -> Answer:
    """Sends a request byte by byte."""
    with socket.create_connection(address, PATIENCE_S) as connection:
        for byte in _request("GET", "/v1/adapters", {"X-Slow": "x" * 30}):
            connection.sendall(bytes([byte]))
            time.sleep(0.01)
        return _answer(connection)


def lies_about_length(address: Address, rng: random.Random, video: bytes) -> Answer:
    """Says another length than it sends."""
    body, kind = _form(video)
    lies = ("0", "-5", "much", str(10**30), str(len(body) // 2), str(10 * len(body)), "5, 6", "0x10", " ")
    head = {"Content-Type": kind, "Content-Length": rng.choice(lies)}
    return _say(address, _request("POST", "/v1/predict", head, body), close_after=True)


def lies_about_chunks(address: Address, rng: random.Random, video: bytes) -> Answer:
    """Sends chunks whose lengths are nonsense, or both ways of telling a length."""
    chunk = rng.choice((b"FFFFFFFFFFFFFFFF\r\nx", b"-1\r\nx\r\n", b"zz\r\n", b"5\r\nab\r\n0\r\n\r\n"))
    head = {"Content-Type": "application/json", "Transfer-Encoding": "chunked"}
    if rng.random() < 0.3:
        head["Content-Length"] = "3"
    return _say(address, _request("POST", "/v1/predict", head, chunk), close_after=True)


def lies_about_type(address: Address, rng: random.Random, video: bytes) -> Answer:
    """Sends something else than it says."""
    kinds = ["application/json", "text/plain", "application/x-python-pickle", "video/mp4", "", "multipart/form-data"]
    kinds += ["multipart/form-data; boundary=", f"multipart/form-data; boundary={'x' * 5000}"]
    return _post(address, rng.choice(("/v1/predict", "/v1/embed", "/v1/search")), rng.choice(kinds), _form(video)[0])


def uploads_damaged(address: Address, rng: random.Random, video: bytes) -> Answer:
    """Uploads a damaged file."""
    damaged = DAMAGES[rng.choice(list(DAMAGES))](rng, video, video[::-1])
    body, kind = _form(damaged, rng.choice(("a.mp4", "../../../a.mp4", "a.mkv", "\0.mp4", "a" * 3000 + ".mp4")))
    return _post(address, "/v1/predict", kind, body)


def asks_nonsense(address: Address, rng: random.Random, video: bytes) -> Answer:
    """Asks in JSON that is none, or for what is not served."""
    asked: tuple[bytes, ...] = (b"{", b"[" * 50_000, b'{"video": 3}', b'{"video": NaN}', b"\xff\xfe", b"null", b'"x"')
    names = ("../../etc/passwd", "/etc/passwd", "file:///etc/passwd", "a\0b", "http://127.0.0.1:1/a.mp4", "x" * 5000)
    asked += tuple(json.dumps({"video": name}).encode() for name in names)
    wide = ({"start": -1e300, "end": 1e300}, {"window": 1e-9}, {"window": 1e9, "step": 1e-9}, {"top": -(10**20)})
    asked += tuple(json.dumps({"video": "moving_left/0000.mp4", **one}).encode() for one in wide)
    return _post(address, "/v1/predict", "application/json", rng.choice(asked))


def asks_for_ranges(address: Address, rng: random.Random, video: bytes) -> Answer:
    """Asks for a video in ranges that make no sense."""
    far = rng.randrange(10**20)
    ranges = [f"bytes={far}-", f"bytes=-{far}", "bytes=-0", "bytes=9-1", "bytes=a-b", "bytes=", "lines=0-1", "bytes=0-"]
    ranges += ["bytes=" + ",".join("0-1" for _ in range(1000)), "bytes=0-0,-1,5-", "bytes=" + "9" * 5000]
    scene = rng.choice(("1", "2", "-1", "999999", "1e9", "../1", str(10**30)))
    return _say(address, _request("GET", f"/v1/scenes/{scene}/video", {"Range": rng.choice(ranges)}))


def asks_for_paths(address: Address, rng: random.Random, video: bytes) -> Answer:
    """Asks for paths that lead elsewhere."""
    paths = ["/static/../../settings.py", "/static/%2e%2e/app.py", "/v1/adapters/..%2f..%2f/card", "/%00"]
    paths += ["//etc/passwd", "/v1/scenes/1/thumbnail?archive=../..", "/v1/search?like=999999", "/openapi.json"]
    paths += ["/v1/search?q=" + "x" * 20_000, "/v1/search?where=%27%3B+DROP+TABLE+videos%3B--"]
    paths += ["/v1/search?q=a&top=-1", "/v1/search?q=%ff%fe", "/v1/search?q=%22&mode=text", "/v1/search?q=a*%00"]
    return _say(address, _request(rng.choice(("GET", "HEAD", "DELETE", "PUT", "TRACE")), rng.choice(paths)))


def talks_other(address: Address, rng: random.Random, video: bytes) -> Answer:
    """Talks something else than HTTP."""
    said = [b"\x16\x03\x01\x02\0\x01\0", rng.randbytes(2000), b"GET\r\n\r\n", b"\r\n" * 500, b"SSH-2.0-x\r\n"]
    said += [b"GET / HTTP/9.9\r\n\r\n", b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n"]
    said += [b"POST / HTTP/1.1\r\n" + b"X" * 70_000]
    return _say(address, rng.choice(said), close_after=True)


def floods(address: Address, rng: random.Random, video: bytes) -> Answer:
    """Opens many connections at once, and asks on each without listening."""
    connections = []
    try:
        for _ in range(60):
            connections.append(socket.create_connection(address, PATIENCE_S))
        for one in connections:
            one.sendall(_request("GET", rng.choice(("/", "/healthz", "/v1/adapters", "/docs"))) * 3)
    finally:
        for one in connections:
            one.close()
    return NOTHING


def floods_with_work(address: Address, rng: random.Random, video: bytes) -> Answer:
    """Asks for more work at once than the server takes, and leaves before the answers."""
    question = json.dumps({"video": "moving_left/0000.mp4", "window": 0.1, "step": 0.05}).encode()
    head = {"Content-Type": "application/json", "Content-Length": str(len(question))}
    connections = [socket.create_connection(address, PATIENCE_S) for _ in range(40)]
    for one in connections:
        one.sendall(_request("POST", "/v1/predict", head, question))
    time.sleep(rng.uniform(0, 0.5))
    for one in connections:
        one.close()
    return NOTHING


CLIENTS: tuple[Client, ...] = (
    cuts_upload,
    stalls,
    trickles,
    lies_about_length,
    lies_about_chunks,
    lies_about_type,
    uploads_damaged,
    asks_nonsense,
    asks_for_ranges,
    asks_for_paths,
    talks_other,
    floods,
    floods_with_work,
)


def upload(address: Address, video: bytes, name: str = "a.mp4") -> Answer:
    """An upload as honest clients do it."""
    body, kind = _form(video, name)
    return _post(address, "/v1/predict", kind, body)


def ask(address: Address, video: str) -> Answer:
    """A question about a served video, as honest clients ask it."""
    return _post(address, "/v1/predict", "application/json", json.dumps({"video": video}).encode())


def _form(video: bytes, name: str = "a.mp4") -> tuple[bytes, str]:
    head = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'
    return head.encode() + video + f"\r\n--{_BOUNDARY}--\r\n".encode(), f"multipart/form-data; boundary={_BOUNDARY}"


def _upload(video: bytes) -> bytes:
    body, kind = _form(video)
    return _request("POST", "/v1/predict", {"Content-Type": kind, "Content-Length": str(len(body))}, body)


def _post(address: Address, path: str, kind: str, body: bytes) -> Answer:
    return _say(address, _request("POST", path, {"Content-Type": kind, "Content-Length": str(len(body))}, body))


def _request(method: str, path: str, head: dict[str, str] | None = None, body: bytes = b"") -> bytes:
    head = head or {}
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", *(f"{name}: {value}" for name, value in head.items())]
    return "\r\n".join([*lines, "Connection: close", "", ""]).encode() + body


def _say(address: Address, said: bytes, close_after: bool = False) -> Answer:
    with socket.create_connection(address, PATIENCE_S) as connection:
        try:
            connection.sendall(said)
            if close_after:  # nothing more will come, though more was promised
                connection.shutdown(socket.SHUT_WR)
        except OSError:  # it has answered already, and closed
            pass
        return _answer(connection)


def _answer(connection: socket.socket) -> Answer:
    """What comes until the connection ends; nothing where it is cut."""
    parts = []
    try:
        while part := connection.recv(1 << 16):
            parts.append(part)
    except ConnectionError:
        pass
    head, _, body = b"".join(parts).partition(b"\r\n\r\n")
    if b"transfer-encoding: chunked" in head.lower():
        body = b"".join(body.split(b"\r\n")[1::2])  # lengths and contents in turn; nobody sends us line ends
    first = head.split(b" ", 2)
    status = int(first[1]) if len(first) > 1 and first[1].isdigit() else 0
    return Answer(status, body)
