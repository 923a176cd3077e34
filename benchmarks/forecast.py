"""What a matrix will take, before it runs: clips, disk, and about how long, measured on a few clips here."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmarks.encoding import Reading, Watch
from benchmarks.matrix import OpenTasks, finished
from benchmarks.matrix_cells import MatrixCell
from benchmarks.scoring import with_some_kept
from core_encoder.errors import InputError
from core_encoder.files.storage import readable_bytes
from tasks.readers.dataset_folder import MissingData

if TYPE_CHECKING:
    from core_encoder.clip_plan import Clip
    from core_encoder.features.feature_spec import FeatureSpec
    from tasks.task import Task

_PROBED = 4  # clips that are encoded, and trained on, to see how long it takes


@dataclass(frozen=True)
class Forecast:
    """What one cell will take; of its clips, `cached` are in the store, `shared` are counted at a cell before.

    `state` is `to run`, `done`, `no data` or `failed`, the last two with a reason. Seconds are None where they could
    not be measured.
    """

    cell: str
    state: str
    reason: str = ""
    train: int = 0
    test: int = 0
    clips: int = 0
    cached: int = 0
    shared: int = 0
    views: int = 0
    disk_bytes: int = 0
    encode_s: float | None = 0.0
    train_s: float | None = 0.0

    def row(self) -> list[str]:
        """The forecast as text, under `FORECAST_HEADER`."""
        if self.state != "to run":
            return [self.cell, self.state, *[""] * 8]
        counts = (self.train, self.test, self.clips, self.clips - self.cached - self.shared, self.views)
        times = (_duration(one) for one in (self.encode_s, self.train_s))
        return [self.cell, self.state, *map(str, counts), readable_bytes(self.disk_bytes), *times]


FORECAST_HEADER = ["cell", "state", "train", "test", "clips", "to encode", "views", "disk", "encoding", "training"]


def forecast(cells: Sequence[MatrixCell], reading: Reading, watch: Watch) -> list[Forecast]:
    """What every cell will take; a few clips are encoded and a step is trained to see how long, and nothing is kept."""
    from core_encoder.features.estimate import estimate

    found: list[Forecast] = []
    tasks = OpenTasks(cells[0].options.data_root) if cells else None
    seen: set[tuple[Clip, FeatureSpec]] = set()
    decoded: dict[Any, set[Clip]] = {}
    paces: dict[Any, float | None] = {}
    steps: dict[Any, float | None] = {}
    with watch.bar("reckoning") as bar:
        for place, cell in enumerate(cells):
            bar.update(place, len(cells), cell.name)
            assert tasks is not None
            try:
                task = tasks(cell)
            except MissingData as error:
                found.append(Forecast(cell.name, "no data", str(error)))
                continue
            except InputError as error:
                found.append(Forecast(cell.name, "failed", str(error)))
                continue
            if finished(cell, tasks) is not None:
                found.append(Forecast(cell.name, "done"))
                continue
            if (problem := cell.problem or _problem_of(task)) or cell.spec is None:
                found.append(Forecast(cell.name, "failed", problem))
                continue
            clips = list(dict.fromkeys(one.clip for split in cell.splits for one in task.samples(split)))
            new = [clip for clip in clips if (clip, cell.spec) not in seen]
            seen |= {(clip, cell.spec) for clip in new}
            size = estimate(cell.encoder, new, cell.spec, reading.root)
            passed = decoded.setdefault(cell.batch, set())
            fresh = [clip for clip in new if clip not in passed]  # the others are decoded for another kind of features
            passed |= set(fresh)
            if cell.batch not in paces and size.num_views:
                paces[cell.batch] = _seconds_a_view(cell, new, reading)
            pace = paces.get(cell.batch, 0.0)
            share = len(fresh) / len(new) if new else 0.0
            key = (cell.benchmark.name, cell.encoder.fingerprint, cell.adapter)
            if key not in steps:
                steps[key] = _training_s(cell, task, reading)
            found.append(
                Forecast(
                    cell.name,
                    "to run",
                    train=len(task.samples("train")) if "train" in cell.splits else 0,
                    test=len(task.samples("test")),
                    clips=len(clips),
                    cached=size.num_cached,
                    shared=len(clips) - len(new),
                    views=size.num_views,
                    disk_bytes=size.total_bytes,
                    encode_s=None if pace is None else pace * size.num_views * share,
                    train_s=steps[key],
                )
            )
    return found


def _problem_of(task: Task) -> str:
    """Why a task could not be judged here; empty where it can."""
    try:
        task.check_judging()
    except InputError as error:
        return str(error)
    return ""


def total_line(forecasts: Sequence[Forecast], free_bytes: float) -> str:
    """All cells together, in one line."""
    running = [one for one in forecasts if one.state == "to run"]
    known = [one for one in running if one.encode_s is not None and one.train_s is not None]
    seconds = sum((one.encode_s or 0.0) + (one.train_s or 0.0) for one in known)
    unknown = "" if len(known) == len(running) else f" and {len(running) - len(known)} cells more"
    disk = sum(one.disk_bytes for one in running)
    fits = "" if disk <= free_bytes else ": IT DOES NOT FIT"
    room = f" ({readable_bytes(free_bytes)} free{fits})" if math.isfinite(free_bytes) else ""
    return (
        f"{len(running)} of {len(forecasts)} cells to run: {sum(one.views for one in running)} views to encode, "
        f"{readable_bytes(disk)} of features{room}, "
        f"about {_duration(seconds)}{unknown}, measured on {_PROBED} clips each"
    )


def _seconds_a_view(cell: MatrixCell, clips: Sequence[Clip], reading: Reading) -> float | None:
    """Seconds from file to features, by a few clips; the first ones warm up."""
    from core_encoder.features.failures import Failure
    from core_encoder.features.feature_source import FeatureSource

    assert cell.spec is not None
    source = FeatureSource(cell.encoder, cell.spec, reading.root / ".forecast", num_workers=reading.workers)
    views, seconds = 0, 0.0
    for part in ([clips[0]], clips[-_PROBED:]):
        started = time.perf_counter()
        try:
            found = source.records(part)
        except InputError:
            return None
        seconds = time.perf_counter() - started
        views = sum(len(one) for one in found if not isinstance(one, Failure))
    return seconds / views if views else None


def _training_s(cell: MatrixCell, task: Task, reading: Reading) -> float | None:
    """Seconds of all steps, by one on a few examples; it is rough, for batches are larger."""
    from adapters.context import Context
    from adapters.features import ClipFeatures, ids_of
    from adapters.registry import adapter_kind
    from adapters.training.grid import resolve_settings
    from core_encoder.features.feature_source import FeatureSource

    if cell.how != "trained":
        return 0.0
    assert cell.spec is not None
    kind = adapter_kind(cell.adapter)
    try:
        train = with_some_kept(cell, task, None).samples("train")
        some = train[:_PROBED]
        source = FeatureSource(cell.encoder, cell.spec, reading.root, num_workers=reading.workers)
        data = ClipFeatures(
            source,
            [one.clip for one in some],
            task.targets(some),
            [one.id for one in some],
            [task.inputs(one) for one in some],
            whole_clips=kind.reads_whole_clips,
        )
        options = {**cell.head, **kind.options_for(task.schema)}
        settings = resolve_settings(kind, options, cell.options.training, cell.grid)
        context = Context(cell.encoder.dim, task.schema, cell.spec, encoder_source=cell.source)
        head = kind.build(settings[0].head, context).to(cell.encoder.device)
        head.calibrate(data)
        batch = head.collate([data[place] for place in range(min(len(data), 2 * _PROBED))]).to(head.device)
        seconds = math.inf
        for _ in range(2):
            started = time.perf_counter()
            head.loss(batch).value.backward()
            seconds = min(seconds, time.perf_counter() - started)
    except Exception:  # whatever is wrong with the cell is said when it runs
        return None
    examples = len(train) * len(ids_of(data)) / len(some)
    return seconds / len(batch) * examples * cell.options.training.epochs * len(settings)


def _duration(seconds: float | None) -> str:
    """`40 s`, `12 min`, `3.5 h`, `2.1 d`."""
    if seconds is None:
        return "?"
    for unit, size in (("d", 86_400), ("h", 3_600)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{math.ceil(seconds)} s"
