"""Where the bytes of a video are: a file here, an address elsewhere, or in a tar or Parquet file in either place.

    videos/a.mp4    s3://bucket/a.mp4    https://host/a.mp4    shards/000.tar/0001.mp4    s3://bucket/000.tar/0001.mp4

A tar is named like a folder of its members, a Parquet file like one of its columns and their rows
(`core_encoder.video.parquet_videos`). A remote file comes once, into a copy within a bound: when its digest is
computed, or the times of its frames, for which all packets are read. What is too large for a copy is read in parts,
where the server gives any, and so is a file whose copy had to make room. Copies belong to one process and go with it.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import stat
from abc import ABC, abstractmethod
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from core_encoder.errors import InputError, UnreadableVideo
from core_encoder.files.range_file import BLOCK_BYTES, RangeFile, blocks_of
from core_encoder.files.storage import prismhub_home
from core_encoder.files.urls import Url, named
from core_encoder.video.opening import video_limits

if TYPE_CHECKING:
    from core_encoder.files.local_copies import LocalCopies
    from core_encoder.files.remote import RemoteFacts
    from core_encoder.files.tar_files import Member

_IN_TAR = re.compile(r"(.+?\.tar)[/\\](.+)", re.IGNORECASE | re.DOTALL)
_IN_PARQUET = re.compile(r"(.+?\.parquet)[/\\](.+)[/\\](\d+)", re.IGNORECASE | re.DOTALL)
_PLAYLISTS = (b"#EXTM3U", b"ffconcat version")
_PIECE = 8 << 20


class Identity(NamedTuple):
    """What changes when the bytes of a file do: its size and times; elsewhere a number of what the server says."""

    size: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of_file(cls, status: os.stat_result) -> Identity:
        return cls(status.st_size, status.st_mtime_ns, status.st_ctime_ns)


class VideoBytes(ABC):
    """An open video as bytes; close it after use.

    Attributes:
        path: as it was named.
        size: in bytes.
        identity: None where nobody says whether the bytes are still the same.
        local: the file that holds these bytes and no others; None where there is none.
    """

    path: str
    size: int
    identity: Identity | None
    local: str | None = None
    _blocks: Any = None

    @abstractmethod
    def read(self, begin: int, end: int) -> bytes:
        """The bytes from `begin` to `end`, fewer at the end of the file.

        Raises:
            UnreadableVideo: they cannot be read.
        """

    def as_file(self, block_bytes: int = BLOCK_BYTES) -> RangeFile:
        """The bytes as a file to seek in, read in blocks that are shared by all such files."""
        if self._blocks is None or self._blocks.blocksize != block_bytes:
            self._blocks = blocks_of(self.size, self.read, block_bytes)
        return RangeFile(PurePosixPath(self.path).name, self._blocks)

    def opened(self) -> str | RangeFile:
        """What a demuxer opens."""
        return self.as_file() if self.local is None else Path(self.local).absolute().as_posix()  # no protocol is in it

    def digest(self) -> str:
        """The sha256 of the bytes, in hexadecimal.

        Raises:
            UnreadableVideo: they cannot be read.
        """
        digest = hashlib.sha256()
        for begin in range(0, self.size, _PIECE):
            digest.update(self.read(begin, min(begin + _PIECE, self.size)))
        return digest.hexdigest()

    def prefer_copy(self) -> None:  # noqa: B027
        """Say that most of the bytes will be read: what lies elsewhere comes at once, where a copy can hold it."""

    def close(self) -> None:  # noqa: B027
        """Let go of what is held."""

    def __enter__(self) -> VideoBytes:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class _File(VideoBytes):
    """A file of this machine."""

    def __init__(self, path: str) -> None:
        self.path = self.local = path
        self.identity = Identity.of_file(check_file(path))
        self.size = self.identity.size

    def read(self, begin: int, end: int) -> bytes:
        return _read_local(self.path, self.path, begin, end)


class _NoCopy(Exception):
    """There can be no copy."""


class _Remote(VideoBytes):
    """A file elsewhere, or the part of one that a member of a tar is: read from a copy where there is one."""

    def __init__(self, path: str, url: Url, member: Member | None = None, whole: bool = False) -> None:
        from core_encoder.files.remote import Patience, RemoteError, facts_of

        self.path, self.url, self._member = path, url, member
        self._patience = Patience()
        self._held: str | None = None
        try:
            self._facts = facts_of(url, self._patience)
        except RemoteError as error:
            raise UnreadableVideo(path, error.reason) from error
        told = member.size if member else self._facts.size
        if told == 0:
            raise UnreadableVideo(path, "the file is empty (0 bytes)")
        self.identity = _identity_of(self._facts, told)
        about = f"{path}\0{self._facts.tag}\0{told}"
        self._name = hashlib.sha256(about.encode(errors="backslashreplace")).hexdigest() + PurePosixPath(path).suffix
        self._take_copy()
        if self.local is None and (whole or told is None or not self._facts.has_ranges):
            try:
                self._fetch(stop=True)
            except _NoCopy as error:
                raise UnreadableVideo(path, f"{url.host}: it is needed as a whole, and {error}") from error
        self.size = told or os.path.getsize(str(self.local))  # noqa: PTH202

    def read(self, begin: int, end: int) -> bytes:
        from core_encoder.files.remote import RemoteError, read_range

        if self.local is not None:
            return _read_local(self.path, self.local, begin, end)
        start = self._member.offset if self._member else 0
        try:
            return read_range(self.url, start + begin, start + min(end, self.size), self._patience)
        except RemoteError as error:
            raise UnreadableVideo(self.path, error.reason) from error

    def digest(self) -> str:
        if self._facts.sha256 is not None and self._member is None:
            return self._facts.sha256
        return self._fetch() if self.local is None else super().digest()

    def prefer_copy(self) -> None:
        if self.local is None and self.size <= copies().max_bytes:
            with contextlib.suppress(_NoCopy):
                self._fetch(stop=True)

    def _take_copy(self) -> None:
        if self._held is None and (found := copies().hold(self._name)) is not None:
            self._held, self.local = self._name, str(found)

    def _fetch(self, stop: bool = False) -> str:
        """Read all bytes, into a copy where one can be, and give their digest; with `stop` not without a copy.

        Raises:
            UnreadableVideo: they do not come.
            _NoCopy: why there can be no copy.
        """
        from core_encoder.files.remote import RemoteError, fetch

        copy, digests = copies().begin(self._name), [hashlib.sha256()]

        def write(piece: bytes) -> None:
            digests[-1].update(piece)
            copy.write(piece)
            check()

        def start_over() -> None:
            digests.append(hashlib.sha256())
            copy.start_over()

        def check() -> None:
            if stop and copy.trouble:
                raise _NoCopy(copy.trouble)

        begin = self._member.offset if self._member else 0
        end = begin + self._member.size if self._member else None
        try:
            fetch(self.url, write, start_over, begin=begin, end=end, patience=self._patience)
            copy.finish()
            check()
        except RemoteError as error:
            raise UnreadableVideo(self.path, error.reason) from error
        finally:
            copy.cancel()
        self._take_copy()
        return digests[-1].hexdigest()

    def close(self) -> None:
        if self._held is not None:
            copies().let_go(self._held)
            self._held = None


class _Member(VideoBytes):
    """A file in a tar of this machine."""

    def __init__(self, path: str, tar: VideoBytes, member: Member) -> None:
        self.path, self._tar, self._member = path, tar, member
        self.size = member.size
        self.identity = None if tar.identity is None else tar.identity._replace(size=member.size)
        if not self.size:
            raise UnreadableVideo(path, "the file is empty (0 bytes)")

    def read(self, begin: int, end: int) -> bytes:
        begin, end = begin + self._member.offset, min(end, self.size) + self._member.offset
        found = self._tar.read(begin, end)
        if len(found) < end - begin:
            raise UnreadableVideo(self.path, "the tar ends before this file does")
        return found

    def close(self) -> None:
        self._tar.close()


def open_bytes(path: str, whole: bool = False) -> VideoBytes:
    """The bytes of a video; with `whole` there is a file of its own that holds them, if that can be.

    Raises:
        UnreadableVideo: there is no such file, or it cannot be reached or read; one line says why.
        InputError: what reads such addresses is not installed.
    """
    path = named(path)
    if isinstance(path, Url) and not video_limits().remote:
        raise UnreadableVideo(path, "an address, where only files are opened")
    if (inside := in_tar(path)) is not None:
        return _open_member(path, *inside, whole)
    if (row := in_parquet(path)) is not None:
        from core_encoder.video.parquet_videos import open_row

        return open_row(path, *row)
    return _Remote(path, path, whole=whole) if isinstance(path, Url) else _File(path)


def _open_member(path: str, tar_path: str, name: str, whole: bool) -> VideoBytes:
    from core_encoder.video.tar_videos import members_of

    tar = open_bytes(tar_path)
    try:
        member = members_of(tar).get(name)
        if member is None:
            raise UnreadableVideo(path, "there is no such file in the tar")
        if tar.local is not None:
            return _Member(path, tar, member)
    except BaseException:
        tar.close()
        raise
    tar.close()
    return _Remote(path, cast(Url, tar_path), member, whole)


def in_tar(path: str) -> tuple[str, str] | None:
    """The tar that a path leads into and the name in it; None for any other path."""
    given = path.whole if isinstance(path, Url) else path
    found = _IN_TAR.fullmatch(given)
    if found is None or (not isinstance(path, Url) and not os.path.isfile(found[1])):  # noqa: PTH113 (Path raises on names too long)
        return None
    return named(found[1]), found[2].replace("\\", "/")


def in_parquet(path: str) -> tuple[str, str, int] | None:
    """The Parquet file that a path leads into, the column in it and the row; None for any other path."""
    found = _IN_PARQUET.fullmatch(path.whole if isinstance(path, Url) else path)
    if found is None or (not isinstance(path, Url) and not os.path.isfile(found[1])):  # noqa: PTH113
        return None
    return named(found[1]), found[2], int(found[3])


def is_inside(path: str) -> bool:
    """Whether a path leads into a tar or a Parquet file."""
    return in_tar(path) is not None or in_parquet(path) is not None


def identity_of(path: str) -> Identity | None:
    """What changes when the bytes of a video do, without reading them.

    Raises:
        UnreadableVideo: as `open_bytes`.
    """
    if (row := in_parquet(path := named(path))) is not None:
        path = row[0]  # its row would be read
    if isinstance(path, Url) or in_tar(path) is not None:
        with open_bytes(path) as video:
            return video.identity
    return Identity.of_file(check_file(path))


def _identity_of(facts: RemoteFacts, size: int | None) -> Identity | None:
    if not facts.tag:
        return None
    number = int.from_bytes(hashlib.sha256(facts.tag.encode()).digest()[:7], "big")
    return Identity(-1 if size is None else size, number, 0)


def _read_local(path: str, file_path: str, begin: int, end: int) -> bytes:
    try:
        with open(file_path, "rb") as file:  # noqa: PTH123
            file.seek(begin)
            return file.read(end - begin)
    except OSError as error:
        raise UnreadableVideo(path, f"cannot be read: {error.strerror}") from error


_copies: dict[int, LocalCopies] = {}  # by process: a child has its own


def copies() -> LocalCopies:
    """The copies of remote videos of this process."""
    from core_encoder.files.local_copies import LocalCopies, own_folder
    from core_encoder.files.remote import remote_limits

    process = os.getpid()
    if process not in _copies:
        _copies.clear()
        _copies[process] = LocalCopies(own_folder(prismhub_home() / "remote" / "videos"), 0)
    _copies[process].max_bytes = remote_limits().copies_bytes
    return _copies[process]


def check_file(path: str) -> os.stat_result:
    """The file's size and times.

    Raises:
        UnreadableVideo: missing, a folder, a pipe, empty or not permitted.
    """
    try:
        status = os.stat(path)  # noqa: PTH116 (a Path would lose a trailing slash)
        openable = stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)
        if openable:  # a pipe might keep us waiting for ever
            with open(path, "rb"):  # noqa: PTH123
                pass
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reasons: dict[type, str] = {FileNotFoundError: "no such file", IsADirectoryError: "a folder, not a video file"}
        reason = "a link that leads back to itself" if getattr(error, "errno", 0) == errno.ELOOP else None
        reason = reason or reasons.get(type(error), f"cannot be opened: {error}")
        raise UnreadableVideo(path, reason) from error
    if not openable:
        raise UnreadableVideo(path, "a pipe, socket or device, not a video file")
    if status.st_size == 0:
        raise UnreadableVideo(path, "the file is empty (0 bytes)")
    return status


def not_a_video(video: VideoBytes) -> str | None:
    """What a file that no decoder opens is instead, by how it begins; None where that does not tell."""
    begins = b""
    with contextlib.suppress(InputError):
        begins = video.read(0, min(512, video.size))
    if begins.startswith(b"version https://git-lfs"):
        return "a pointer of Git LFS, not the video: fetch that with `git lfs pull`"
    if begins.lstrip().lower().startswith((b"<!doctype html", b"<html")):
        return "a web page, not a video: what was downloaded is an error page or a link"
    if not begins.strip(b"\0"):
        return "it begins with zeros, no video: a download or copy that was never finished"
    if begins.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(_PLAYLISTS) or b"<MPD" in begins:
        return "a playlist: it names other files, name those"
    try:
        begins.decode()
    except UnicodeDecodeError:
        return None
    return None if b"\0" in begins else "text, not a video"
