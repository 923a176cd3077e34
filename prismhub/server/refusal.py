"""Why a request is not answered, as a status and one line that says nothing of this machine."""

from __future__ import annotations

from collections.abc import Mapping


class Refused(Exception):
    """A request that is answered with an error: an HTTP status, one line, and headers that go with it."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        self.status, self.message, self.headers = status, " ".join(message.split()), dict(headers or {})
        super().__init__(message)


def public_text(text: str, names: Mapping[str, str]) -> str:
    """A message with the paths of this machine, longest first, as clients know them.

    Args:
        names: what each path is called; a folder whose files may be named is called "".
    """
    for path in sorted(names, key=len, reverse=True):
        text = text.replace(path, names[path])
    return " ".join(text.split())
