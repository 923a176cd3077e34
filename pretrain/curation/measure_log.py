"""Measures on disk: JSON lines that are only ever appended, so that a killed run goes on where it stopped.

One file holds the lines of `BLOCK` neighbouring rows of a tier, so that reading them back needs little memory however
large the corpus is. A line counts only for the row it was measured on: it carries the key of that row.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from core_encoder.files.storage import writing_to

BLOCK = 4096


class MeasureLog:
    """The folder of one tier's lines of one kind (pixels, or one encoder's); one process writes at a time."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def path(self, block: int) -> Path:
        return self.folder / f"{block:08d}.jsonl"

    def read(self, block: int) -> dict[int, dict[str, Any]]:
        """Row number -> its last line, of the rows `block * BLOCK` and following; a line cut off is passed over."""
        path = self.path(block)
        if not path.exists():
            return {}
        lines: dict[int, dict[str, Any]] = {}
        for text in path.read_text(encoding="utf-8").splitlines():
            try:
                line = json.loads(text)
                lines[int(line["row"])] = line
            except (KeyError, TypeError, ValueError):
                continue
        return lines

    def append(self, lines: Sequence[Mapping[str, Any]]) -> None:
        """Add lines, each with its `row`; durable on return.

        Raises:
            InputError: the disk is full, or the folder cannot be written to.
        """
        by_block: dict[int, list[str]] = {}
        for line in lines:
            text = json.dumps(line, ensure_ascii=True, allow_nan=False)
            by_block.setdefault(int(line["row"]) // BLOCK, []).append(text + "\n")
        for block, texts in by_block.items():
            path = self.path(block)
            with writing_to(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("ab+") as file:
                    if file.tell() > 0:
                        file.seek(-1, os.SEEK_END)
                        if file.read(1) != b"\n":  # a killed run's last line was cut off
                            file.write(b"\n")
                    file.write("".join(texts).encode("ascii"))
                    file.flush()
                    os.fsync(file.fileno())
