"""Scenes made on a Ray cluster: whole videos are jobs of its workers, which store the features and give the scenes.

The index has one writer, the process that asks.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

from core_encoder.cluster.actor_calls import Gone
from core_encoder.cluster.cluster_settings import ClusterSettings
from core_encoder.cluster.cluster_size import ClusterSize
from core_encoder.cluster.jobs import run_jobs
from core_encoder.cluster.ray_session import ray_session
from core_encoder.cluster.workers import enter
from prismhub.archive.index_settings import IndexSettings
from prismhub.archive.scene_cuts import SceneCuts
from prismhub.archive.scenes import ArchiveRecord
from prismhub.archive.video_folders import FoundVideo
from prismhub.archive.video_scenes import MakingEvent, VideoScenes, VideoUnread
from prismhub.progress import SILENT

_VIDEOS_AT_ONCE = 4  # of a worker: they share a shard of the store


class SceneWorker:
    """A process of a cluster that makes the scenes of some videos."""

    def __init__(
        self, settings: IndexSettings, known: ArchiveRecord | None, cuts: SceneCuts, store: Path, folder: str
    ) -> None:
        self._settings, self._known = settings, known
        self._cuts, self._store, self._folder = cuts, store, folder

    def ready(self) -> None:
        """Load encoder and adapters.

        Raises:
            InputError: they are not on this machine.
        """
        from prismhub.archive.scene_answers import open_answers

        enter(self._folder)
        self._settings.reading.apply()
        self._answers = open_answers(self._settings, self._known, SILENT)
        _ = self._answers.encoder

    def run(self, videos: tuple[FoundVideo, ...]) -> list[MakingEvent]:
        """Make the scenes of videos; their features are durable on return."""
        reading = self._settings.reading
        size, workers = reading.clips_per_batch, reading.workers
        with VideoScenes(videos, self._answers, self._cuts, self._store, size, workers) as made:
            events = list(made)
            made.commit()
        return events


class ClusterScenes:
    """`VideoScenes` on a cluster; a video that three workers died of is unread for that reason."""

    def __init__(
        self,
        videos: Sequence[FoundVideo],
        settings: IndexSettings,
        known: ArchiveRecord | None,
        cuts: SceneCuts,
        store: Path,
        tell: Callable[[str], None] = lambda text: None,
    ) -> None:
        """Prepare to make scenes of `videos`; `tell` hears that Ray begins."""
        self._videos, self._tell = tuple(videos), tell
        self._settings, self._known, self._cuts, self._store = settings, known, cuts, store.absolute()
        self._open = ExitStack()

    def __enter__(self) -> ClusterScenes:
        """Connect to the cluster.

        Raises:
            InputError: none answers.
        """
        self._ray: Any = self._open.enter_context(ray_session(self._settings.cluster, self._tell))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._open.__exit__(kind, error, at)

    def commit(self) -> None:
        """Nothing to do: features were durable before the scenes came."""

    def __iter__(self) -> Iterator[MakingEvent]:
        size = ClusterSize.of(self._ray, self._settings.cluster)
        each = max(1, min(_VIDEOS_AT_ONCE, len(self._videos) // (2 * size.encoding)))
        jobs = [self._videos[first : first + each] for first in range(0, len(self._videos), each)]
        here = replace(self._settings, cluster=ClusterSettings())
        found = run_jobs(
            self._ray,
            SceneWorker,
            (here, self._known, self._cuts, self._store, os.getcwd()),  # noqa: PTH109
            jobs,
            count=min(size.encoding, len(jobs)),
            num_cpus=size.num_cpus,
            num_gpus=size.num_gpus,
            split=lambda several: [(video,) for video in several],
        )
        for videos, events in found:
            if isinstance(events, Gone):
                yield from (VideoUnread(video.file, "3 processes died of it, one after the other") for video in videos)
            else:
                yield from events
