"""Copies of remote files in a folder of this machine, within a bound: those unused longest make room for others."""

from __future__ import annotations

import atexit
import logging
import os
import platform
import shutil
import threading
import uuid
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from core_encoder.files.storage import plain_name, process_lives, readable_bytes

log = logging.getLogger(__name__)


class LocalCopies:
    """The copies in one folder, at most `max_bytes` of them; a copy is there whole or not at all.

    Several processes may share a folder: a copy that another one removed is made again. What is held is not removed.
    """

    def __init__(self, folder: Path, max_bytes: int, removed: Callable[[str], None] = lambda name: None) -> None:
        """Copies in `folder`; `removed` is told the name of each that has to go."""
        self.folder = folder
        self.max_bytes = max_bytes
        self._removed = removed
        self._used: int | None = None  # None: not counted yet
        self._held: Counter[str] = Counter()
        self._lock = threading.RLock()

    def hold(self, name: str) -> Path | None:
        """A copy, kept until `let_go`; None where there is none."""
        with self._lock:
            path = self.find(name)
            if path is not None:
                self._held[name] += 1
            return path

    def let_go(self, name: str) -> None:
        """Undo one `hold`."""
        with self._lock:
            self._held[name] -= 1

    def find(self, name: str) -> Path | None:
        """A copy, which now counts as just used; None where there is none."""
        path = self.folder / name
        try:
            os.utime(path)
        except OSError:
            return None
        return path

    def begin(self, name: str) -> Copying:
        """A copy to be written."""
        return Copying(self, name)

    def make_room(self, more: int) -> bool:
        """Remove copies until so many bytes fit beside the others; whether they do."""
        with self._lock:
            if self._used is None or self._used + more > self.max_bytes:
                self._remove_oldest(more)
            assert self._used is not None
            if self._used + more > self.max_bytes:
                return False
            self._used += more
            return True

    def give_back(self, num_bytes: int) -> None:
        """Room that was made and is not needed."""
        with self._lock:
            self._used = None if self._used is None else self._used - num_bytes

    def _remove_oldest(self, more: int) -> None:
        found = []
        with suppress(OSError), os.scandir(self.folder) as entries:
            for entry in entries:
                with suppress(OSError):
                    status = entry.stat()
                    found.append((status.st_mtime_ns, status.st_size, entry.name))
        used = sum(size for _, size, _ in found)
        for _, size, name in sorted(found):
            if used + more <= self.max_bytes:
                break
            if self._held[name] <= 0 and not name.endswith(".part"):
                with suppress(OSError):
                    (self.folder / name).unlink()
                    used -= size
                self._removed(name)
        self._used = used


class Copying:
    """A copy that is being written; where it gets too large, or the disk is full, it is given up and says so.

    Attributes:
        trouble: why there will be no copy; empty while there may be one.
    """

    def __init__(self, copies: LocalCopies, name: str) -> None:
        self.trouble = ""
        self._copies = copies
        self._name = name
        self._bytes = 0
        self._aside = copies.folder / f"{name}.{uuid.uuid4().hex[:8]}.part"
        self._file: BinaryIO | None = None
        try:
            copies.folder.mkdir(parents=True, exist_ok=True)
            self._file = self._aside.open("wb")
        except OSError as error:
            self._give_up(f"{copies.folder} cannot be written to ({error.strerror})")

    def write(self, piece: bytes) -> None:
        """Add a piece."""
        if self._file is None:
            return
        if not self._copies.make_room(len(piece)):
            most = readable_bytes(self._copies.max_bytes)
            self._give_up(f"its copy would be larger than {most} (--local-copies allows more)")
            return
        self._bytes += len(piece)
        try:
            self._file.write(piece)
        except OSError as error:
            self._give_up(f"its copy cannot be written to {self._copies.folder} ({error.strerror})")

    def start_over(self) -> None:
        """Forget what was written."""
        if self._file is not None:
            self._file.seek(0)
            self._file.truncate()
            self._copies.give_back(self._bytes)
            self._bytes = 0

    def finish(self) -> Path | None:
        """The copy, in its place; None where it was given up."""
        if self._file is None:
            return None
        path = self._copies.folder / self._name
        try:
            self._file.close()
            self._aside.replace(path)
        except OSError as error:
            self._give_up(f"its copy cannot be written to {self._copies.folder} ({error.strerror})")
            return None
        self._file = None
        return path

    def cancel(self) -> None:
        """Remove what was written, unless it is finished."""
        if self._file is not None:
            self._give_up("it was not needed")

    def _give_up(self, trouble: str) -> None:
        self.trouble = trouble
        if self._file is not None:
            with suppress(OSError):
                self._file.close()
            self._file = None
            self._copies.give_back(self._bytes)
        with suppress(OSError):
            self._aside.unlink()


def own_folder(above: Path) -> Path:
    """A folder for this process alone, which is removed when it ends; those of processes that were killed go now."""
    machine, process = plain_name(platform.node()), os.getpid()  # others may share the disk
    for left in above.glob(f"{machine}.*"):
        number = left.name.removeprefix(f"{machine}.").partition(".")[0]
        if number.isdigit() and not process_lives(int(number)):
            log.debug("%s: left by a process that is gone", left)
            shutil.rmtree(left, ignore_errors=True)
    folder = above / f"{machine}.{process}.{uuid.uuid4().hex[:8]}"

    def remove() -> None:
        if os.getpid() == process:  # not in its children
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
    return folder
