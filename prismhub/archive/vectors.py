"""The vectors of scenes: a file of fp16 rows that only grows, exact search in it by blocks of matrix products, and an
approximate index (HNSW, by usearch) beside it for large archives.

A row is written and fsynced before anything names it, so a run that is killed leaves rows that nobody names; the next
one writes over them. Rows are unit vectors, so that their products are cosines.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core_encoder.errors import InputError
from core_encoder.files.storage import atomic_path, writing_to

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]

BLOCK = 1024  # rows that are products at once: in fp32 they stay in the cache
APPROXIMATE_FROM = 300_000  # rows; below, exact search is as fast
MOST_APPROXIMATE = 4096  # rows of one search in the graph; for more, exact search is as fast
_CONNECTIVITY, _EXPANSION_ADD = 16, 128
_EXPANSIONS = (64, 128, 256, 512, 1024, 2048)  # candidates that a search holds, tried until it finds enough
LEAST_RECALL = 0.99  # of the ten nearest, on trial queries; where no expansion reaches it, search stays exact
_NAME = "vectors-{number}.f16"


@dataclass(frozen=True)
class VectorFile:
    """Rows of `width` numbers in `folder/vectors-NUMBER.f16`, of which the first `rows` count."""

    folder: Path
    number: int
    width: int
    rows: int

    @property
    def path(self) -> Path:
        """The file of the rows."""
        return self.folder / _NAME.format(number=self.number)

    @property
    def graph_path(self) -> Path:
        """The file of the approximate index, which may be missing or hold fewer rows."""
        return self.path.with_suffix(".hnsw")

    def append(self, vectors: Floats) -> VectorFile:
        """Write vectors (n, width) after the rows that count; the file with them.

        Raises:
            InputError: another width or length, numbers that are not finite, or the disk is full.
        """
        if vectors.ndim != 2 or vectors.shape[1] != self.width:
            raise InputError(f"{self.path}: holds vectors of {self.width} numbers, not {vectors.shape[-1]}")
        if not np.isfinite(vectors).all():
            raise InputError(f"{self.path}: a vector holds numbers that are not finite")
        if (abs(np.linalg.norm(vectors, axis=1) - 1) > 0.01).any():
            raise InputError(f"{self.path}: a vector is not of length 1")
        if not self.rows and not self.path.exists():
            with atomic_path(self.path) as aside:
                aside.touch()
        self.check()
        with writing_to(self.path), self.path.open("r+b") as file:
            file.truncate(self.rows * self.width * 2)
            file.seek(0, os.SEEK_END)
            file.write(np.ascontiguousarray(vectors, dtype="<f2").tobytes())
            file.flush()
            os.fsync(file.fileno())
        return VectorFile(self.folder, self.number, self.width, self.rows + len(vectors))

    @property
    def is_whole(self) -> bool:
        """Whether the file is there, with all the rows that count."""
        return not self.rows or (self.path.is_file() and self.path.stat().st_size >= self.rows * self.width * 2)

    def check(self) -> None:
        """Refuse a file that others took away or cut.

        Raises:
            InputError: it is missing or too short.
        """
        if not self.is_whole:
            what = "shorter than the archive says" if self.path.exists() else "missing"
            raise InputError(f"{self.path}: {what}; remove the archive's folder and make it anew with prismhub index")

    def mapped(self) -> NDArray[np.float16]:
        """The rows that count (rows, width), mapped.

        Raises:
            InputError: the file is missing or too short.
        """
        self.check()
        size = self.rows * self.width * 2
        if size == 0:
            return np.zeros((0, self.width), np.float16)
        with self.path.open("rb") as file:
            raw = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_COPY)  # torch takes no memory it may not write
        return np.frombuffer(raw, dtype="<f2").reshape(self.rows, self.width)


class VectorSearch:
    """Nearest rows of one `VectorFile`: exactly, or by its approximate index where that is good enough."""

    def __init__(self, file: VectorFile, expansion: int = 0) -> None:
        """`expansion` is what `build_graph` found for this file, 0 where search is exact."""
        self.file = file
        self.values = file.mapped()
        self._expansion = expansion
        self._graph: Any = None

    def nearest(self, query: Floats, count: int, allowed: Rows | None = None) -> tuple[Rows, Floats]:
        """The `count` rows of the greatest cosine with `query (E,)`, and the cosines, the best first.

        Where `allowed` names rows, only they are ranked, exactly. Equal rows keep their order.
        """
        if allowed is None and self._expansion and count <= MOST_APPROXIMATE and self._open_graph():
            return self._approximately(query, count)
        if allowed is None:
            return best_of(*self._products(query, 0), count)
        if len(allowed) * 4 < len(self.values):
            some = (allowed[start : start + BLOCK] for start in range(0, len(allowed), BLOCK))
            products = [self.cosines(rows, query[None])[:, 0] for rows in some]
            return best_of(allowed, np.concatenate([np.zeros(0, np.float32), *products]), count)
        return best_of(allowed, self._products(query, 0)[1][allowed], count)

    def cosines(self, rows: Rows, queries: Floats) -> Floats:
        """Cosines (R, Q) of some rows with queries (Q, E)."""
        import torch

        chosen = torch.from_numpy(self.values[rows]).float()
        return (chosen @ torch.from_numpy(np.ascontiguousarray(queries.T))).numpy()

    def over_rows(self, queries: Floats, visit: Callable[[int, Floats], None], first: int = 0) -> None:
        """Show `visit` the cosines (n, Q) of queries (Q, E) with all rows from `first` on, block by block.

        It is also told the row with which a block begins.
        """
        import torch  # it turns fp16 into fp32 four times faster than NumPy

        columns = torch.from_numpy(np.ascontiguousarray(queries.T))
        buffer = torch.empty((BLOCK, self.file.width))
        for start in range(first, len(self.values), BLOCK):
            rows = self.values[start : start + BLOCK]
            block = buffer[: len(rows)]
            block.copy_(torch.from_numpy(rows))
            visit(start, (block @ columns).numpy())

    def nearest_of_each(self, queries: Floats, count: int) -> Rows:
        """The `count` rows (Q, count) of the greatest cosine with each of the queries (Q, E), exactly, in any order."""
        count = min(count, len(self.values))
        cosines = np.full((len(queries), count), -np.inf, np.float32)
        rows = np.full((len(queries), count), -1, np.int64)

        def visit(start: int, block: Floats) -> None:
            nonlocal cosines, rows
            here = np.broadcast_to(np.arange(start, start + len(block)), (len(queries), len(block)))
            both = np.concatenate([cosines, block.T], axis=1)
            best = np.argpartition(-both, count - 1, axis=1)[:, :count]
            cosines = np.take_along_axis(both, best, axis=1)
            rows = np.take_along_axis(np.concatenate([rows, here], axis=1), best, axis=1)

        self.over_rows(queries, visit)
        return rows

    def _products(self, query: Floats, first: int) -> tuple[Rows, Floats]:
        """All rows from `first` on, and their cosines with the query."""
        found = np.empty(len(self.values) - first, np.float32)

        def keep(start: int, block: Floats) -> None:
            found[start - first : start - first + len(block)] = block[:, 0]

        self.over_rows(query[None], keep, first)
        return np.arange(first, len(self.values), dtype=np.int64), found

    def _approximately(self, query: Floats, count: int) -> tuple[Rows, Floats]:
        """By the graph; rows that it does not hold yet are looked at one by one, and all cosines are exact."""
        self._graph.expansion_search = max(self._expansion, count)
        found = np.asarray(self._graph.search(query, count).keys, dtype=np.int64)
        found = found[found < len(self.values)]  # it may have grown since this reading began
        cosines = self.cosines(found, query[None])[:, 0]
        rest, products = self._products(query, min(len(self._graph), len(self.values)))
        return best_of(np.concatenate([found, rest]), np.concatenate([cosines, products]), count)

    def _open_graph(self) -> bool:
        if self._graph is None:
            self._graph = _read_graph(self.file)
        return self._graph is not None


def best_of(rows: Rows, cosines: Floats, count: int) -> tuple[Rows, Floats]:
    """The `count` greatest cosines and their rows, the best first; equal ones in the order of their rows."""
    if count < len(rows):
        least = np.partition(cosines, len(cosines) - count)[len(cosines) - count]
        near = np.flatnonzero(cosines >= least)
        rows, cosines = rows[near], cosines[near]
    order = np.lexsort((rows, -cosines))[:count]
    return rows[order], cosines[order]


def build_graph(file: VectorFile, trials: Floats) -> int:
    """Make the approximate index hold every row of the file; the expansion with which search finds enough, else 0.

    What it holds already stays. `trials (Q, E)` are queries such as will be asked: whether enough of their ten nearest
    rows are found is measured on them, and 0 means that search had better stay exact.

    Raises:
        InputError: usearch is not installed, or the disk is full.
    """
    graph = _read_graph(file, to_write=True)
    values = file.mapped()
    held = len(graph)
    for start in range(held, file.rows, 16 * BLOCK):
        block = values[start : start + 16 * BLOCK]
        graph.add(np.arange(start, start + len(block)), block)
    if held < file.rows:
        with atomic_path(file.graph_path) as aside:
            graph.save(str(aside))
    truths = list(map(set, VectorSearch(file).nearest_of_each(trials, 10).tolist()))
    for expansion in _EXPANSIONS:
        graph.expansion_search = expansion
        found = [set(graph.search(query, min(100, expansion)).keys.tolist()) for query in trials]
        hits = sum(len(truth & some) for truth, some in zip(truths, found, strict=True))
        if hits >= LEAST_RECALL * sum(map(len, truths)):
            return expansion
    return 0


def compact(file: VectorFile, kept: Rows) -> VectorFile:
    """Write only the rows `kept`, in their order, to a file of the next number; the old one stays for its readers.

    Raises:
        InputError: the disk is full.
    """
    following = VectorFile(file.folder, file.number + 1, file.width, len(kept))
    values = file.mapped()
    with atomic_path(following.path) as aside, aside.open("wb") as out:
        for start in range(0, len(kept), BLOCK):
            out.write(values[kept[start : start + BLOCK]].tobytes())
    return following


def has_usearch() -> bool:
    """Whether the approximate index can be made and read here."""
    from importlib.util import find_spec

    return find_spec("usearch") is not None


def _read_graph(file: VectorFile, to_write: bool = False) -> Any:
    """The approximate index as it lies there, None where there is none to read; to write, a new one."""
    if not has_usearch():
        if to_write:
            raise InputError(
                "an approximate index needs usearch, which is not installed: pip install 'prismhub[archive]'"
            )
        return None
    from usearch.index import Index

    there = file.graph_path.is_file()
    if there and not to_write:
        graph = Index.restore(str(file.graph_path), view=True)
    else:
        graph = Index(
            ndim=file.width, metric="ip", dtype="f16", connectivity=_CONNECTIVITY, expansion_add=_EXPANSION_ADD
        )
        if there:
            graph.load(str(file.graph_path))
    if graph is None or (len(graph) == 0 and not to_write):
        return None
    return graph
