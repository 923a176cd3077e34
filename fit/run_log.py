"""The record of a run: `metrics.jsonl` and TensorBoard events, cut back to where a resumed run starts."""

from __future__ import annotations

import json
import math
import socket
import time
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from core_encoder.errors import InputError
from core_encoder.files.storage import write_text, writing_to

METRICS_FILE = "metrics.jsonl"


class RunLog:
    """Appends one line per record; `after_step` drops what a killed run wrote beyond its last checkpoint.

    Raises:
        InputError: the disk is full, when it is opened, added to or closed.
    """

    def __init__(self, run_dir: Path, after_step: int) -> None:
        self._path = run_dir / METRICS_FILE
        kept = [line for line in _whole_lines(self._path) if _step_of(line) <= after_step]
        write_text(self._path, "".join(f"{line}\n" for line in kept))
        with writing_to(self._path):
            self._file = self._path.open("a", encoding="utf-8", buffering=1)
            self._curves = _Curves(run_dir / "tensorboard", after_step + 1)

    def add(self, step: int, values: dict[str, Any], **context: str | int) -> None:
        """Record `values` (finite numbers) at `step`; a context such as `setting=...` tells curves apart.

        Raises:
            InputError: the disk is full.
        """
        curve = next((f"/{name}" for name in context.values() if isinstance(name, str)), "")
        with writing_to(self._path):
            self._file.write(json.dumps({"step": step, **context, **values}) + "\n")
            self._curves.add(step, {f"{name}{curve}": value for name, value in values.items()})

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            with writing_to(self._path), closing(self._curves), self._file:
                pass
        except (InputError, OSError):  # on a full disk closing fails once more: what failed first is what to tell
            if error is None:
                raise


class _Curves:
    """TensorBoard's events, written at once: its own writer is a thread, which prints a traceback on a full disk."""

    def __init__(self, folder: Path, first_step: int) -> None:
        from tensorboard.compat.proto.event_pb2 import SessionLog
        from tensorboard.summary.writer.record_writer import RecordWriter

        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f"events.out.tfevents.{time.time_ns()}.{socket.gethostname()}"
        self._records = RecordWriter(file.open("wb"))
        self._write(file_version="brain.Event:2")
        self._write(step=first_step, session_log=SessionLog(status=SessionLog.START))  # hides what came after

    def add(self, step: int, values: dict[str, Any]) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        scalars = [Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        self._write(step=step, summary=Summary(value=scalars))

    def close(self) -> None:
        self._records.close()

    def _write(self, **fields: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        self._records.write(Event(wall_time=time.time(), **fields).SerializeToString())
        self._records.flush()


def _whole_lines(file: Path) -> list[str]:
    """The lines that end in a line break: a killed process may leave half a line."""
    if not file.exists():
        return []
    return file.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]


def _step_of(line: str) -> float:
    """The step of a record; infinity for what is none, such as the zeros that a power cut leaves."""
    try:
        return int(json.loads(line)["step"])
    except (ValueError, TypeError, KeyError):
        return math.inf
