"""Whole jobs on a Ray cluster: each is done by one worker, and tried again elsewhere when that dies."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, TypeVar

from core_encoder.cluster.actor_calls import ActorCalls, Gone
from core_encoder.cluster.chunks import DEATHS
from core_encoder.cluster.worker_pool import WorkerPool

Job = TypeVar("Job")


def run_jobs(
    ray: Any,
    worker: type[Any],
    given: Sequence[Any],
    jobs: Iterable[Job],
    *,
    count: int,
    num_cpus: float,
    num_gpus: float = 0,
    split: Callable[[Job], Sequence[Job]] = lambda job: [job],
    tick: Callable[[int], None] = lambda workers: None,
) -> Iterator[tuple[Job, Any]]:
    """Do `jobs` by `count` workers made as `worker(*given)`, and give what came of each as it is there.

    A worker is readied by `ready()` and does one job at a time by `run(job)`. A job that its worker died of is `split`
    where it is of several things, and tried again; of one that three died of, a `Gone` is given. `tick` hears about
    every second how many workers are there. Leaving the iterator ends the workers.

    Raises:
        Exception: what a job raised.
    """
    calls, idle = ActorCalls(ray), deque[Any]()
    again, done, deaths = deque[Job](), deque[tuple[Job, Any]](), Counter[Job]()
    pool = WorkerPool(
        ray,
        calls,
        worker,
        given,
        wake=lambda actor: actor.ready.remote(),
        on_ready=idle.append,
        num_cpus=num_cpus,
        num_gpus=num_gpus,
    )
    coming, running = iter(jobs), 0

    def ended(actor: Any, job: Job, answer: Any) -> None:
        nonlocal running
        running -= 1
        if not isinstance(answer, Gone):
            idle.append(actor)
            done.append((job, answer))
            return
        pool.replace(actor)
        parts = split(job)
        if len(parts) > 1:
            again.extend(parts)
            return
        deaths[job] += 1
        if deaths[job] < DEATHS:
            again.append(job)
        else:
            done.append((job, answer))

    def following() -> Job | None:
        return again.popleft() if again else next(coming, None)

    try:
        if (job := following()) is None:
            return
        again.append(job)
        pool.start(count)
        while not idle or running or again:
            calls.wait(1.0)
            pool.warn_if_none()
            tick(len(pool.alive))
            while done:
                yield done.popleft()
            while idle and (job := following()) is not None:
                actor = idle.popleft()
                calls.add(actor.run.remote(job), partial(ended, actor, job))
                running += 1
    finally:
        pool.stop()
