"""The file of an archived video as it is given out: the one that was indexed and no other, whole or a range of it."""

from __future__ import annotations

import asyncio
import hashlib
import mimetypes
import os
import re
import stat
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from core_encoder.errors import UnreadableVideo
from core_encoder.video.video_files import video_digest
from prismhub.archive.scenes import ArchivedVideo
from prismhub.server.refusal import Refused

_CHUNK_BYTES = 256 << 10
_RANGE = re.compile(r"bytes=\s*([0-9]{0,18})-([0-9]{0,18})\s*")
_KINDS = {".mkv": "video/x-matroska", ".m4v": "video/mp4", ".webm": "video/webm", ".mov": "video/quicktime"}


@dataclass(frozen=True)
class IndexedFile:
    """An open file, its size in bytes, the digest of its content, and its MIME type."""

    file: BinaryIO
    size: int
    digest: str
    kind: str


def open_indexed(video: ArchivedVideo) -> IndexedFile:
    """Open the file of a video, below the folder that was indexed, with the content that was indexed.

    The file is opened first and then looked at, so that it cannot be exchanged in between.

    Raises:
        Refused: it is gone, another one, or a link leads out of the folder, which the answer does not tell apart; or it
            lies elsewhere.
    """
    gone = Refused(404, f"the video {video.path!r} is not there as it was indexed")
    if not Path(video.root).is_absolute():  # an address, which would be taken for a path below the server's own folder
        raise Refused(404, f"the video {video.path!r} does not lie on the server, which opens no addresses")
    file: BinaryIO | None = None
    try:
        root = os.path.realpath(video.root, strict=True)
        path = os.path.realpath(Path(root, video.path), strict=True)
        if not Path(path).is_relative_to(root):
            raise gone
        file = open(path, "rb", opener=_open_regular)  # noqa: SIM115
        digest = video_digest(path)
        opened, there = os.fstat(file.fileno()), os.lstat(path)
        if digest != video.made_of.get("video") or _identity(opened) != _identity(there):
            raise gone
        if os.path.realpath(path) != path:
            raise gone
        return IndexedFile(file, opened.st_size, digest, _kind_of(video.path))
    except (OSError, ValueError, UnreadableVideo) as error:
        if file is not None:
            file.close()
        raise gone from error
    except Refused:
        if file is not None:
            file.close()
        raise


def _open_regular(path: str, flags: int) -> int:
    """A file that is one: opening a pipe would wait for its writer."""
    number = os.open(path, flags | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0))
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise OSError("no regular file")
    return number


def _identity(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _kind_of(name: str) -> str:
    """A MIME type of videos, so that a browser never takes the file for a page."""
    kind = _KINDS.get(Path(name).suffix.lower()) or mimetypes.guess_type(name)[0] or ""
    return kind if kind.startswith("video/") else "application/octet-stream"


def range_of(header: str, size: int) -> tuple[int, int] | None:
    """First byte of a `Range` header and the one after its last; None where the whole file is the answer.

    Several ranges, and other units than bytes, are answered with the whole file, as HTTP allows.

    Raises:
        Refused: a range that is none, or of which the file holds nothing.
    """
    if not header.startswith("bytes=") or "," in header:
        return None
    match = _RANGE.fullmatch(header)
    first, last = match.groups() if match else ("", "")
    if first:
        start, stop = int(first), min(int(last) + 1 if last else size, size)
    else:
        start, stop = max(size - int(last or 0), 0), size
    if start >= stop:
        raise Refused(416, f"the file has {size} bytes, and this is no range of them", _unsatisfied(size))
    return start, stop


def _unsatisfied(size: int) -> dict[str, str]:
    return {"Content-Range": f"bytes */{size}"}


class Streams:
    """The files that are given out now, at most so many at once."""

    def __init__(self, most: int = 64) -> None:
        self.clients: list[Any] = []
        """Who gets them: an address of the server's connections for each."""
        self._most = most

    def check(self) -> None:
        """Let another one begin.

        Raises:
            Refused: there are too many.
        """
        if len(self.clients) >= self._most:
            raise Refused(503, "too many videos are played at once: try again later", {"Retry-After": "5"})

    @contextmanager
    def one_more(self, client: Any) -> Iterator[None]:
        """A file is given out to a client while the block runs."""
        self.clients.append(client)
        try:
            yield
        finally:
            self.clients.remove(client)


def picture_answer(jpeg: bytes, request_headers: Mapping[str, str]) -> Response:
    """The answer with a JPEG, or that it is the one which the client has."""
    tag = f'"{hashlib.sha256(jpeg).hexdigest()[:32]}"'
    headers = {"ETag": tag, "Cache-Control": "private, no-cache"}
    if _names(request_headers.get("if-none-match", ""), tag):
        return Response(status_code=304, headers=headers)
    return Response(jpeg, media_type="image/jpeg", headers=headers)


def file_answer(indexed: IndexedFile, request_headers: Mapping[str, str], streams: Streams) -> Response:
    """The answer with a file or the range of it that is asked for, as one of `streams`.

    Raises:
        Refused: a range that is none.
    """
    tag = f'"{indexed.digest[:32]}"'
    headers = {"Accept-Ranges": "bytes", "ETag": tag, "Cache-Control": "private, no-cache"}
    try:
        if _names(request_headers.get("if-none-match", ""), tag):
            indexed.file.close()
            return Response(status_code=304, headers=headers)
        asked = request_headers.get("range", "")
        if request_headers.get("if-range", tag) != tag:  # of another state of the file
            asked = ""
        found = range_of(asked, indexed.size)
    except Refused:
        indexed.file.close()
        raise
    start, stop = found or (0, indexed.size)
    headers["Content-Length"] = str(stop - start)
    if found is not None:
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{indexed.size}"
    return _FileAnswer(indexed, start, stop, headers, 200 if found is None else 206, streams)


def _names(header: str, tag: str) -> bool:
    return tag in (one.strip().removeprefix("W/") for one in header.split(","))


class _FileAnswer(StreamingResponse):
    """Bytes from `start` to before `stop` of a file, which is closed at the end whatever happens."""

    def __init__(
        self,
        indexed: IndexedFile,
        start: int,
        stop: int,
        headers: Mapping[str, str],
        status: int,
        streams: Streams,
    ) -> None:
        super().__init__(self._bytes(indexed.file, start, stop), status, headers, indexed.kind)
        self._file, self._streams = indexed.file, streams

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it for as long as there is someone who takes it."""
        if scope["method"] == "HEAD":
            self.body_iterator = _nothing()
        try:
            with self._streams.one_more(scope.get("client")):
                await super().__call__(scope, receive, send)
        finally:
            self._file.close()

    @staticmethod
    async def _bytes(file: BinaryIO, start: int, stop: int) -> AsyncIterator[bytes]:
        await asyncio.to_thread(file.seek, start)
        while start < stop:
            part = await asyncio.to_thread(file.read, min(_CHUNK_BYTES, stop - start))
            if not part:  # it was cut short meanwhile: the answer ends early, and the client sees that
                return
            start += len(part)
            yield part


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield b""
