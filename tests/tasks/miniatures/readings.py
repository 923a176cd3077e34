"""What is read of a miniature, from which files, and what a file holds for a while."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from core_encoder.video.video_files import VIDEO_SUFFIXES
from tasks.benchmark import Benchmark

_opened: list[str] | None = None


def _note_opened(event: str, about: tuple[Any, ...]) -> None:
    if _opened is not None and event == "open" and isinstance(about[0], str):
        _opened.append(about[0])


sys.addaudithook(_note_opened)


def annotation_files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.is_file() and file.suffix not in VIDEO_SUFFIXES)


def files_read(benchmark: Benchmark, folder: Path) -> list[Path]:
    """The annotation files that hold anything and are opened to read a benchmark."""
    global _opened
    _opened = []
    try:
        reading(benchmark, folder)
        read = {Path(name) for name in _opened}
    finally:
        _opened = None
    return [file for file in annotation_files(folder) if file in read and file.stat().st_size]


def reading(benchmark: Benchmark, folder: Path) -> Any:
    """All that is read of a benchmark, whatever the order of its samples."""
    task = benchmark.open(folder)
    samples = {split: sorted(task.samples(split), key=lambda one: one.id) for split in task.splits}
    return task.label_names, samples


@contextmanager
def content_of(file: Path, content: bytes) -> Iterator[None]:
    """The file holds something else for a while."""
    before = file.read_bytes()
    file.write_bytes(content)
    try:
        yield
    finally:
        file.write_bytes(before)
