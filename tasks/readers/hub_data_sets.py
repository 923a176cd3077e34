"""Data sets of the Hugging Face Hub as data: `datasets` says which files are which split and what their columns are.

    hf://org/name                   all its splits: train, validation (or val, dev), test
    hf://org/name@revision#train    learn from `train`; its validation and test splits are used as such
    hf://org/name#a+test            only these
    hf://org/name#subset/train      of a data set with several subsets (configurations)

Videos that are bytes in Parquet files or members of tars are named by file and row or member, and no byte of them is
read here; rows of other files are streamed, and name files of the repository or addresses. No torch.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from core_encoder.errors import InputError
from core_encoder.files.hub import HUB_ID, hub_problems, said
from core_encoder.files.remote import file_system
from core_encoder.files.storage import nearest
from core_encoder.files.urls import Url, named
from core_encoder.video.parquet_videos import SUFFIX
from tasks.readers.manifests import ALIASES
from tasks.readers.parquet_rows import named_classes, names_files, parquet_records
from tasks.readers.shards import shard_records
from tasks.splits import split_name

Record = tuple[Url, int, str, dict[str, Any]]
"""The file of a sample, its number and name there, and its fields, of which `path` names the video."""
_FRAGMENT = re.compile(r"(?:(?P<subset>[^/#]+)/)?(?P<splits>[^/#]*)")
_OTHER_REPOSITORIES = ("datasets", "models", "spaces", "buckets")
_ARCHIVES = (".zip", ".tgz", ".tar.gz")
_AT_ONCE = 8  # files


@dataclass(frozen=True)
class DataSetAddress:
    """What an address `hf://org/name@revision#subset/split` says."""

    repo: str
    revision: str | None
    subset: str | None
    splits: tuple[str, ...]

    @property
    def files(self) -> Url:
        """Where its files are."""
        return Url(f"hf://datasets/{self.repo}{self._at}")

    @property
    def url(self) -> Url:
        """The address."""
        fragment = (f"{self.subset}/" if self.subset else "") + "+".join(self.splits)
        return Url(f"hf://{self.repo}{self._at}" + (f"#{fragment}" if fragment else ""))

    @property
    def _at(self) -> str:
        return f"@{self.revision}" if self.revision else ""


def data_set_address(url: Url) -> DataSetAddress | None:
    """What the address of a data set says; None for one of a file or folder.

    Raises:
        InputError: what follows the `#` is no split.
    """
    if url.scheme != "hf":
        return None
    repository, mark, fragment = url.whole.removeprefix("hf://").partition("#")
    found = HUB_ID.fullmatch(repository.rstrip("/"))
    if found is None or repository.startswith(tuple(f"{name}/" for name in _OTHER_REPOSITORIES)):
        return None
    if "/" in (found["revision"] or "") and not found["revision"].startswith("refs/"):
        return None  # a file of a repository of a model
    asked = _FRAGMENT.fullmatch(fragment)
    if asked is None or (mark and not fragment):
        raise InputError(f"{url}: after # stands a split, or subset/split")
    splits = tuple(split.strip() for split in asked["splits"].split("+")) if asked["splits"] else ()
    return DataSetAddress(found["repo"], found["revision"], asked["subset"], splits)


def find_splits(address: DataSetAddress) -> list[tuple[Url, str | None]]:
    """The splits that an address means, each as an address and with what it is used as: train, val, test or None.

    A split that stands alone is used as data without splits are.

    Raises:
        InputError: there is no such data set or split, it cannot be reached, or nothing says which split is what.
    """
    url, known = address.url, list(_files(address))
    chosen = {split: split_name(split) for split in _named(address)}
    if len(address.splits) == 1 and (split := address.splits[0]) and split_name(split) in (None, "train"):
        others = {name: use for name in known if (use := split_name(name)) in ("val", "test")}
        chosen = {split: "train", **others}
    unused = [name for name, use in chosen.items() if use is None]
    if len(chosen) > 1 and unused:
        learned = next((name for name, use in chosen.items() if use == "train"), unused[0])
        raise InputError(
            f"{url}: its splits are {', '.join(chosen)}, and {unused[0]!r} is neither train, val nor test"
            f"; name the one to learn from: {replace(address, splits=(learned,)).url}"
        )
    if len(chosen) == 1:
        chosen = dict.fromkeys(chosen)
    return [(replace(address, splits=(name,)).url, use) for name, use in chosen.items()]


def named_splits(address: DataSetAddress) -> list[Url]:
    """The splits that an address names, and no others; all where it names none.

    Raises:
        InputError: there is no such data set or split, or it cannot be reached.
    """
    return [replace(address, splits=(name,)).url for name in _named(address)]


def _named(address: DataSetAddress) -> list[str]:
    known = list(_files(address))
    unknown = [split for split in address.splits if split not in known]
    if unknown:
        raise InputError(
            f"{address.url}: no split {unknown[0]!r}{nearest(unknown[0], known)} (it has {', '.join(known)})"
        )
    return list(address.splits or known)


def split_records(address: DataSetAddress, path_column: str | None = None) -> list[Record]:
    """The samples of the one split that an address names.

    Raises:
        InputError: it cannot be read, or nothing in it is a video.
    """
    files = [_at_root(address, file) for file in _files(address)[address.splits[0]]]
    endings = {file.suffix.lower() for file in files}
    if endings == {SUFFIX} and not names_files(files[0], path_column):
        features = _features(_builder(address).info.features)
        return _at_once(files, lambda file: parquet_records(file, path_column, features))
    if endings == {".tar"}:
        return _at_once(files, _tar_records)
    archive = next((file for file in files if file.name.lower().endswith(_ARCHIVES)), None)
    if archive is not None:
        raise InputError(f"{address.url}: its videos are in an archive that is no tar, {archive}: unpack it")
    return list(_streamed(address, path_column))


def _at_once(files: list[Url], read: Any) -> list[Record]:
    pool = ThreadPoolExecutor(_AT_ONCE)
    try:
        told = pool.map(read, files)
        return [(file, *record) for file, records in zip(files, told, strict=True) for record in records]
    finally:
        pool.shutdown(cancel_futures=True)


def _tar_records(tar: Url) -> list[tuple[int, str, dict[str, Any]]]:
    return [(number, name, told | {"path": tar.parent / told["path"]}) for number, name, told in shard_records(tar)]


def _streamed(address: DataSetAddress, path_column: str | None) -> Iterator[Record]:
    url = address.url
    with _problems(url):
        rows = _builder(address).as_streaming_dataset(split=address.splits[0])
        features = _features(rows.features)
        rows = rows.decode(False) if rows.features else rows
        column: str | None = None
        for number, values in enumerate(rows, start=1):
            column = column or _video_column(url, values, features, path_column)
            others = {name: value for name, value in values.items() if name != column}
            place = _place(address, values.get(column), number)
            yield url, number, str(number), named_classes(others, features) | {"path": place}


def _video_column(url: Url, values: Mapping[str, Any], features: Mapping[str, Any], asked: str | None) -> str:
    if asked is not None:
        if asked not in values:
            raise InputError(f"{url}: no column {asked!r}{nearest(asked, list(values))}")
        return asked
    typed = [name for name, told in features.items() if isinstance(told, dict) and told.get("_type") == "Video"]
    by_lower = {name.lower(): name for name in reversed(list(values))}
    found = typed if len(typed) == 1 else [by_lower[name] for name in ALIASES["path"] if name in by_lower]
    if not found:
        raise InputError(f"{url}: no column of videos (it has {', '.join(values)}); name it with path_column")
    return found[0]


def _place(address: DataSetAddress, value: Any, number: int) -> str:
    """Where the video of a row is: at an address, or in the repository and nowhere else."""
    path = value.get("path") if isinstance(value, dict) else value
    if isinstance(value, bytes) or (isinstance(value, dict) and value.get("bytes") is not None):
        raise InputError(f"{address.url}: row {number} holds a video as bytes, which Parquet files and tars alone may")
    if not isinstance(path, str) or not path.strip():
        return address.files / f"no-video-in-row-{number}"  # which fails as a video, not the whole data set
    place = named(path.strip())
    return _at_root(address, place) if isinstance(place, Url) else address.files / place.lstrip("/")


def _at_root(address: DataSetAddress, file: str) -> Url:
    """The address of a file, which `datasets` names with the revision that it found, by the revision asked for."""
    found = re.fullmatch(rf"hf://datasets/{re.escape(address.repo)}@[0-9a-f]{{40}}/(.+)", str(file), re.DOTALL)
    return address.files / found[1] if found else Url(getattr(file, "whole", file))


def _features(features: Any) -> dict[str, Any]:
    return {} if features is None else dict(features.to_dict())


def _files(address: DataSetAddress) -> dict[str, list[str]]:
    """The files of each split."""
    builder = _builder(address)
    return {str(split): list(files) for split, files in (builder.config.data_files or {}).items()}


def _builder(address: DataSetAddress) -> Any:
    return _opened(address.repo, address.revision, address.subset)


@functools.lru_cache(maxsize=8)
def _opened(repo: str, revision: str | None, subset: str | None) -> Any:
    url = DataSetAddress(repo, revision, subset, ()).url
    file_system(url)  # which says whether the network may be asked
    from huggingface_hub import HfApi
    from huggingface_hub.errors import OfflineModeIsEnabled

    try:
        with hub_problems(url, revision, "the Hub cannot be asked"):  # `datasets` would try for half a minute, aloud
            HfApi().repo_info(repo, repo_type="dataset", revision=revision, timeout=30)
    except OfflineModeIsEnabled as error:
        raise InputError(f"{url}: HF_HUB_OFFLINE is set: nothing is asked of the Hub") from error
    import datasets

    with _problems(url):
        return datasets.load_dataset_builder(repo, subset, revision=revision)


@contextmanager
def _problems(url: Url) -> Iterator[None]:
    """What `datasets` raises, a dozen kinds of several libraries, as one line."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        reason, fix = said(error), ""
        if "gated" in reason.lower():
            fix = "; accept its terms, and set HF_TOKEN"
        elif "onfig" in reason and "available" in reason:
            fix = f"; name one as {url.partition('#')[0]}#SUBSET/SPLIT"
        raise InputError(f"{url}: cannot be opened: {reason}{fix}") from error
