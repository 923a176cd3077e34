"""Whole jobs on a Ray cluster: each is done by one worker, and tried again elsewhere when that dies."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, TypeVar

from core_encoder.cluster.actor_calls import ActorCalls, Gone
from core_encoder.cluster.chunks import DEATHS
from core_encoder.cluster.cluster_size import ClusterSize
from core_encoder.cluster.worker_pool import WorkerPool

Job = TypeVar("Job")


def run_jobs(
    ray: Any,
    worker: type[Any],
    given: Sequence[Any],
    jobs: Sequence[Job],
    size: ClusterSize,
    tick: Callable[[int], None] = lambda workers: None,
) -> Iterator[tuple[Job, Any]]:
    """Do `jobs` by workers made as `worker(*given)`, with `run(job)` each, and give what came of each as it is there.

    A worker is readied by `ready()` and has one job at a time. Of a job that three workers died of, a `Gone` is given
    instead. `tick` hears about every second how many workers are there. Leaving the iterator ends the workers.

    Raises:
        Exception: what a job raised.
    """
    calls, idle = ActorCalls(ray), deque[Any]()
    waiting, done, deaths = deque(enumerate(jobs)), deque[tuple[Job, Any]](), Counter[int]()
    pool = WorkerPool(
        ray,
        calls,
        worker,
        given,
        wake=lambda actor: actor.ready.remote(),
        on_ready=idle.append,
        num_cpus=size.num_cpus,
        num_gpus=size.num_gpus,
    )

    def ended(actor: Any, number: int, answer: Any) -> None:
        if not isinstance(answer, Gone):
            idle.append(actor)
            done.append((jobs[number], answer))
            return
        pool.replace(actor)
        deaths[number] += 1
        if deaths[number] < DEATHS:
            waiting.appendleft((number, jobs[number]))
        else:
            done.append((jobs[number], answer))

    left = len(jobs)
    try:
        pool.start(min(size.encoding, left))
        while left:
            while idle and waiting:
                actor, (number, job) = idle.popleft(), waiting.popleft()
                calls.add(actor.run.remote(job), partial(ended, actor, number))
            calls.wait(1.0)
            tick(len(pool.alive))
            while done:
                left -= 1
                yield done.popleft()
    finally:
        pool.stop()
