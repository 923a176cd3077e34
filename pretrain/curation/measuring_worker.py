"""Measures of a tier's clips on a Ray cluster: its processes look at clips and encode them, the caller writes."""

from __future__ import annotations

import copy
import itertools
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from core_encoder.cluster.actor_calls import Gone
from core_encoder.cluster.cluster_settings import ClusterSettings
from core_encoder.cluster.cluster_size import ClusterSize
from core_encoder.cluster.jobs import run_jobs
from core_encoder.cluster.ray_session import ray_session
from core_encoder.cluster.workers import enter
from pretrain.curation.corpus_measures import Lines, Task, TierMeasures

if TYPE_CHECKING:
    from core_encoder.encoder import Encoder


class MeasuringWorker:
    """A process that measures some clips at a time."""

    def __init__(self, tier: TierMeasures, encoder: Encoder | None, device: str, workers: int, folder: str) -> None:
        self._tier, self._encoder, self._device = tier, encoder, device
        self._workers, self._folder = workers, folder

    def ready(self) -> None:
        """Go to where the run was started, and bring the encoder to its device."""
        enter(self._folder)
        self._tier.encoder = None if self._encoder is None else self._encoder.to(self._device)

    def run(self, tasks: tuple[Task, ...]) -> Lines:
        """Measure clips."""
        (lines,) = self._tier.measured(tasks, len(tasks), self._workers)
        return lines


def measure_on_ray(
    tier: TierMeasures,
    tasks: Iterator[Task],
    chunk: int,
    workers: int,
    cluster: ClusterSettings,
    tell: Callable[[str], None],
) -> Iterator[Lines]:
    """`TierMeasures.measured` on a cluster; a clip that three processes died of is unreadable for that reason.

    Without any task Ray does not begin.

    Raises:
        InputError: no cluster answers.
    """
    chunks = iter(lambda: tuple(itertools.islice(tasks, chunk)), ())
    if (first := next(chunks, None)) is None:
        return
    encoder, unladen = tier.encoder, copy.copy(tier)
    unladen.encoder = None
    if encoder is not None and encoder.device.type != "cpu":
        encoder = copy.deepcopy(encoder).to("cpu")
    with ray_session(cluster) as ray:
        size = ClusterSize.of(ray, cluster)
        num_gpus = size.num_gpus if encoder is not None else 0.0
        given = (ray.put(unladen), ray.put(encoder), "cuda" if num_gpus else "cpu", workers, os.getcwd())  # noqa: PTH109
        found = run_jobs(
            ray,
            MeasuringWorker,
            given,
            itertools.chain([first], chunks),
            count=size.encoding if encoder is not None else size.decoding,
            num_cpus=size.num_cpus if encoder is not None else 1,
            num_gpus=num_gpus,
            split=lambda several: [(task,) for task in several],
            tick=lambda count: tell(f", {count} workers"),
        )
        for several, lines in found:
            yield _died(several) if isinstance(lines, Gone) else lines


def _died(tasks: tuple[Task, ...]) -> Lines:
    reason = "3 processes died of it, one after the other"
    return Lines([{"row": one.number, "key": one.key, "reason": reason} for one in tasks], [], len(tasks), len(tasks))
