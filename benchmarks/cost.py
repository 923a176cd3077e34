"""What a piece of work costs: seconds, and the most memory it held."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Stopwatch:
    """Seconds of named pieces of work; a piece may be worked on several times."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def measure(self, what: str) -> Iterator[None]:
        """Count the seconds of the block to `what`."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[what] = self.seconds.get(what, 0.0) + time.perf_counter() - started


def reset_peak_memory() -> None:
    """Begin to look for the most memory anew, where the system can: Linux, and on GPUs."""
    with contextlib.suppress(OSError):  # another system, or forbidden: the peak is then that of the process so far
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def peak_memory_bytes() -> tuple[int | None, int | None]:
    """The most memory this process held since the reset, and the most of the GPU; None where it is not known."""
    torch = sys.modules.get("torch")
    gpu = int(torch.cuda.max_memory_allocated()) if torch is not None and torch.cuda.is_available() else None
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
        peak = next(line for line in lines if line.startswith("VmHWM:"))
        return int(peak.split()[1]) * 1024, gpu
    except (OSError, StopIteration):
        return _most_ever(), gpu


def _most_ever() -> int | None:
    """The most memory since the process began."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
