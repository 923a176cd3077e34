"""uvicorn, as this server uses it: told to end, it finishes what runs, and lets no player that pauses keep it."""

from __future__ import annotations

import math
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from prismhub.server.app import Served, make_app


class HttpProtocol(H11Protocol):
    """Of a request whose body breaks the rules of HTTP nothing more is said once it has been refused, or answered."""

    def send_400_response(self, msg: str) -> None:
        """Refuse what was received; whoever is still at work on an answer to it is told that nobody waits."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            super().send_400_response(msg)
        else:  # it has been answered, at least in part
            self.transport.close()


class HttpServer(uvicorn.Server):
    """Answers requests until it is told to end."""

    def __init__(self, served: Served, log_level: str = "warning") -> None:
        config = uvicorn.Config(
            make_app(served),
            http=HttpProtocol,
            log_level=log_level,
            access_log=False,
            server_header=False,
            lifespan="off",
            timeout_graceful_shutdown=math.ceil(served.settings.max_seconds) + 5,  # then whoever takes no answer
        )
        super().__init__(config)
        self._streams = served.streams

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no more requests, finish those that run, and break off videos."""
        connections: list[Any] = list(self.server_state.connections)
        for connection in connections:
            if connection.client in self._streams.clients:
                connection.transport.abort()  # to close it would wait until the player takes what was sent
        await super().shutdown(sockets)


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """SIGTERM ends the block as Ctrl-C does, so that everything is put away; a service manager sends it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
