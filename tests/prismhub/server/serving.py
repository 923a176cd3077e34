"""A server in a thread of the test, on a free port, and requests as programs send them."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from core_encoder.config import config_from_dict
from prismhub.client import Connection
from prismhub.progress import SILENT
from prismhub.server.app import Served
from prismhub.server.http_server import HttpServer
from prismhub.server.running import address, bind, open_served
from prismhub.server.settings import ServeSettings


@dataclass(frozen=True)
class Reply:
    """An answer: status, headers, bytes."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        """The one line of an error."""
        (line,) = self.json.values()
        assert list(self.json) == ["error"] and "\n" not in line
        return line


@dataclass(frozen=True)
class Running:
    """A server that runs, and its insides."""

    url: str
    served: Served

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    @property
    def client(self) -> Connection:
        return Connection(self.url, self.served.settings.key)

    def request(self, method: str, path: str, body: Any = None, **headers: str) -> Reply:
        """One request; `headers` as in `content_type="text/plain"`, a body that is no text or bytes is sent as JSON."""
        if body is not None and not isinstance(body, bytes | str):
            body = json.dumps(body)
            headers.setdefault("content_type", "application/json")
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        try:
            connection.request(method, path, body, {k.replace("_", "-"): v for k, v in headers.items()})
            answer = connection.getresponse()
            return Reply(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()


@contextmanager
def serving(**options: Any) -> Iterator[Running]:
    """A server with these options of `prismhub serve`, while the block runs."""
    given = {"port": 0, "accelerator": "cpu"} | options
    settings = config_from_dict(ServeSettings, given, "test")
    listening = bind(settings.host, settings.port)
    with listening, open_served(settings, SILENT) as served:
        server = HttpServer(served, log_level="error")
        thread = threading.Thread(target=lambda: server.run(sockets=[listening]), daemon=True)
        thread.start()
        deadline = time.monotonic() + 60
        while not server.started and time.monotonic() < deadline:
            time.sleep(0.01)
        try:
            yield Running(address(listening), served)
        finally:
            server.should_exit = True
            thread.join(60)
