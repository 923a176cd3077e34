"""The matrix: encoder x benchmark x adapter, cell by cell; only what is missing is run, and every end is a row.

    cells of one data set and clip plan -> encode what they miss in one pass -> each: train, answer, judge, write

A finished cell is one JSON file, written last; whatever ends a run, the cell that was running is all that is lost.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from adapters.training.training_config import TrainingDiverged
from benchmarks.cell import Cell, CellFeatures, answer_samples, cell_features, data_sets, readable_features, train_once
from benchmarks.cost import Stopwatch, peak_memory_bytes, reset_peak_memory
from benchmarks.encoding import Reading, Watch, encode_missing
from benchmarks.matrix_cells import MatrixCell, digest
from benchmarks.prediction_log import prediction_log
from benchmarks.results import Cost, Provenance, Result, State
from benchmarks.words import answer_in_words
from core_encoder.errors import InputError, one_line
from core_encoder.files.storage import locked, writing_to
from tasks.benchmark import Benchmark
from tasks.readers.dataset_folder import MissingData
from tasks.splits import with_validation
from tasks.task import Task

if TYPE_CHECKING:
    from adapters.predictions import Prediction
    from core_encoder.clip_plan import Clip
    from core_encoder.extraction import ExtractionReport
    from core_encoder.features.failures import Failure
    from core_encoder.features.feature_spec import FeatureSpec
    from tasks.sample import Sample

log = logging.getLogger(__name__)


class OpenTasks:
    """The tasks of benchmarks below one folder, each read once, or why it cannot be."""

    def __init__(self, data_root: str | os.PathLike[str]) -> None:
        self._root = data_root
        self._known: dict[str, Task | InputError] = {}

    def __call__(self, benchmark: Benchmark) -> Task:
        """The task of a benchmark.

        Raises:
            MissingData: its folder, an annotation file, or every video to be judged is not there.
            InputError: its files cannot be read.
        """
        if benchmark.name not in self._known:
            try:
                self._known[benchmark.name] = self._open(benchmark)
            except InputError as error:
                self._known[benchmark.name] = error
        found = self._known[benchmark.name]
        if isinstance(found, InputError):
            raise found
        return found

    def _open(self, benchmark: Benchmark) -> Task:
        task = benchmark.open(benchmark.folder_in(self._root))
        for split in ("train", "val", "test"):
            if split not in task.splits:
                continue
            paths = dict.fromkeys(sample.clip.path for sample in task.samples(split))
            if not any(os.path.exists(path) for path in paths):  # noqa: PTH110 (a Path raises on names too long)
                first = one_line(next(iter(paths), "none is named"))
                raise MissingData(f"none of the {len(paths)} videos of the {split} split is there; the first: {first}")
        return task


@dataclass(frozen=True)
class Batch:
    """Cells whose videos are encoded together, and what became of it: None where each cell sees to its own."""

    cells: Sequence[MatrixCell]
    reports: Sequence[ExtractionReport] | None = None

    @property
    def encode_s(self) -> float:
        return sum(report.elapsed_s for report in self.reports or () if report.n_encoded)

    @property
    def encoded(self) -> int:
        return sum(report.n_encoded for report in self.reports or ())

    def report_of(self, clips: Iterable[Clip]) -> ExtractionReport:
        """The part of the reports that is about some clips."""
        assert self.reports
        own = set(clips)
        failures = {failure.clip: failure for report in self.reports for failure in report.failures}
        return replace(self.reports[0], failures=tuple(one for clip, one in failures.items() if clip in own))


def run_matrix(
    cells: Sequence[MatrixCell],
    reading: Reading,
    watch: Watch,
    about: Mapping[str, Any] | None = None,
) -> Iterator[Result]:
    """Run the cells that have no result yet, and yield the result of each as it is there; none stops the others.

    Args:
        cells: those of one batch one after the other, as `distinct_cells` orders them.
        about: `config` and `command` of the results.

    Raises:
        KeyboardInterrupt: Ctrl-C; what was finished stays.
    """
    about = dict(about or {})
    tasks = OpenTasks(cells[0].options.data_root) if cells else None
    number = 0
    for several in _batches(cells):
        assert tasks is not None
        missing = [cell for cell in several if finished(cell, tasks) is None]
        batch = Batch(several, _encode_together(missing, tasks, reading, watch)) if missing else Batch(several)
        for cell in several:
            number += 1
            if (result := finished(cell, tasks)) is None:
                watch.note(f"[{number} of {len(cells)}] {cell.name}")
                result = _run_alone(cell, batch, tasks, reading, watch, about)
            yield result


def finished(cell: MatrixCell, tasks: OpenTasks) -> Result | None:
    """The result of a cell that was run on this very data; None where it is to be run."""
    result = recorded(cell)
    if result is None or result.state != "done" or not cell.predictions_path.is_file():
        return None
    try:
        return result if result.identity == identity(cell, tasks(cell.benchmark)) else None
    except MissingData:  # moved away since; what was measured stays true
        return result
    except InputError:
        return None


def recorded(cell: MatrixCell) -> Result | None:
    """What the file of a cell says, a failure too; None where there is none that can be read."""
    try:
        return Result.read(cell.path) if cell.path.is_file() else None
    except InputError as error:
        log.warning("%s; the cell is run again", error)
        return None


def identity(cell: MatrixCell, task: Task) -> str:
    """The sha256 of all that decides the scores of a cell: settings, encoder, protocol and data."""
    return digest(
        {
            **cell.settings,
            "seed": cell.seed if cell.how == "trained" else 0,
            "encoder": cell.encoder.fingerprint,
            "protocol": task.protocol,
            "metrics": list(task.metrics),
            "options": cell.benchmark.options,
            "data": {split: task.digest(split) for split in cell.splits},
        }
    )


def _batches(cells: Sequence[MatrixCell]) -> Iterator[list[MatrixCell]]:
    several: list[MatrixCell] = []
    for cell in cells:
        if several and cell.batch != several[0].batch:
            yield several
            several = []
        several.append(cell)
    if several:
        yield several


def _encode_together(
    cells: Sequence[MatrixCell], tasks: OpenTasks, reading: Reading, watch: Watch
) -> Sequence[ExtractionReport] | None:
    """Encode what the cells of a batch miss, every clip once in all kinds that they read of it."""
    wanted: dict[Clip, dict[FeatureSpec, None]] = {}
    for cell in cells:
        try:
            task = tasks(cell.benchmark)
        except InputError:
            continue  # the cell says so itself
        for split in cell.splits:
            for sample in task.samples(split):
                if cell.spec is not None:
                    wanted.setdefault(sample.clip, {})[cell.spec] = None
    together: dict[tuple[FeatureSpec, ...], list[Clip]] = {}
    for clip, specs in wanted.items():
        together.setdefault(tuple(sorted(specs, key=lambda one: one.folder_name)), []).append(clip)
    try:
        return [
            encode_missing(cells[0].encoder, clips, specs, reading, watch) for specs, clips in together.items()
        ] or None
    except InputError as error:
        watch.note(f"note: not encoded together ({error}); each cell tries for itself")
        return None


def _run_alone(
    cell: MatrixCell, batch: Batch, tasks: OpenTasks, reading: Reading, watch: Watch, about: Mapping[str, Any]
) -> Result:
    """Run a cell while no other process does, and write how it ended.

    Raises:
        KeyboardInterrupt: Ctrl-C.
    """
    try:
        with writing_to(cell.run_folder), locked(cell.run_folder, wait=False):
            if (result := finished(cell, tasks)) is not None:  # another process was faster
                return result
            result = _run(cell, batch, tasks, reading, watch, about)
            result.write(cell.path)
            if result.state == "done":
                shutil.rmtree(cell.run_folder, ignore_errors=True)
            return result
    except BlockingIOError:
        return _unscored(cell, "failed", "another process is running it", about)


def _run(
    cell: MatrixCell, batch: Batch, tasks: OpenTasks, reading: Reading, watch: Watch, about: Mapping[str, Any]
) -> Result:
    """How a cell ends: with scores, or with the reason why not."""
    state: State = "failed"
    try:
        if cell.problem:
            raise InputError(cell.problem)
        return _score(cell, batch, tasks(cell.benchmark), reading, watch, about)
    except MissingData as error:
        state, reason = "no data", str(error)
    except (InputError, TrainingDiverged) as error:
        reason = str(error)
    except Exception as error:  # a cell may fail in any way; the others must not suffer
        reason = f"{type(error).__name__}: {' '.join(str(error).split()) or 'no reason given'}"
        if os.environ.get("PRISMHUB_DEBUG"):
            log.exception("%s", cell.name)
    watch.note(f"note: {cell.name}: {state}: {reason}")
    return _unscored(cell, state, reason, about)


def _score(
    cell: MatrixCell, batch: Batch, task: Task, reading: Reading, watch: Watch, about: Mapping[str, Any]
) -> Result:
    """Train, answer and judge a cell."""
    assert cell.spec is not None
    reset_peak_memory()
    clock = Stopwatch()
    known = identity(cell, task)
    if cell.how == "trained":
        task = with_some_kept(cell, task, watch)
    splits = [split for split in ("train", "val", "test") if split in task.splits and split in (*cell.splits, "val")]
    if cell.how != "trained":
        splits = ["test"]
    least = cell.options.max_unreadable
    if batch.reports is None:
        with clock.measure("encode"):
            features = cell_features(task, splits, cell.encoder, cell.spec, reading, watch, least)
    else:
        report = batch.report_of(sample.clip for split in splits for sample in task.samples(split))
        features = readable_features(task, splits, cell.encoder, cell.spec, reading, report, least)
    trained = None
    if cell.how == "trained":
        with clock.measure("train"):
            trained = _train(cell, task, features, watch)
    samples = features.samples["test"]
    with clock.measure("predict"):
        answers = _answers(cell, trained, task, samples, features, watch)
        predictions = list(_logged(cell, task, samples, answers))
    failed = {failure.clip: failure.reason for failure in features.report.failures}
    with clock.measure("judge"):
        scores = task.judge(predictions, "test", seed=cell.seed)
    names = trained.label_names if trained is not None else task.label_names
    memory, gpu_memory = peak_memory_bytes()
    result = Result.of(
        scores,
        reasons={one.id: failed[one.clip] for one in task.samples("test") if one.clip in failed},
        suite=cell.benchmark.suite,
        split="test",
        protocol=task.protocol,
        data_digest=task.digest("test"),
        label_names=list(names),
        clip_plan=cell.spec.plan.describe(),
        identity=known,
        digests=digests(task, cell.how == "words" or cell.saved is not None),
        provenance=Provenance.collect(
            decoder=cell.spec.decoder,
            device=cell.encoder.device.type,
            precision=cell.spec.precision,
            seed=cell.seed,
        ),
        cost=Cost(
            encode_s=round(batch.encode_s or clock.seconds.get("encode", 0.0), 3),
            encoded=batch.encoded or (features.report.n_encoded if batch.reports is None else 0),
            train_s=round(clock.seconds.get("train", 0.0), 3),
            predict_s=round(clock.seconds["predict"], 3),
            judge_s=round(clock.seconds["judge"], 3),
            peak_memory_bytes=memory,
            peak_gpu_bytes=gpu_memory,
            parameters=sum(tensor.numel() for tensor in trained.saved_state().values()) if trained else None,
        ),
        **_names(cell, about),
    )
    if trained is not None:
        trained.info = replace(trained.info, evaluations=(result.as_scores(),))
        trained.save_pretrained(cell.adapter_folder)
    return result


def with_some_kept(cell: MatrixCell, task: Task, watch: Watch | None) -> Task:
    """The task with some of train kept apart to choose epochs and settings by, where it has no val split."""
    try:
        return with_validation(task, cell.options.val_fraction)
    except InputError as error:
        if watch is not None:
            watch.note(f"note: {cell.benchmark.name}: nothing of train is kept apart ({error}); the last epoch counts")
        return task


def _train(cell: MatrixCell, task: Task, features: CellFeatures, watch: Watch) -> Any:
    """The head of a cell, trained; a training that was cut off goes on."""
    from adapters.card import AdapterInfo
    from adapters.registry import adapter_kind

    kind = adapter_kind(cell.adapter)
    drawn = {"split_seed": 0, "val_fraction": cell.options.val_fraction}
    one = Cell(
        name=cell.path.stem,
        task=task,
        kind=kind,
        head={**cell.head, **kind.options_for(task.schema)},
        training=cell.options.training,
        grid=cell.grid,
        max_unreadable=cell.options.max_unreadable,
        record={**drawn, **task.record},
    )
    one.check()
    info = AdapterInfo(
        encoder_source=cell.source,
        features=features.spec,
        task=task.family,
        dataset=task.name,
        card=task.card,
        seed=cell.seed,
    )
    adapter = train_once(one, data_sets(one, features), info, cell.run_folder, cell.seed, watch).best
    record = {"data_digest": task.digest("train"), **one.record}
    adapter.info = replace(adapter.info, training=adapter.info.training | record)
    return adapter.to(cell.encoder.device)


def _answers(
    cell: MatrixCell, trained: Any, task: Task, samples: Sequence[Sample], features: CellFeatures, watch: Watch
) -> Iterator[Prediction]:
    """What is said of each sample, as it is asked for."""
    if cell.how == "trained":
        return answer_samples(trained, task, samples, features.source, watch)
    adapter = None
    if cell.saved is not None:
        from adapters.registry import load_adapter

        adapter = load_adapter(cell.adapter, cell.encoder, device=str(cell.encoder.device))
        if not cell.benchmark.zero_shot:
            return answer_samples(adapter, task, samples, features.source, watch)
    return answer_in_words(cell.encoder, adapter, task, samples, features.source, watch)


def _logged(
    cell: MatrixCell, task: Task, samples: Sequence[Sample], answers: Iterator[Prediction]
) -> Iterator[Prediction]:
    """The answers, each on the disk before the next is asked for."""
    by_id = {sample.id: sample for sample in samples}
    with prediction_log(cell.predictions_path) as write:
        for answer in answers:
            write(answer, task.describe_target(by_id[answer.sample_id]))
            yield answer


def digests(task: Task, in_words: bool) -> dict[str, str]:
    """The sha256 of the ids that are judged, of the class names, and of what an answer in words is asked with."""
    found = {"ids": digest(sorted(sample.id for sample in task.samples("test")))}
    if task.label_names:
        found["class_names"] = digest(list(task.label_names))
    record = task.record if in_words else {}
    return found | {
        "prompts": value for name, value in record.items() if name.endswith("_sha256") and isinstance(value, str)
    }


def _names(cell: MatrixCell, about: Mapping[str, Any]) -> dict[str, Any]:
    """What every result says of its cell."""
    config = {**about.get("config", {}), "cell": cell.settings}
    return {
        "task": cell.benchmark.name,
        "adapter": cell.adapter,
        "encoder": cell.encoder.name,
        "encoder_fingerprint": cell.encoder.fingerprint,
        "config": config,
        "command": about.get("command"),
    }


def _unscored(cell: MatrixCell, state: State, reason: str, about: Mapping[str, Any]) -> Result:
    """The result of a cell that has no scores."""
    return Result(
        suite=cell.benchmark.suite,
        split="test",
        protocol=cell.benchmark.protocol,
        data_digest="",
        label_names=[],
        main_metric=cell.benchmark.metric,
        scores={},
        n_evaluated=0,
        n_total=0,
        state=state,
        reason=reason,
        provenance=Provenance.collect(seed=cell.seed),
        **_names(cell, about),
    )
