"""`prismhub serve`: one encoder in memory answers for every adapter, over HTTP, until Ctrl-C."""

from __future__ import annotations

import threading
import webbrowser

from prismhub.progress import SILENT, Show
from prismhub.server.running import run_server
from prismhub.server.settings import ServeSettings


def serve(settings: ServeSettings, show: Show = SILENT) -> None:
    """Serve until a signal; what runs then is finished, and further requests are no longer taken.

    Raises:
        InputError: the address is taken, there is no such adapter or root, or the extra is not installed.
    """

    def started(url: str) -> None:
        show.note(f"serving at {url}, which is a page for a browser; {url}/docs lists the calls (Ctrl-C stops)")
        if settings.open:  # in a thread: a browser in a terminal comes back when it is closed
            threading.Thread(target=_open_page, args=(url, show), daemon=True).start()

    run_server(settings, show, started)


def _open_page(url: str, show: Show) -> None:
    page = url.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")  # every address: our own is one
    if not webbrowser.open(page):
        show.note("note: no browser could be opened here")


def print_serve(settings: ServeSettings) -> None:
    """Answer questions about videos over HTTP: one encoder in memory, any number of adapters.

    Example: prismhub serve --adapter my-labels --adapter my-captions --root my_videos/
    """
    serve(settings, Show(settings.output.quiet))
