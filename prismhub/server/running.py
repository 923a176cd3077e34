"""Starting the server: its address first, then what it answers with, then requests until Ctrl-C; or tools on stdin."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from core_encoder.errors import InputError
from core_encoder.files.storage import prismhub_home
from prismhub.progress import Show
from prismhub.server.settings import AnsweringSettings, McpSettings, ServeSettings

if TYPE_CHECKING:
    from adapters.hub import Hub
    from prismhub.server.app import Served
    from prismhub.server.decode_pool import DecodePool


def run_server(settings: ServeSettings, show: Show, started: Callable[[str], None] = lambda url: None) -> None:
    """Serve until a signal; what runs then is finished.

    Raises:
        InputError: the address is taken, an adapter is not there, or a package is missing.
    """
    check_installed()
    from prismhub.server.http_server import HttpServer, ended_by_signals

    with ExitStack() as stack:
        stack.enter_context(ended_by_signals())
        listening = stack.enter_context(closing(bind(settings.host, settings.port)))
        served = stack.enter_context(open_served(settings, show))
        server = HttpServer(served)
        url = address(listening)
        hub = served.answering.hub
        names = ", ".join(hub.adapters) or "no adapter"
        show.note(f"encoder {hub.encoder.name}: {names}")
        if settings.key is None and not _is_loopback(settings.host):
            show.note(f"note: {settings.host} can be reached by others, and no --api-key keeps them out")
        started(url)
        with suppress(KeyboardInterrupt):  # which uvicorn raises again once all is finished
            asyncio.run(server.serve(sockets=[listening]))
        show.note("stopped; what ran was finished")


def run_tools(settings: McpSettings, show: Show) -> None:
    """Offer tools on stdin and stdout until stdin ends, or a signal.

    Raises:
        InputError: an adapter or archive is not there, or a package is missing.
    """
    check_installed("mcp")
    from importlib.metadata import version

    from prismhub.server.http_server import ended_by_signals
    from prismhub.server.mcp_tools import make_tools

    with ended_by_signals(), _off_the_wire() as on_the_wire, open_served(settings, show) as served:
        tools = make_tools(served, version("prismhub"))
        on_the_wire()
        with suppress(KeyboardInterrupt):
            asyncio.run(tools.run_stdio_async())


@contextmanager
def _off_the_wire() -> Iterator[Callable[[], None]]:
    """Keep stdin and stdout from everyone but the protocol: also from the processes that are started here.

    They lead to nowhere and to stderr until what is yielded is called.
    """
    sys.stdout.flush()
    wires = [os.dup(number) for number in (0, 1)]  # which no other process inherits
    nowhere = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nowhere, 0)
    os.dup2(2, 1)
    os.close(nowhere)

    def on_the_wire() -> None:
        for number, wire in enumerate(wires):
            os.dup2(wire, number)

    try:
        yield on_the_wire
    finally:
        on_the_wire()
        for wire in wires:
            os.close(wire)


def check_installed(command: str = "serve") -> None:
    """Say what to install.

    Raises:
        InputError: the extra of this command is not installed.
    """
    try:
        import fastapi  # noqa: F401
        import python_multipart  # noqa: F401
        import uvicorn  # noqa: F401

        if command == "mcp":
            import mcp.server.mcpserver  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"{command} needs {error.name}, which is not installed: pip install 'prismhub[{command}]'"
        ) from error


def bind(host: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
        InputError: the port is taken, or the address is not one of this machine.
    """
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        found = socket.socket(family, kind, protocol)
    except OSError as error:
        raise InputError(f"host {host!r} is no address: {error.strerror or error}") from error
    try:
        if sys.platform != "win32":
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(where)
        found.listen(128)
    except OSError as error:
        found.close()
        raise InputError(
            f"port {port} of {host} cannot be had ({error.strerror}): is another server running? --port chooses another"
        ) from error
    return found


def address(listening: socket.socket) -> str:
    """The URL of a listening socket."""
    host, port = listening.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def _is_loopback(host: str) -> bool:
    return host in ("localhost", "::1") or host.startswith("127.")


@contextmanager
def open_served(settings: AnsweringSettings, show: Show) -> Iterator[Served]:
    """Everything the routes work with, while the block runs.

    Raises:
        InputError: an adapter or the encoder is not there.
    """
    from core_encoder.video.opening import VideoLimits
    from prismhub.server.answering import Answering
    from prismhub.server.app import Served
    from prismhub.server.archives import ServedArchive, ServedArchives, archive_names
    from prismhub.server.decode_pool import DecodePool
    from prismhub.server.metrics import Metrics
    from prismhub.server.served_files import ServedRoot, Uploads
    from prismhub.server.tickets import Tickets

    reading, metrics, root = settings.reading, Metrics(), ServedRoot(settings.root)
    with ExitStack() as stack:
        limits = VideoLimits(settings.max_pixels, settings.max_frames, remote=False)
        pool = DecodePool(reading.workers, limits, reading.clips_per_batch)
        stack.callback(pool.close)
        hub = _open_hub(settings, show, pool)
        tickets = Tickets(needed=settings.key is not None)
        archives = []
        for name, folder in zip(archive_names(settings.archive), settings.archive, strict=True):
            archives.append(ServedArchive(name, folder, hub, tickets, settings.running.accelerator, show))
            stack.callback(archives[-1].close)
        uploads = stack.enter_context(Uploads().open())
        answering = Answering(hub, pool, settings, metrics)
        stack.callback(answering.close)
        folders = [uploads.folder, prismhub_home(), Path.home(), Path.cwd(), *([root.folder] if root.folder else [])]
        served = Served(settings, answering, uploads, metrics, root, {f"{folder}/": "" for folder in folders})
        served.archives, served.tickets = ServedArchives(archives), tickets
        served.report = settings.report if isinstance(settings, ServeSettings) else None
        stack.callback(served.decoders.shutdown)
        metrics.gauges |= {
            "prismhub_requests_running": ("Requests that wait or are answered.", lambda: served.running),
            "prismhub_adapters": ("Adapters that answer.", lambda: len(hub.adapters)),
            "prismhub_archives": ("Archives that are searched.", lambda: len(archives)),
            "prismhub_streams_running": ("Videos that are given out.", lambda: len(served.streams.clients)),
            "prismhub_decode_deaths_total": ("Decode processes that a file has killed.", lambda: pool.deaths),
        }
        yield served


def _open_hub(settings: AnsweringSettings, show: Show, pool: DecodePool) -> Hub:
    from adapters.hub import Hub
    from adapters.registry import describe_adapter
    from prismhub.features import default_store, open_encoder
    from prismhub.questions import section_names
    from prismhub.saved import open_hub, shared_specs

    running, reading = settings.running, settings.reading
    if settings.adapter:
        infos = [describe_adapter(ref) for ref in settings.adapter]
        saved = dict(zip(section_names(settings.adapter), zip(settings.adapter, infos, strict=True), strict=True))
        return open_hub(saved, shared_specs(saved, running, show), running, reading, decoding=pool)
    source, precision = running.encoder or "nano", running.encoder_dtype or "fp32"
    if settings.archive:  # then its encoder is that of the server
        from prismhub.archive.folder_reader import FolderReader

        with FolderReader.open(settings.archive[0]) as index:
            record = index.record
        source, precision = running.encoder or record.source, record.features["precision"]
    encoder = open_encoder(source, running.accelerator, precision)
    return Hub(
        encoder,
        cache=reading.store or default_store(),
        batch_size=reading.clips_per_batch,
        workers=reading.workers,
        decoding=pool,
    )
