"""Bytes that lie elsewhere, through fsspec: asked for again when a connection is cut, and given up after a while.

What goes wrong is a `RemoteError` whose reason names the host, in words of our own: those of the libraries hold whole
addresses, and so signatures and passwords.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from core_encoder.errors import InputError
from core_encoder.files.storage import is_switched_on
from core_encoder.files.urls import Url

_PACKAGES = {
    "s3": ("s3fs", "pip install 'prismhub[remote]'"),
    "gs": ("gcsfs", "pip install gcsfs"),
    "gcs": ("gcsfs", "pip install gcsfs"),
}
_WAITS_S = (0.5, 1.0, 2.0, 4.0)  # before another attempt
_STALL_S = 30.0  # without a byte
_BLOCK = 8 << 20  # bytes of an object asked for at once
_CHUNK = 1 << 20
_MISSING = "there is no such file"
_REMEMBERED = 1 << 16
_TAGS = ("ETag", "etag", "blob_id", "LastModified", "updated", "mtime")  # what stores say of an object's bytes
_WEB_TAGS = ("ETag", "Content-MD5", "Last-Modified")
Answer = TypeVar("Answer")


class RemoteError(Exception):
    """What is asked for does not come; `reason` names the host and no secret, `missing` says that it is not there."""

    def __init__(self, url: Url, reason: str) -> None:
        self.reason = f"{url.host}: {reason}"
        self.missing = reason == _MISSING
        super().__init__(self.reason)


@dataclass(frozen=True)
class RemoteLimits:
    """How much disk copies of remote files take in this process, and how long the bytes of one may take to come."""

    copies_bytes: int = 4 << 30
    timeout_s: float = 600.0


_limits = RemoteLimits()


def limit_remote(limits: RemoteLimits) -> None:
    """From now on this process keeps to these limits."""
    global _limits
    _limits = limits


def remote_limits() -> RemoteLimits:
    """The limits of this process."""
    return _limits


@dataclass(frozen=True)
class RemoteFacts:
    """What is known of a remote file before its bytes are read."""

    size: int | None  # None: the server does not say
    tag: str  # another one when the bytes are others; empty: the server does not say
    has_ranges: bool  # parts of it can be asked for
    sha256: str | None = None  # where the store keeps one
    changed: float = 0.0  # when, in seconds since 1970; 0: not known


class Patience:
    """How long one file may still be waited for, over all the requests for it."""

    def __init__(self) -> None:
        self.most_s = self.left_s = remote_limits().timeout_s

    def ask(self, url: Url, request: Callable[[float], Answer]) -> Answer:
        """The answer to one request, which is told how many seconds it has.

        Raises:
            RemoteError: there is no time left.
        """
        if self.left_s <= 0:
            raise RemoteError(url, f"its bytes did not come within {self.most_s:g} s (--remote-timeout allows more)")
        started = time.monotonic()
        try:
            return request(min(self.left_s, _STALL_S))
        finally:
            self.left_s -= time.monotonic() - started

    def again(self, url: Url, request: Callable[[float], Answer]) -> Answer:
        """The answer to a request that is made again when it fails.

        Raises:
            RemoteError: it fails for good, or too often.
        """
        failures = Failures(url, self)
        while True:
            try:
                return self.ask(url, request)
            except Exception as error:
                failures.bear(error)


class Failures:
    """The failed attempts at one thing in a row."""

    def __init__(self, url: Url, patience: Patience) -> None:
        self._url = url
        self._patience = patience
        self._count = 0

    def forget(self) -> None:
        """Something came: the next failure is the first."""
        self._count = 0

    def bear(self, error: Exception) -> None:
        """Wait a little, longer each time.

        Raises:
            RemoteError: `error` is final, or the last of too many.
        """
        if isinstance(error, RemoteError | InputError):
            raise error
        reason, is_final = _reason(error)
        if is_final or self._count == len(_WAITS_S):
            times = f", {self._count + 1} times" if self._count else ""
            raise RemoteError(self._url, reason + times) from error
        wait_s = _WAITS_S[self._count]
        self._count += 1
        self._patience.left_s -= wait_s
        time.sleep(wait_s)


def _reason(error: Exception) -> tuple[str, bool]:
    """Why a request failed, and whether asking again is no use."""
    status = getattr(error, "status", None) or getattr(getattr(error, "response", None), "status_code", None)
    kind = type(error).__name__
    if isinstance(error, FileNotFoundError) or status in (404, 410):
        return _MISSING, True
    if isinstance(error, PermissionError) or status in (401, 403):
        return "access is denied" + (f" (status {status})" if status else ""), True
    if "Credential" in kind:
        return "there are no credentials for it on this machine", True
    if isinstance(status, int):
        return f"the server answers with status {status}", status < 500 and status not in (408, 425, 429)
    if isinstance(error, TimeoutError) or "Timeout" in kind:
        return "the server does not answer in time", False
    if "Connector" in kind or "EndpointConnection" in kind or isinstance(error, ConnectionRefusedError):
        return "the server cannot be reached", False
    if isinstance(error, _Cut | ConnectionError) or "Payload" in kind or "Disconnected" in kind or "Incomplete" in kind:
        return "the connection was cut", False
    return f"it cannot be read ({kind})", not isinstance(error, OSError) and "Client" not in kind and "HTTP" not in kind


class _Cut(Exception):
    """Fewer bytes came than were asked for."""


def file_system(url: Url) -> Any:
    """What fsspec reads and writes an address with.

    Raises:
        InputError: its package is not installed, or `PRISMHUB_OFFLINE` is set.
    """
    if is_switched_on("PRISMHUB_OFFLINE"):
        raise InputError(f"{url}: PRISMHUB_OFFLINE is set: nothing is asked of the network")
    import fsspec

    options: dict[str, Any] = {"use_listings_cache": False}
    if url.is_web:
        import aiohttp

        options["client_kwargs"] = {"timeout": aiohttp.ClientTimeout(total=None), "trust_env": True}
    elif url.scheme == "s3":
        options["config_kwargs"] = {"connect_timeout": 10, "read_timeout": _STALL_S}
    try:
        return fsspec.filesystem(url.scheme, **options)
    except ImportError as error:
        package, command = _PACKAGES.get(url.scheme, (url.scheme, "pip install huggingface_hub"))
        raise InputError(f"{url}: {package} is not installed, which reads {url.scheme}://: {command}") from error


def _call(fs: Any, name: str, *given: Any, timeout_s: float, **options: Any) -> Any:
    """One call of a file system, with a time-out where it knows any."""
    from fsspec.asyn import AsyncFileSystem, sync

    if isinstance(fs, AsyncFileSystem):
        return sync(fs.loop, getattr(fs, f"_{name}"), *given, timeout=timeout_s, **options)
    return getattr(fs, name)(*given, **options)


def facts_of(url: Url, patience: Patience | None = None) -> RemoteFacts:
    """What is known of a file, asked once a process.

    Raises:
        RemoteError: there is no such file, or it cannot be reached.
        InputError: as `file_system`.
    """
    known = _facts.get(url.whole)
    if known is None:
        ask = _web_facts if url.is_web else _object_facts
        known = (patience or Patience()).again(url, lambda timeout_s: ask(url, timeout_s))
        if len(_facts) >= _REMEMBERED:
            _facts.clear()
        _facts[url.whole] = known
    return known


_facts: dict[str, RemoteFacts] = {}


def _object_facts(url: Url, timeout_s: float) -> RemoteFacts:
    info = _call(file_system(url), "info", url.whole, timeout_s=timeout_s)
    if info.get("type") == "directory":
        raise RemoteError(url, "a folder, not a file")
    return _told(info)


def _told(info: Mapping[str, Any]) -> RemoteFacts:
    """What a store says of an object, alone or in a list."""
    lfs = info.get("lfs") or {}
    sha256 = lfs.get("sha256") if isinstance(lfs, dict) else getattr(lfs, "sha256", None)
    changed = info.get("LastModified") or info.get("mtime")
    since = changed.timestamp() if isinstance(changed, datetime) else 0.0
    return RemoteFacts(info["size"], _first(info, _TAGS), True, sha256, since)


def remember_facts(found: Mapping[Url, RemoteFacts]) -> None:
    """Take what a list says of files for what is known of them, so that none of them has to be asked for."""
    for url, facts in found.items():
        if len(_facts) >= _REMEMBERED:
            _facts.clear()
        _facts[url.whole] = facts


def _first(told: Mapping[str, Any], names: Sequence[str]) -> str:
    """The first of some values that was told, as text."""
    return next((str(told[name]) for name in names if told.get(name)), "")


def _web_facts(url: Url, timeout_s: float) -> RemoteFacts:
    """Of a request for the first byte: what signs an address may allow no other, and the answer tells of ranges."""
    fs = file_system(url)
    answer = _asked(fs, url, 0, 1, timeout_s)
    try:
        headers, spans = answer.headers, answer.status in (206, 416)
        told = headers.get("Content-Range", "").rpartition("/")[2] if spans else headers.get("Content-Length", "")
        size = int(told) if told.isdigit() else None
        return RemoteFacts(size, _first(headers, _WEB_TAGS), answer.status == 206 and size is not None)
    finally:
        fs.loop.call_soon_threadsafe(answer.close)


def _asked(fs: Any, url: Url, begin: int, end: int | None, timeout_s: float) -> Any:
    """The answer of a web server to a request for a file, or for a part of it, before its body is read."""
    import yarl
    from fsspec.asyn import sync

    headers = {"Accept-Encoding": "identity"}
    if end is not None:
        headers["Range"] = f"bytes={begin}-{end - 1}"
    as_given = url.whole.isascii() and " " not in url.whole  # what is signed must arrive as it was written

    async def ask() -> Any:
        session = await fs.set_session()
        return await session.get(yarl.URL(url.whole, encoded=as_given), headers=headers)

    answer = sync(fs.loop, ask, timeout=timeout_s)
    if answer.status >= 400 and answer.status != 416:
        fs.loop.call_soon_threadsafe(answer.close)
        answer.raise_for_status()
    return answer


def fetch(
    url: Url,
    write: Callable[[bytes], object],
    start_over: Callable[[], object],
    *,
    begin: int = 0,
    end: int | None = None,
    patience: Patience | None = None,
) -> None:
    """Give the bytes of a file, from `begin` to `end`, piece by piece to `write`, going on where a connection was cut.

    Where the server gives no parts of files they come again from the beginning, after `start_over`.

    Raises:
        RemoteError: they do not come.
        InputError: as `file_system`.
    """
    patience = patience or Patience()
    facts = facts_of(url, patience)
    whole = begin == 0 and (end is None or end == facts.size)
    if not (facts.has_ranges or whole):
        raise RemoteError(url, "the server gives no parts of files")
    stop = facts.size if end is None else end
    got, failures = begin, Failures(url, patience)
    pieces = _pieces(url, got, stop, facts.has_ranges, patience)
    try:
        while stop is None or got < stop:
            try:
                piece = next(pieces, b"")
                if not piece and stop is not None:
                    raise _Cut
            except Exception as error:
                failures.bear(error)
                if not facts.has_ranges and got > begin:
                    got = begin
                    start_over()
                pieces = _pieces(url, got, stop, facts.has_ranges, patience)
                continue
            if not piece:
                return
            write(piece)
            got += len(piece)
            if facts.has_ranges:  # it goes on from here
                failures.forget()
    finally:
        pieces.close()


def _pieces(url: Url, begin: int, end: int | None, in_parts: bool, patience: Patience) -> Generator[bytes]:
    fs = file_system(url)
    if url.is_web:
        yield from _web_pieces(fs, url, begin, end if in_parts else None, patience)
        return
    assert end is not None  # objects have a size
    for at in range(begin, end, _BLOCK):
        until = min(at + _BLOCK, end)
        yield patience.ask(
            url,
            lambda timeout_s, at=at, until=until: _call(  # type: ignore[misc]
                fs, "cat_file", url.whole, start=at, end=until, timeout_s=timeout_s
            ),
        )


def _web_pieces(fs: Any, url: Url, begin: int, end: int | None, patience: Patience) -> Iterator[bytes]:
    from fsspec.asyn import sync

    answer = patience.ask(url, lambda timeout_s: _asked(fs, url, begin, end, timeout_s))
    try:
        if end is not None and answer.status != 206:
            raise RemoteError(url, "the server gives no parts of files any more")
        while piece := patience.ask(
            url, lambda timeout_s: sync(fs.loop, answer.content.read, _CHUNK, timeout=timeout_s)
        ):
            yield piece
    finally:
        with suppress(RuntimeError):  # the loop ended before us
            fs.loop.call_soon_threadsafe(answer.close)


def read_whole(url: Url, at_most: int) -> bytes:
    """All bytes of a small file as it is now.

    Raises:
        RemoteError: they do not come, or are too many.
    """
    _facts.pop(url.whole, None)
    size = facts_of(url).size
    if size is not None and size > at_most:
        raise RemoteError(url, f"{size:,} bytes, where at most {at_most:,} are expected")
    found = bytearray()
    fetch(url, found.extend, found.clear)
    return bytes(found)


def read_range(url: Url, begin: int, end: int, patience: Patience | None = None) -> bytes:
    """The bytes of a file from `begin` to `end`.

    Raises:
        RemoteError: they do not come.
    """
    found = bytearray()
    fetch(url, found.extend, found.clear, begin=begin, end=end, patience=patience)
    return bytes(found)


def list_files(url: Url) -> dict[Url, RemoteFacts]:
    """The files below an address, sorted, hidden ones passed over; empty where there is none.

    Raises:
        RemoteError: the store cannot be reached, or lists no files.
        InputError: as `file_system`.
    """
    if url.is_web:
        raise RemoteError(url, "a web server lists no files: name each, or a manifest of them")
    fs = file_system(url)
    found = Patience().again(
        url, lambda timeout_s: _call(fs, "find", url.whole.rstrip("/"), timeout_s=10 * timeout_s, detail=True)
    )
    listed = {}
    prefix = fs._strip_protocol(url.whole.rstrip("/"))
    for name, info in sorted(found.items()):
        below = name[len(prefix) :] if name.startswith(prefix) else name
        if info.get("type") != "directory" and "/." not in f"/{below.lstrip('/')}":
            listed[Url(f"{url.scheme}://{name}")] = _told(info)
    return listed


def upload(local: str | Path, url: Url) -> None:
    """Make a local file an object, whole or not at all.

    Raises:
        RemoteError: the store does not take it.
        InputError: as `file_system`.
    """
    fs = file_system(url)
    Patience().again(
        url, lambda timeout_s: _call(fs, "put_file", os.fspath(local), url.whole, timeout_s=20 * timeout_s)
    )


def remove(url: Url) -> None:
    """Remove an object, where it is there.

    Raises:
        RemoteError: the store does not let us.
    """
    fs = file_system(url)

    def ask(timeout_s: float) -> None:
        with suppress(FileNotFoundError):
            _call(fs, "rm_file", url.whole, timeout_s=timeout_s)

    Patience().again(url, ask)
    _facts.pop(url.whole, None)
