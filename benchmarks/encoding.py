"""The features of a cell: encoded where they are missing, their size stated before, a bar meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from core_encoder.cluster.cluster_settings import ClusterSettings

if TYPE_CHECKING:
    from core_encoder.clip_plan import Clip
    from core_encoder.encoder import Encoder
    from core_encoder.extraction import ExtractionProgress, ExtractionReport
    from core_encoder.features.estimate import Estimate
    from core_encoder.features.feature_spec import FeatureSpec


class Bar(Protocol):
    """How far one piece of work is."""

    def update(self, done: float, total: float | None, note: str = "") -> None: ...


class Watch(Protocol):
    """Who is told of long work; the command line draws it."""

    def note(self, text: str) -> None: ...

    def bar(self, what: str, in_seconds: bool = False) -> AbstractContextManager[Bar]: ...


@dataclass(frozen=True)
class Reading:
    """Where features are kept and how they are computed here; changes no value."""

    root: Path
    clips_per_batch: int = 8
    workers: int = 2
    cluster: ClusterSettings = field(default_factory=ClusterSettings)


def state_size(
    encoder: Encoder, clips: Sequence[Clip], spec: FeatureSpec, root: Path, watch: Watch | None = None
) -> Estimate:
    """How large the missing features will be and how much disk is free, said before anything is encoded."""
    from core_encoder.features.estimate import estimate

    size = estimate(encoder, clips, spec, root)
    if size.num_views and watch is not None:
        watch.note(f"features of {encoder.name!r}: {size}")
    return size


def encode_missing(
    encoder: Encoder,
    clips: Sequence[Clip],
    specs: Sequence[FeatureSpec],
    reading: Reading,
    watch: Watch,
    failures_path: Path | None = None,
) -> ExtractionReport:
    """Encode the clips that are not cached, all kinds of features in one pass.

    Raises:
        InputError: the features cannot fit on the disk.
    """
    from core_encoder.clip_bounds import describe_overruns
    from core_encoder.extraction import check_room

    for spec in specs:
        state_size(encoder, clips, spec, reading.root, watch)
    check_room(encoder, clips, specs, reading.root)
    with watch.bar("encoding", in_seconds=True) as bar:
        report = _engine(reading, watch)(
            encoder,
            clips,
            specs,
            reading.root,
            batch_size=reading.clips_per_batch,
            failures_path=failures_path,
            progress=lambda p: bar.update(p.video_s, p.total_video_s, _encoding_note(p)),
        )
    speed = f"{report.clips_per_s:.3g} clips/s, {report.times_real_time:.1f}x real time"
    rate = f" at {speed} ({report.bottleneck} is the bottleneck)" if report.n_encoded else ""
    derived = f", {report.n_derived} derived from finer ones" if report.n_derived else ""
    listed = f", listed in {report.failures_path}" if report.failures else ""
    crew = report.crew
    if crew is not None:
        replaced = f"; {crew.replaced} died and were replaced" if crew.replaced else ""
        watch.note(f"cluster: {crew.decoding} decoding and {crew.encoding} encoding workers{replaced}")
    watch.note(
        f"features: {report.n_cached} clips cached{derived}, {report.n_encoded} encoded{rate}, "
        f"{len(report.failures)} failed{listed}; {report.frames_decoded} frames decoded"
    )
    if report.overruns:
        watch.note(f"note: {describe_overruns(report.overruns, report.n_clips)}")
    return report


def _engine(reading: Reading, watch: Watch) -> Callable[..., ExtractionReport]:
    """`extract`, here or on a cluster."""
    if reading.cluster.on_ray:
        from core_encoder.cluster.ray_extraction import extract_on_ray

        return partial(extract_on_ray, cluster=reading.cluster, tell=watch.note)
    from core_encoder.extraction import extract

    return partial(extract, workers=reading.workers)


def pace_text(times_real_time: float, left_s: float | None) -> str:
    """How fast it goes and how long it takes, such as `12.4x real time, 41 min left`."""
    if left_s is None:
        return f"{times_real_time:.1f}x real time"
    left = f"{left_s:.0f} s" if left_s < 90 else f"{left_s / 60:.0f} min" if left_s < 5400 else f"{left_s / 3600:.1f} h"
    return f"{times_real_time:.1f}x real time, {left} left"


def _encoding_note(p: ExtractionProgress) -> str:
    clips = f", {p.done}/{p.total} clips" if p.total > 1 else ""
    note = pace_text(p.times_real_time, p.eta_s) + clips + (f", {p.failed} failed" if p.failed else "")
    if p.crew is None:
        return note
    replaced = f", {p.crew.replaced} replaced" if p.crew.replaced else ""
    return f"{p.clips_per_s:.3g} clips/s, {note}, {p.crew.decoding}+{p.crew.encoding} workers{replaced}"
