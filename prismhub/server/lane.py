"""A lane: a thread that does what waits for it, alike things together in one batch."""

from __future__ import annotations

import logging
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
    """One thread. A result that is an exception is raised for its own item alone."""

    def __init__(
        self,
        name: str,
        batch_size: int,
        max_wait_s: float,
        hear: Callable[[int], None],
        more_come: Callable[[], bool] = lambda: False,
    ) -> None:
        """At most `batch_size` items together; `hear` is told of each batch.

        The first of them waits at most `max_wait_s`, and no longer than more are on their way (`more_come`).
        """
        self._batch_size, self._max_wait_s, self._hear, self._more_come = batch_size, max_wait_s, hear, more_come
        self._waiting: deque[Task] = deque()
        self._running = 0
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, daemon=True, name=name)
        self._thread.start()

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
        self._thread.join()

    def _work(self) -> None:
        while batch := self._next_batch():
            self._do(batch)
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
            self._running = 0
            while not self._waiting and not self._closed:
                self._changed.wait()
            if not self._waiting:
                return []
            first = self._waiting[0]
            until = time.monotonic() + self._max_wait_s
            while not self._closed and len(self._alike(first)) < self._batch_size and self._more_come():
                if (left := until - time.monotonic()) <= 0:
                    break
                self._changed.wait(min(left, _LOOK_S))
            batch = self._alike(first)[: self._batch_size]
            for task in batch:
                self._waiting.remove(task)
            self._running = len(batch)
            return batch

    def _alike(self, first: Task) -> list[Task]:
        return [task for task in self._waiting if task.kind == first.kind]
