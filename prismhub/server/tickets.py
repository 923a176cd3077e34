"""Tickets: what a page may put into the address of a picture or a video, where it cannot send a key along."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from urllib.parse import parse_qs, quote

_ROUTES = re.compile(r"/v1/scenes/[0-9]{1,19}/(?:thumbnail|video)|/report")


class Tickets:
    """Signs the addresses of scenes' pictures and videos, and of the report, with a secret that ends with the process.

    A ticket opens one path of one archive, for reading, and nothing else. Where the server has no key there are none.
    """

    def __init__(self, needed: bool) -> None:
        self._secret = secrets.token_bytes(32) if needed else None

    def address(self, path: str, archive: str = "") -> str:
        """The address of a path of an archive, or of none, with its ticket."""
        fields = [f"archive={quote(archive, safe='')}"] if archive else []
        fields += [] if self._secret is None else [f"ticket={self._sign(path, archive)}"]
        return "?".join([path, "&".join(fields)]) if fields else path

    def opens(self, method: str, path: str, query: str) -> bool:
        """Whether a request brings the ticket of what it asks for."""
        if self._secret is None or method not in ("GET", "HEAD") or not _ROUTES.fullmatch(path):
            return False
        try:
            fields = parse_qs(query, keep_blank_values=True, max_num_fields=8)
        except ValueError:
            return False
        archives, tickets = fields.get("archive", [""]), fields.get("ticket", [])
        if len(archives) != 1 or len(tickets) != 1:
            return False
        return hmac.compare_digest(tickets[0].encode("utf-8", "replace"), self._sign(path, archives[0]).encode())

    def _sign(self, path: str, archive: str) -> str:
        assert self._secret is not None
        return hmac.new(self._secret, f"{path}\n{archive}".encode("utf-8", "replace"), hashlib.sha256).hexdigest()
