"""A pool of actors of one class: so many as were asked for, each replaced when it dies."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from core_encoder.cluster.actor_calls import ActorCalls, Gone
from core_encoder.errors import InputError

_FALSE_STARTS = 3
_LONG_S = 60.0
log = logging.getLogger(__name__)


class WorkerPool:
    """Actors of `worker`, made with `given`; `wake` is the method that readies a new one."""

    def __init__(
        self,
        ray: Any,
        calls: ActorCalls,
        worker: type[Any],
        given: Sequence[Any],
        *,
        wake: Callable[[Any], Any],
        on_ready: Callable[[Any], None],
        num_cpus: float,
        num_gpus: float = 0,
    ) -> None:
        self._ray = ray
        self._calls = calls
        self._make = ray.remote(worker).options(
            num_cpus=num_cpus, num_gpus=num_gpus, max_restarts=0, max_task_retries=0, scheduling_strategy="SPREAD"
        )
        self._given = given
        self._wake = wake
        self._on_ready = on_ready
        self._false_starts = 0
        self._asked = 0.0
        self._has_warned = False
        self.alive: list[Any] = []
        self._starting: list[Any] = []
        self.replaced = 0

    def start(self, count: int) -> None:
        """Make so many more."""
        self._asked = time.monotonic()
        for _ in range(count):
            actor = self._make.remote(*self._given)
            self._starting.append(actor)
            self._calls.add(self._wake(actor), partial(self._started, actor))

    def _started(self, actor: Any, answer: Any) -> None:
        self._starting.remove(actor)
        if isinstance(answer, Gone):
            self._false_starts += 1
            if self._false_starts > _FALSE_STARTS + len(self.alive):
                raise InputError(f"the cluster's workers die as they start: {answer.reason}")
            self.start(1)
            return
        self._false_starts = 0
        self.alive.append(actor)
        self._on_ready(actor)

    def warn_if_none(self) -> None:
        """Say once that no worker is there though some were asked for long ago: a cluster may be busy or too small."""
        if self._starting and not self.alive and time.monotonic() - self._asked > _LONG_S and not self._has_warned:
            self._has_warned = True
            log.warning("no worker has started in %.0f s: the cluster is busy, or has lost machines; waiting", _LONG_S)

    def replace(self, actor: Any) -> None:
        """Make another one for one that died, or that is no longer of use."""
        self.alive.remove(actor)
        self._ray.kill(actor)
        self.replaced += 1
        self.start(1)

    def stop(self) -> None:
        """End all of them."""
        for actor in self.alive + self._starting:
            self._ray.kill(actor)
