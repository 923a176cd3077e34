"""The record of a training run: `metrics.jsonl` and TensorBoard events, cut back to where a resumed run starts."""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from lightning.fabric.loggers import TensorBoardLogger

from core_encoder.storage import write_text

METRICS_FILE = "metrics.jsonl"


class TrainingLog:
    """Appends one line per record; `after_step` drops what a killed run wrote beyond its last checkpoint."""

    def __init__(self, run_dir: Path, after_step: int) -> None:
        file = run_dir / METRICS_FILE
        kept = [line for line in _whole_lines(file) if json.loads(line)["step"] <= after_step]
        write_text(file, "".join(f"{line}\n" for line in kept))
        self._file = file.open("a", encoding="utf-8", buffering=1)
        self._board = TensorBoardLogger(run_dir, name="", version="tensorboard", purge_step=after_step + 1)

    def add(self, step: int, setting: str, values: dict[str, Any], **context: Any) -> None:
        """Record `values` (finite numbers) of one setting at `step`."""
        self._file.write(json.dumps({"step": step, "setting": setting, **context, **values}) + "\n")
        self._board.log_metrics({f"{name}/{setting}": value for name, value in values.items()}, step)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._board.finalize("success" if kind is None else "failed")


def _whole_lines(file: Path) -> list[str]:
    """The lines that end in a line break: a killed process may leave half a line."""
    if not file.exists():
        return []
    return file.read_text(encoding="utf-8").split("\n")[:-1]
