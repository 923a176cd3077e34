"""The two lanes of a server, and the cores they share.

One batches short clips, whose frames are there when they come to it; in the other long ones are answered one by one, so
that nobody waits for an hour of video but who asked about it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from prismhub.server.lane import Lane
from prismhub.server.metrics import Metrics


class Lanes:
    """On a CPU two batches of short clips run side by side, each on half of the cores.

    A batch of a few clips does not fill all cores for all of its time, and while it is encoded those who asked last
    have the frames of their next question decoded.
    """

    def __init__(self, batch_size: int, max_wait_s: float, on_cpu: bool, metrics: Metrics) -> None:
        self._cores = torch.get_num_threads()
        self._side_by_side = 2 if on_cpu and self._cores > 1 else 1
        self._metrics = metrics
        self.admitted: Callable[[], int] = lambda: 0  # requests that are read, decoded or answered; the routes know
        self.short = Lane("short clips", batch_size, max_wait_s, self._begin, self._coming, self._side_by_side)
        self.long = Lane("long clips", 1, 0.0, self._begin)

    def close(self) -> None:
        """Finish what runs."""
        self.short.close()
        self.long.close()

    def _coming(self) -> int:
        """How many requests have not come to a lane yet."""
        return self.admitted() - self.short.busy - self.long.busy

    def _begin(self, size: int) -> None:
        """A batch begins in this thread: on all cores, if there is no request but these."""
        self._metrics.batch(size)
        alone = self.admitted() <= size
        torch.set_num_threads(self._cores if alone else self._cores // self._side_by_side)
