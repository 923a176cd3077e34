"""What `/metrics` says, in the text format of Prometheus (version 0.0.4)."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping

_BOUNDS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Metrics:
    """Counters of a server, safe with threads."""

    def __init__(self) -> None:
        self._changing = threading.Lock()
        self._requests: Counter[tuple[str, int]] = Counter()
        self._within: Counter[tuple[str, float]] = Counter()
        self._seconds: Counter[str] = Counter()
        self._batches = self._batched = 0
        self.gauges: dict[str, tuple[str, Callable[[], float]]] = {}

    def request(self, path: str, status: int, seconds: float) -> None:
        """A request was answered."""
        with self._changing:
            self._requests[path, status] += 1
            self._seconds[path] += seconds  # type: ignore[assignment]
            for bound in _BOUNDS_S:
                self._within[path, bound] += seconds <= bound

    def batch(self, size: int) -> None:
        """So many clips go to the encoder together."""
        with self._changing:
            self._batches += 1
            self._batched += size

    def text(self) -> str:
        """All of it."""
        with self._changing:
            lines = _head("prismhub_requests_total", "counter", "Requests that were answered.")
            lines += [
                _line("prismhub_requests_total", {"path": path, "status": str(status)}, count)
                for (path, status), count in sorted(self._requests.items())
            ]
            lines += _head("prismhub_request_seconds", "histogram", "From the first byte of a request to its answer.")
            for path in sorted(self._seconds):
                count = sum(number for (of, _), number in self._requests.items() if of == path)
                for bound in _BOUNDS_S:
                    about = {"path": path, "le": f"{bound:g}"}
                    lines.append(_line("prismhub_request_seconds_bucket", about, self._within[path, bound]))
                lines.append(_line("prismhub_request_seconds_bucket", {"path": path, "le": "+Inf"}, count))
                lines.append(_line("prismhub_request_seconds_sum", {"path": path}, self._seconds[path]))
                lines.append(_line("prismhub_request_seconds_count", {"path": path}, count))
            lines += _head("prismhub_batches_total", "counter", "Batches that went to the encoder.")
            lines.append(_line("prismhub_batches_total", {}, self._batches))
            lines += _head("prismhub_batched_total", "counter", "Clips and texts in them.")
            lines.append(_line("prismhub_batched_total", {}, self._batched))
        for name, (about_it, value) in self.gauges.items():
            lines += _head(name, "counter" if name.endswith("_total") else "gauge", about_it)
            lines.append(_line(name, {}, value()))
        return "\n".join(lines) + "\n"


def _head(name: str, kind: str, text: str) -> list[str]:
    return [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]


def _line(name: str, labels: Mapping[str, str], value: float) -> str:
    inside = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
    number = str(value) if isinstance(value, int) else f"{value:.9g}"
    return f"{name}{{{inside}}} {number}" if inside else f"{name} {number}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
