"""Who may ask: the name under which the server is called, the page that asks, and the key."""

from __future__ import annotations

import hmac
import ipaddress
import socket
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from prismhub.server.refusal import Refused
from prismhub.server.tickets import Tickets

OPEN_PATHS = ("/healthz", "/")  # which need no key
OPEN_FOLDER = "/static/"  # the files of the page


class Guard:
    """Refuses requests before anything of them is read."""

    def __init__(self, key: str | None, host: str, allowed: Sequence[str] = (), tickets: Tickets | None = None) -> None:
        self._tickets = tickets or Tickets(needed=key is not None)
        self._key = None if key is None else key.encode()
        self._names = {"localhost", host.lower(), socket.gethostname().lower(), *(one.lower() for one in allowed)}

    def check(self, method: str, path: str, headers: Mapping[str, str], query: str = "") -> None:
        """Let a request pass.

        Raises:
            Refused: it calls the server by a foreign name, comes from a foreign page, or brings no key or a wrong one.
        """
        host = headers.get("host", "")
        if not self._is_ours(host):
            raise Refused(421, "this server is not called so: say --allow-host NAME where it starts")
        self._check_page(method, path, headers, host)
        is_open = path in OPEN_PATHS or path.startswith(OPEN_FOLDER) or self._tickets.opens(method, path, query)
        if self._key is None or is_open:
            return
        if not self._has_key(headers):
            raise Refused(401, "this server wants its key: Authorization: Bearer KEY", {"WWW-Authenticate": "Bearer"})

    def _is_ours(self, host: str) -> bool:
        """Whether a Host header names this server; a page that rebinds its own name to our address gives that name."""
        name = (urlsplit(f"//{host}").hostname or "") if _is_plain(host) else ""
        if name in self._names:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True

    def _check_page(self, method: str, path: str, headers: Mapping[str, str], host: str) -> None:
        """Browsers say which page asks: in Origin, or else in Sec-Fetch-Site."""
        foreign = Refused(403, "requests from pages of other sites are refused")
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            raise foreign
        site = headers.get("sec-fetch-site", "none")
        followed_link = method == "GET" and path == "/" and headers.get("sec-fetch-mode") == "navigate"
        if site not in ("none", "same-origin") and not followed_link:
            raise foreign

    def _has_key(self, headers: Mapping[str, str]) -> bool:
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer":
            given = headers.get("x-api-key", "")
        assert self._key is not None
        return hmac.compare_digest(given.strip().encode("utf-8", "surrogateescape"), self._key)


def _is_plain(host: str) -> bool:
    """Whether it holds nothing that an address does not hold; `urlsplit` is lenient."""
    return bool(host) and not set(host) & set("/@?# \\")
