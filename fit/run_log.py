"""The record of a run: `metrics.jsonl` and TensorBoard events, cut back to where a resumed run starts."""

from __future__ import annotations

import json
import math
import threading
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
        from torch.utils.tensorboard import SummaryWriter

        self._path = run_dir / METRICS_FILE
        kept = [line for line in _whole_lines(self._path) if _step_of(line) <= after_step]
        write_text(self._path, "".join(f"{line}\n" for line in kept))
        self._tell_of_threads = threading.excepthook
        threading.excepthook = self._of_a_thread
        try:
            with writing_to(self._path):
                self._file = self._path.open("a", encoding="utf-8", buffering=1)
                self._curves = SummaryWriter(str(run_dir / "tensorboard"), purge_step=after_step + 1)
        except BaseException:
            threading.excepthook = self._tell_of_threads
            raise

    def add(self, step: int, values: dict[str, Any], **context: str | int) -> None:
        """Record `values` (finite numbers) at `step`; a context such as `setting=...` tells curves apart.

        Raises:
            InputError: the disk is full.
        """
        curve = next((f"/{name}" for name in context.values() if isinstance(name, str)), "")
        with writing_to(self._path):
            self._file.write(json.dumps({"step": step, **context, **values}) + "\n")
            for name, value in values.items():
                self._curves.add_scalar(f"{name}{curve}", value, step)
            self._curves.flush()

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
        finally:
            threading.excepthook = self._tell_of_threads

    def _of_a_thread(self, failed: threading.ExceptHookArgs) -> None:
        """Leave a full disk to be told in one line: TensorBoard's thread passes its error on, and prints it as well."""
        if type(failed.thread).__module__.startswith("tensorboard.") and isinstance(failed.exc_value, OSError):
            return
        self._tell_of_threads(failed)


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
