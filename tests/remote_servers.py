"""Servers in this process that remote data is read from: a web server with every bad habit, and a real S3 API."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from core_encoder.files.remote import RemoteLimits
from tests.http_handlers import answered_by

BUCKET = "videos"


@dataclass
class WebServer:
    """A web server of a folder, and what it was asked for."""

    folder: Path
    port: int = 0
    ranges: bool = True
    sizes: bool = True  # says how long a file is
    tags: bool = True  # says what changes when the bytes do
    cut_after: int | None = None  # bytes of every answer, then the connection is cut
    piece_s: float = 0.0  # a pause after every 64 KiB
    first_s: float = 0.0  # before an answer
    statuses: list[int] = field(default_factory=list)  # of the next answers, in place of the file
    asked: list[tuple[str, str]] = field(default_factory=list)  # path and Range of every request
    sent: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def serving(folder: Path, **habits: Any) -> Iterator[WebServer]:
    """A web server of the files in a folder."""
    server = WebServer(folder, **habits)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = urlsplit(self.path).path
            span = self.headers.get("Range", "")
            server.asked.append((self.path, span))
            time.sleep(server.first_s)
            file = server.folder / path.lstrip("/")
            if server.statuses or not file.is_file():
                self.send_response(server.statuses.pop(0) if server.statuses else 404)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            content = file.read_bytes()
            size, part = len(content), re.fullmatch(r"bytes=(\d+)-(\d+)", span)
            in_part = server.ranges and part is not None
            if in_part and part is not None:
                content = content[int(part[1]) : int(part[2]) + 1]
            self.send_response(206 if in_part else 200)
            if in_part and part is not None:
                self.send_header("Content-Range", f"bytes {part[1]}-{int(part[1]) + len(content) - 1}/{size}")
            if server.sizes:
                self.send_header("Content-Length", str(len(content)))
            else:
                self.send_header("Connection", "close")
            if server.tags:
                self.send_header("ETag", f'"{file.stat().st_mtime_ns}-{size}"')
            self.end_headers()
            for begin in range(0, len(content), 1 << 16):
                piece = content[begin : begin + (1 << 16)]
                is_cut = server.cut_after is not None and begin + len(piece) > server.cut_after
                if is_cut and server.cut_after is not None:
                    piece = piece[: max(0, server.cut_after - begin)]
                try:
                    self.wfile.write(piece)
                except OSError:  # the client has seen enough
                    is_cut = True
                if is_cut:
                    self.close_connection = True
                    return
                server.sent += len(piece)
                time.sleep(server.piece_s)
            if not server.sizes:
                self.close_connection = True

        def log_message(self, *about: object) -> None:
            """Says nothing."""

    with answered_by(Handler) as server.port:
        yield server


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The address of a real S3 API, in this process."""
    moto = pytest.importorskip("moto.server")
    pytest.importorskip("s3fs")
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process has asked no server yet, keeps the usual limits, and waits for nothing before it asks again."""
    monkeypatch.setattr("core_encoder.files.remote._facts", {})
    monkeypatch.setattr("core_encoder.files.remote._limits", RemoteLimits())
    monkeypatch.setattr("core_encoder.files.remote._WAITS_S", (0.0, 0.0, 0.0, 0.0))
    monkeypatch.setattr("core_encoder.video.video_files._hashed_here", {})
    monkeypatch.setattr("core_encoder.video.video_bytes._copies", {})


@pytest.fixture
def web(nothing_known: None, tmp_path: Path) -> Iterator[WebServer]:
    """A web server of the test's folder."""
    with serving(tmp_path) as server:
        yield server


@pytest.fixture
def s3(s3_server: str, nothing_known: None, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A file system of an empty bucket `videos`; whatever opens `s3://` in this test comes there."""
    import fsspec

    for name, value in (
        ("AWS_ACCESS_KEY_ID", "key"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
        ("AWS_ENDPOINT_URL", s3_server),
    ):
        monkeypatch.setenv(name, value)
    fs = fsspec.filesystem("s3", endpoint_url=s3_server, use_listings_cache=False, skip_instance_cache=True)
    if fs.exists(BUCKET):
        fs.rm(BUCKET, recursive=True)
    fs.mkdir(BUCKET)
    return fs
