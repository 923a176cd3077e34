"""A lane: a few threads that do what waits for them, alike things together in one batch."""

from __future__ import annotations

import logging
import math
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

_LOOK_S = 0.002  # so often it is seen whether more come
log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Task:
    """Something to do: with all others of its `kind` that wait, by one call of `run`, which gives a result for each."""

    kind: Hashable
    item: Any
    run: Callable[[Sequence[Any]], Sequence[Any]]
    done: Future[Any]


def _let_go(error: BaseException) -> None:
    """End what was under way when an error was raised: its lines are kept for the log, not what they were at work on.

    Frames that come one by one hold a decode process until they are let go, and an error that is passed on may live in
    a cycle until Python looks for those, which it does the more seldom the less there is to do.
    """
    passed: BaseException | None = error
    seen: set[int] = set()
    while passed is not None and id(passed) not in seen:
        seen.add(id(passed))
        traceback.clear_frames(passed.__traceback__)
        passed = passed.__cause__ or passed.__context__


class Lane:
    """One thread, or several. A result that is an exception is raised for its own item alone."""

    def __init__(
        self,
        name: str,
        batch_size: int,
        max_wait_s: float,
        hear: Callable[[int], None],
        coming: Callable[[], int] = lambda: 0,
        workers: int = 1,
    ) -> None:
        """At most `batch_size` items together, and no more than each worker's share; `hear` is told of each batch.

        The first of them waits at most `max_wait_s`, and no longer than more are on their way (`coming` so many).
        """
        self._batch_size, self._max_wait_s, self._hear, self._coming = batch_size, max_wait_s, hear, coming
        self._waiting: deque[Task] = deque()
        self._running = 0
        self._changed = threading.Condition()
        self._closed = False
        self._threads = [threading.Thread(target=self._work, daemon=True, name=name) for _ in range(workers)]
        for thread in self._threads:
            thread.start()

    @property
    def busy(self) -> int:
        """How many items wait or are worked on."""
        return len(self._waiting) + self._running

    def submit(self, kind: Hashable, item: Any, run: Callable[[Sequence[Any]], Sequence[Any]]) -> Future[Any]:
        """Do this when its turn comes; a future that is cancelled before is left out."""
        task = Task(kind, item, run, Future())
        with self._changed:
            self._waiting.append(task)
            self._changed.notify_all()
        return task.done

    def close(self) -> None:
        """Finish what waits, then end."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while batch := self._next_batch():
            self._do(batch)
            with self._changed:
                self._running -= len(batch)
            batch.clear()  # nothing of it is held while the lane waits for more

    def _do(self, batch: Sequence[Task]) -> None:
        running = [task for task in batch if task.done.set_running_or_notify_cancel()]
        if not running:
            return
        self._hear(len(running))
        try:
            results = running[0].run([task.item for task in running])
            for task, result in zip(running, results, strict=True):
                if isinstance(result, BaseException):
                    _let_go(result)
                    task.done.set_exception(result)
                else:
                    task.done.set_result(result)
        except BaseException as error:  # whatever it is, whoever waits must hear of it, and the lane goes on
            _let_go(error)
            for task in running:
                if not task.done.done():
                    task.done.set_exception(error)

    def _next_batch(self) -> list[Task]:
        """The tasks that wait and are of the kind of the first; none when all is over."""
        with self._changed:
            while self._changed.wait_for(lambda: self._waiting or self._closed) and self._waiting:
                until = time.monotonic() + self._max_wait_s
                while self._lacks_some() and (left := until - time.monotonic()) > 0:
                    self._changed.wait(min(left, _LOOK_S))
                if self._waiting:  # another worker may have been faster
                    batch = self._alike()[: self._most()]
                    for task in batch:
                        self._waiting.remove(task)
                    self._running += len(batch)
                    return batch
            return []

    def _lacks_some(self) -> bool:
        """Whether the next batch is worth waiting for."""
        return bool(self._waiting) and not self._closed and len(self._alike()) < self._most() and self._coming() > 0

    def _most(self) -> int:
        """As many as a batch may have: with all of them in one, the other workers would have nothing to do."""
        here_or_coming = self.busy + max(0, self._coming())
        return min(self._batch_size, max(1, math.ceil(here_or_coming / len(self._threads))))

    def _alike(self) -> list[Task]:
        return [task for task in self._waiting if task.kind == self._waiting[0].kind]
