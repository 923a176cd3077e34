"""The files a request is about: one below the served root, or one that was uploaded. Nothing else is ever opened."""

from __future__ import annotations

import errno
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import BinaryIO

from core_encoder.files.storage import locked, prismhub_home
from prismhub.server.refusal import Refused

_COPY_BYTES = 1 << 20
_LONGEST_NAME = 200


class ServedRoot:
    """The folder whose files clients may name, by paths below it; None where there is none."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = None if folder is None else Path(os.path.realpath(folder.expanduser()))

    def find(self, name: str) -> Path:
        """The file that a client calls `name`, all links resolved.

        Raises:
            Refused: no root, a URL, a path that leads out of the root, or no file; the answer never tells which of the
                last two it is.
        """
        if self.folder is None:
            raise Refused(403, "this server has no root: start it with --root, or upload the video")
        if "://" in name:
            raise Refused(422, "video is a path below the served root, not a URL")
        if not name or "\0" in name or PurePosixPath(name).is_absolute() or PureWindowsPath(name).drive:
            raise Refused(422, "video is a path below the served root, such as cats/one.mp4")
        nothing = Refused(404, f"no video {name!r} below the served root")
        try:
            path = Path(os.path.realpath(self.folder / name, strict=True))
            if not path.is_relative_to(self.folder) or not path.is_file():
                raise nothing
        except (OSError, ValueError) as error:
            raise nothing from error
        return path


class Uploads:
    """A folder of this server for what is uploaded; each file goes with its request.

    The folder is locked while the server lives, so that the next one knows what a killed one has left, and removes it.
    """

    def __init__(self, above: Path | None = None) -> None:
        self._above = prismhub_home() / "uploads" if above is None else above
        self.folder = self._above / uuid.uuid4().hex

    @contextmanager
    def open(self) -> Iterator[Uploads]:
        """The folder while the block runs."""
        with locked(self._above):
            for left in self._above.iterdir():
                self._remove_dead(left)
            lock = locked(self.folder)
            lock.__enter__()
        try:
            yield self
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)
            lock.__exit__(None, None, None)

    @staticmethod
    def _remove_dead(folder: Path) -> None:
        try:
            with locked(folder, wait=False):
                shutil.rmtree(folder, ignore_errors=True)
        except OSError:  # its server lives
            pass

    def keep(self, content: BinaryIO, name: str) -> Path:
        """Write what was uploaded under `name` to a file of a name of our own, with the suffix of the other.

        Raises:
            Refused: the disk is full.
        """
        suffix = PurePosixPath(name).suffix
        path = self.folder / (uuid.uuid4().hex + (suffix if suffix.isascii() and suffix[1:].isalnum() else ""))
        try:
            with path.open("xb") as file:
                shutil.copyfileobj(content, file, _COPY_BYTES)
        except OSError as error:
            path.unlink(missing_ok=True)
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise Refused(507, "the disk of the server is full") from error
            raise
        return path


def upload_name(given: str | None) -> str:
    """What an uploaded file is called in answers: the last part of its name, in one line."""
    last = PureWindowsPath(given or "").name or "upload"  # which takes both kinds of slashes
    return "".join(sign if sign.isprintable() else "_" for sign in last)[-_LONGEST_NAME:]
