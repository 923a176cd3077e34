"""Where the shards of a store are kept: a folder of this machine, or a prefix of an object store.

Of a folder files are mapped where they lie. Of an object store the keys and facts of a shard come first, as parts of
the object, and the whole of it when its values are asked for; both are kept in copies on this machine, within a bound,
and mapped from there. An object is put whole or not at all, so shards are, too.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
import uuid
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core_encoder.errors import InputError
from core_encoder.features.shard import Shard, ShardFile, fact_spans, header_end
from core_encoder.files.local_copies import LocalCopies
from core_encoder.files.remote import (
    RemoteError,
    fetch,
    list_files,
    read_range,
    read_whole,
    remote_limits,
    remove,
    upload,
)
from core_encoder.files.storage import free_bytes, prismhub_home, read_config_json, write_json
from core_encoder.files.urls import Location, Url, as_location

SPEC_FILE = "spec.json"
_SHARD = re.compile(r"shard-[\w-]+\.safetensors", re.ASCII)
_HEAD_BYTES = 1 << 18  # of a shard, asked for at first: most headers are shorter
_LARGEST_SPEC = 1 << 20
_AT_ONCE = 8  # shards whose facts are asked for


@dataclass(frozen=True)
class StoredFile:
    """A file of a store: its size in bytes, and when it was changed, in seconds since 1970."""

    size: int
    changed: float


class ShardFolder(ABC):
    """The files of one store: `spec.json` and shards.

    Attributes:
        location: its path or address.
    """

    location: Location

    @abstractmethod
    def read_spec(self) -> Any:
        """What `spec.json` holds; None where there is none.

        Raises:
            InputError: it cannot be read.
        """

    @abstractmethod
    def write_spec(self, spec: Any) -> None:
        """Write `spec.json`.

        Raises:
            InputError: it cannot be written.
        """

    @abstractmethod
    def shards(self) -> set[Location]:
        """The shards that are there.

        Raises:
            InputError: they cannot be listed.
        """

    @abstractmethod
    def open(self, path: Location, spec_name: str) -> Shard:
        """A shard.

        Raises:
            FileNotFoundError: it was removed.
            OSError: it cannot be read.
            BrokenShard: it is not whole, or is of another store.
        """

    @abstractmethod
    def put(self, name: str, write: Callable[[Path], None]) -> Location:
        """Have a shard written, to a path of this machine, and keep it.

        Raises:
            InputError: it cannot be kept.
        """

    @abstractmethod
    def remove(self, paths: Iterable[Location]) -> None:
        """Remove files.

        Raises:
            InputError: they cannot be removed.
        """

    @abstractmethod
    def files(self) -> dict[Location, StoredFile]:
        """Every file there is."""

    @abstractmethod
    def free_bytes(self) -> float:
        """How much more can be kept; infinity where nobody says."""

    @property
    @abstractmethod
    def failures_file(self) -> Path:
        """Where clips that cannot be encoded are listed: on this machine, since lines are added one by one."""

    def expect(self, paths: Iterable[Location]) -> None:  # noqa: B027
        """Say which shards are about to be opened."""


def shard_folder(location: str | os.PathLike[str]) -> ShardFolder:
    """The folder of a store at a path or address."""
    found = as_location(location)
    return _RemoteFolder(found) if isinstance(found, Url) else _LocalFolder(found)


def stores_under(root: str | os.PathLike[str]) -> list[Location]:
    """The folders under `root` that hold a `spec.json`, sorted.

    Raises:
        InputError: an object store cannot be listed.
    """
    found = as_location(root)
    if isinstance(found, Url):
        files = _asking(found, lambda: list_files(found))
        return [
            file.parent for file in files if file.name == SPEC_FILE and file.parent.parent == str(found).rstrip("/")
        ]
    return [file.parent for file in sorted(found.glob(f"*/{SPEC_FILE}"))]


class _LocalFolder(ShardFolder):
    def __init__(self, folder: Path) -> None:
        self.location = self._folder = folder

    def read_spec(self) -> Any:
        file = self._folder / SPEC_FILE
        return read_config_json(file) if file.exists() else None

    def write_spec(self, spec: Any) -> None:
        write_json(self._folder / SPEC_FILE, spec)

    def shards(self) -> set[Location]:
        return set(self._folder.glob("shard-*.safetensors"))

    def open(self, path: Location, spec_name: str) -> Shard:
        return Shard(path, spec_name)

    def put(self, name: str, write: Callable[[Path], None]) -> Location:
        write(self._folder / name)
        return self._folder / name

    def remove(self, paths: Iterable[Location]) -> None:
        for path in paths:
            Path(path).unlink(missing_ok=True)

    def files(self) -> dict[Location, StoredFile]:
        found: dict[Location, StoredFile] = {}
        for path in self._folder.rglob("*"):
            with suppress(FileNotFoundError):  # writers beside us rename theirs, so one may be gone since the listing
                status = path.stat()
                if stat.S_ISREG(status.st_mode):
                    found[path] = StoredFile(status.st_size, status.st_mtime)
        return found

    def free_bytes(self) -> float:
        return free_bytes(self._folder)

    @property
    def failures_file(self) -> Path:
        return self._folder / "failures.jsonl"


class _RemoteFolder(ShardFolder):
    def __init__(self, url: Url) -> None:
        if url.is_web:
            raise InputError(
                f"{url}: a web server keeps no features: name a folder, or a place such as s3://bucket/name"
            )
        self.location = self._url = url
        self._mark = hashlib.sha256(str(url).encode()).hexdigest()[:12]
        self._sizes: dict[Location, int] = {}
        self._opened: weakref.WeakValueDictionary[str, _RemoteShard] = weakref.WeakValueDictionary()
        self._make_copies()

    def _make_copies(self) -> None:
        self.copies = LocalCopies(prismhub_home() / "remote" / "features", remote_limits().copies_bytes, self._removed)
        self.copies.make_room(0)  # the bound may have been another

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": None, "copies": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _opened=weakref.WeakValueDictionary())
        self._make_copies()

    def _removed(self, name: str) -> None:
        if (file := self._opened.get(name)) is not None:
            file.forget_mapped()  # or the disk would not be free

    def copy_name(self, path: Location) -> str:
        """What the copy of a shard is called; stores that were copied from one another have copies of their own."""
        return f"{self._mark}-{path.name}"

    def read_spec(self) -> Any:
        try:
            text = read_whole(self._url / SPEC_FILE, _LARGEST_SPEC)
        except RemoteError as error:
            if error.missing:
                return None
            raise InputError(f"{self._url}: {error.reason}") from error
        try:
            return json.loads(text)
        except ValueError as error:
            raise InputError(f"{self._url / SPEC_FILE}: not valid JSON ({error})") from error

    def write_spec(self, spec: Any) -> None:
        aside = prismhub_home() / "remote" / "put" / f"{self._mark}-{uuid.uuid4().hex}.json"
        try:
            write_json(aside, spec)
            _asking(self._url, lambda: upload(aside, self._url / SPEC_FILE))
        finally:
            aside.unlink(missing_ok=True)

    def shards(self) -> set[Location]:
        files = _asking(self._url, lambda: list_files(self._url))
        self._sizes = {
            path: facts.size or 0
            for path, facts in files.items()
            if _SHARD.fullmatch(path.name) and path.parent == str(self._url).rstrip("/")
        }
        return set(self._sizes)

    def expect(self, paths: Iterable[Location]) -> None:
        unknown = [path for path in paths if self.file(path).facts_copy() is None]
        if len(unknown) > 1:
            with ThreadPoolExecutor(_AT_ONCE) as pool:
                list(pool.map(lambda path: self.file(path).fetch_facts(), unknown))

    def file(self, path: Location) -> _RemoteShard:
        """The bytes of a shard."""
        return _RemoteShard(self, path, self._sizes.get(path, 0))

    def open(self, path: Location, spec_name: str) -> Shard:
        file = self.file(path)
        shard = Shard(path, spec_name, file)
        file.mapped_by = weakref.ref(shard)
        self._opened[self.copy_name(path)] = file
        return shard

    def put(self, name: str, write: Callable[[Path], None]) -> Location:
        path = self._url / name
        aside = prismhub_home() / "remote" / "put" / self.copy_name(path)
        write(aside)
        try:
            _asking(self._url, lambda: upload(aside, path))
            self._sizes[path] = aside.stat().st_size
            if self.copies.make_room(self._sizes[path]):  # who wrote it may read it next
                self.copies.folder.mkdir(parents=True, exist_ok=True)
                aside.replace(self.copies.folder / aside.name)
            else:
                self.file(path).fetch_facts(aside)
        finally:
            aside.unlink(missing_ok=True)
        return path

    def remove(self, paths: Iterable[Location]) -> None:
        for path in paths:
            if isinstance(path, Url):
                _asking(self._url, lambda url=path: remove(url))  # type: ignore[misc]
                self.file(path).forget_copies()

    def files(self) -> dict[Location, StoredFile]:
        listed = _asking(self._url, lambda: list_files(self._url))
        return {path: StoredFile(facts.size or 0, facts.changed) for path, facts in listed.items()}

    def free_bytes(self) -> float:
        return float("inf")

    @property
    def failures_file(self) -> Path:
        return prismhub_home() / "remote" / "failures" / f"{self._url.name}-{self._mark}.jsonl"


class _RemoteShard(ShardFile):
    """A shard that is an object: its facts in one copy, the whole of it in another."""

    def __init__(self, folder: _RemoteFolder, path: Location, size: int) -> None:
        super().__init__(path)
        self.mapped_by: weakref.ref[Shard] | None = None
        self._folder = folder
        self._size = size
        self._name = folder.copy_name(path)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "mapped_by": None}

    def forget_mapped(self) -> None:
        """Unmap the copy, which was removed."""
        if self.mapped_by is not None and (shard := self.mapped_by()) is not None:
            shard.forget_mapped()

    def header(self) -> tuple[int, bytes]:
        copy = self.facts_copy() or self.fetch_facts()
        if copy is None:  # no shard, as its header will show
            return self._size, self._read(0, min(self._size, _HEAD_BYTES))
        with copy.open("rb") as file:
            return self._size, file.read(header_end(file.read(8), self._size) - 8)

    def facts(self, tensors: dict[str, Any], start: int) -> tuple[Path, int, dict[str, int]]:
        if (whole := self._whole_copy()) is not None:
            return super()._everything(whole, tensors, start)
        copy = self.facts_copy() or self.fetch_facts()
        if copy is None:
            raise FileNotFoundError(f"{self.path}: was removed")
        places, at = {}, start
        for begin, end, names in fact_spans(tensors):
            places.update({name: at + tensors[name]["data_offsets"][0] - begin for name in names})
            at += end - begin
        return copy, copy.stat().st_size, places

    def whole(self, tensors: dict[str, Any], start: int) -> tuple[Path, int, dict[str, int]]:
        return super()._everything(self._whole_copy() or self._fetch_whole(), tensors, start)

    def facts_copy(self) -> Path | None:
        """The copy of the facts, where there is one."""
        return self._folder.copies.find(f"{self._name}.facts")

    def fetch_facts(self, shard: Path | None = None) -> Path | None:
        """Copy header, keys and facts, of the object or of the same `shard` here; None where it is no shard."""

        def read(begin: int, end: int) -> bytes:
            if shard is None:
                return self._read(begin, end)
            with shard.open("rb") as file:
                file.seek(begin)
                return file.read(end - begin)

        head = read(0, min(self._size, _HEAD_BYTES))
        try:
            start = header_end(head[:8], self._size)
            head = head if len(head) >= start else read(0, start)
            tensors = json.loads(head[8:start])
            tensors.pop("__metadata__", None)
            spans = fact_spans(tensors)
        except (ValueError, KeyError, TypeError, AttributeError, IndexError):
            return None
        copy = self._folder.copies.begin(f"{self._name}.facts")
        try:
            copy.write(head[:start])
            for begin, end, _ in spans:
                begin, end = start + begin, start + end
                copy.write(head[begin:end] if end <= len(head) else read(begin, min(end, self._size)))
            found = copy.finish()
        finally:
            copy.cancel()
        if found is None:
            raise InputError(f"{self.path}: its keys cannot be kept here: {copy.trouble}")
        return found

    def _whole_copy(self) -> Path | None:
        copy = self._folder.copies.find(self._name)
        return copy if copy is not None and copy.stat().st_size == self._size else None

    def _fetch_whole(self) -> Path:
        copy = self._folder.copies.begin(self._name)
        try:
            fetch(self._url, copy.write, copy.start_over)
            found = copy.finish()
        except RemoteError as error:
            raise self._said(error) from error
        finally:
            copy.cancel()
        if found is None:
            raise InputError(f"{self.path}: {copy.trouble}")
        return found

    def forget_copies(self) -> None:
        self.forget_mapped()
        for name in (self._name, f"{self._name}.facts"):
            (self._folder.copies.folder / name).unlink(missing_ok=True)

    @property
    def _url(self) -> Url:
        assert isinstance(self.path, Url)
        return self.path

    def _read(self, begin: int, end: int) -> bytes:
        try:
            return read_range(self._url, begin, end)
        except RemoteError as error:
            raise self._said(error) from error

    def _said(self, error: RemoteError) -> Exception:
        """As what an error reaches the store: a shard that was removed is looked for elsewhere."""
        missing = FileNotFoundError(f"{self.path}: was removed")
        return missing if error.missing else InputError(f"{self.path}: {error.reason}")


def _asking(url: Url, ask: Callable[[], Any]) -> Any:
    try:
        return ask()
    except RemoteError as error:
        raise InputError(f"{url}: {error.reason}") from error
