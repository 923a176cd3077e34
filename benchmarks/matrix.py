"""The matrix: encoder x benchmark x adapter, cell by cell; only what is missing is run, and every end is a row.

    cells of one data set and clip plan -> encode what they miss in one pass -> each: train, answer, judge, write

A finished cell is one JSON file, written last; whatever ends a run, the cell that was running is all that is lost.
"""

from __future__ import annotations

import itertools
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters.training.training_config import TrainingDiverged
from benchmarks.cell import SPLITS, CellFeatures, cell_features, readable_features
from benchmarks.cost import reset_peak_memory
from benchmarks.encoding import Reading, Watch, encode_missing
from benchmarks.matrix_cells import MatrixCell, identity
from benchmarks.results import Result, State
from benchmarks.scoring import cell_fields, score_cell, with_some_kept, without_scores
from core_encoder.errors import InputError, one_line
from core_encoder.files.storage import locked, writing_to
from tasks.benchmark import Benchmark
from tasks.readers.dataset_folder import MissingData
from tasks.task import Task

if TYPE_CHECKING:
    from core_encoder.clip_plan import Clip
    from core_encoder.extraction import ExtractionReport
    from core_encoder.features.feature_spec import FeatureSpec

log = logging.getLogger(__name__)


class OpenTasks:
    """The tasks of benchmarks below one folder, each read once, or why it cannot be."""

    def __init__(self, data_root: str | Path) -> None:
        self._root = data_root
        self._known: dict[tuple[str, str], Task | str | InputError] = {}

    def __call__(self, cell: MatrixCell) -> Task:
        """The task of a cell, of which the splits that it needs were read.

        Raises:
            MissingData: the folder of its data, an annotation file, or every video of a split is not there.
            InputError: its files cannot be read.
        """
        self.digests(cell)
        return self._task(cell.benchmark)

    def digests(self, cell: MatrixCell) -> dict[str, str]:
        """The digest of each split that a cell needs.

        Raises:
            InputError: as in opening the task.
        """
        return {split: self._once((cell.benchmark.name, split), self._digest, cell, split) for split in cell.splits}

    def _task(self, benchmark: Benchmark) -> Task:
        return self._once((benchmark.name, ""), lambda one: one.open(one.folder_in(self._root)), benchmark)

    def _digest(self, cell: MatrixCell, split: str) -> str:
        task = self._task(cell.benchmark)
        paths = dict.fromkeys(sample.clip.path for sample in task.samples(split))
        if not any(os.path.exists(path) for path in paths):  # noqa: PTH110 (a Path raises on names too long)
            first = one_line(next(iter(paths), "none is named"))
            raise MissingData(f"none of the {len(paths)} videos of the {split} split is there; the first: {first}")
        return task.digest(split)

    def _once(self, key: tuple[str, str], make: Callable[..., Any], *given: Any) -> Any:
        """What `make` gives or raises, the same each time: a split may have a million samples."""
        if key not in self._known:
            try:
                self._known[key] = make(*given)
            except InputError as error:
                self._known[key] = error
            except Exception as error:  # a reader may fail in any way; the other benchmarks must not suffer
                self._known[key] = InputError(f"{key[0]} cannot be read: {_reason(error)}")
        found = self._known[key]
        if isinstance(found, InputError):
            raise found
        return found


@dataclass(frozen=True)
class Encoded:
    """What became of the clips of a batch: encoded together, or nothing yet, where each cell sees to its own."""

    reports: Sequence[ExtractionReport] = ()

    def features_of(self, cell: MatrixCell, task: Task, reading: Reading, watch: Watch) -> CellFeatures:
        """The features of a cell, encoded now where they were not.

        Raises:
            InputError: too many videos cannot be read, or the features do not fit on the disk.
        """
        assert cell.spec is not None
        wanted = SPLITS if cell.how == "trained" else ("test",)
        splits = [split for split in wanted if split in task.splits]
        about = (task, splits, cell.encoder, cell.spec, reading)
        if not self.reports:
            return cell_features(*about, watch, cell.options.max_unreadable)
        own = {sample.clip for split in splits for sample in task.samples(split)}
        failures = {failure.clip: failure for report in self.reports for failure in report.failures}
        mine = tuple(failure for clip, failure in failures.items() if clip in own)
        report = replace(
            self.reports[0],
            failures=mine,
            n_encoded=sum(one.n_encoded for one in self.reports),
            elapsed_s=sum(one.elapsed_s for one in self.reports if one.n_encoded),
        )
        return readable_features(*about, report, cell.options.max_unreadable)


def run_matrix(
    cells: Sequence[MatrixCell],
    reading: Reading,
    watch: Watch,
    config: Mapping[str, Any] | None = None,
    command: str | None = None,
) -> Iterator[Result]:
    """Run the cells that have no result yet, and yield the result of each as it is there; none stops the others.

    Args:
        cells: those of one batch one after the other, as `distinct_cells` orders them.
        config, command: what was asked for, for the results.

    Raises:
        KeyboardInterrupt: Ctrl-C; what was finished stays.
    """
    if not cells:
        return
    tasks, number = OpenTasks(cells[0].options.data_root), 0
    for _, group in itertools.groupby(cells, key=lambda cell: cell.batch):
        several = list(group)
        encoded: Encoded | None = None
        for place, cell in enumerate(several):
            number += 1
            result = finished(cell, tasks)
            if result is None:
                if encoded is None:
                    missing = [one for one in several[place:] if finished(one, tasks) is None]
                    encoded = encode_together(missing, tasks, reading, watch)
                watch.note(f"[{number} of {len(cells)}] {cell.name}")
                about = cell_fields(cell, config or {}, command)
                result = _run_alone(cell, encoded, tasks, reading, watch, about)
            elif cell.run_folder.exists():  # killed between the last two steps
                shutil.rmtree(cell.run_folder, ignore_errors=True)
            yield result


def finished(cell: MatrixCell, tasks: OpenTasks) -> Result | None:
    """The result of a cell that was run on this very data; None where it is to be run."""
    result = recorded(cell)
    if result is None or result.state != "done" or not cell.predictions_path.is_file():
        return None
    try:
        return result if result.identity == _identity(cell, tasks) else None
    except MissingData:  # moved away since; what was measured stays true
        return result
    except InputError as error:  # damaged since: no reason to lose what was measured
        log.warning("%s: its data cannot be read (%s); the score of before stays", cell.name, error)
        return result


def recorded(cell: MatrixCell) -> Result | None:
    """What the file of a cell says, a failure too; None where there is none that can be read."""
    try:
        return Result.read(cell.path) if cell.path.is_file() else None
    except InputError as error:
        log.warning("%s; the cell is run again", error)
        return None


def _identity(cell: MatrixCell, tasks: OpenTasks) -> str:
    """The sha256 of all that decides the scores of a cell: settings, encoder, protocol and data."""
    task, data = tasks(cell), tasks.digests(cell)
    return identity(cell.settings, cell.encoder.fingerprint, cell.seed, cell.benchmark, task, data)


def encode_together(cells: Sequence[MatrixCell], tasks: OpenTasks, reading: Reading, watch: Watch) -> Encoded:
    """Encode what the cells of a batch miss, every clip once in all kinds that they read of it."""
    wanted: dict[Clip, set[FeatureSpec]] = {}
    for cell in cells:
        try:
            task = tasks(cell)
            task.check_judging()
        except InputError:
            continue  # the cell says so itself
        for split in cell.splits:
            for sample in task.samples(split):
                if cell.spec is not None:
                    wanted.setdefault(sample.clip, set()).add(cell.spec)
    together: dict[tuple[FeatureSpec, ...], list[Clip]] = {}
    for clip, specs in wanted.items():
        together.setdefault(tuple(sorted(specs, key=lambda one: one.folder_name)), []).append(clip)
    try:
        encoder = cells[0].encoder
        return Encoded([encode_missing(encoder, clips, specs, reading, watch) for specs, clips in together.items()])
    except Exception as error:  # no room for all, or out of memory: some of them may still go
        watch.note(f"note: not encoded together ({_reason(error)}); each cell tries for itself")
        return Encoded()


def _run_alone(
    cell: MatrixCell, encoded: Encoded, tasks: OpenTasks, reading: Reading, watch: Watch, about: Mapping[str, Any]
) -> Result:
    """Run a cell while no other process does, and write how it ended.

    Raises:
        KeyboardInterrupt: Ctrl-C.
    """
    try:
        with writing_to(cell.run_folder), locked(cell.run_folder, wait=False):
            if (result := finished(cell, tasks)) is not None:  # another process was faster
                return result
            result = _run(cell, encoded, tasks, reading, watch, about)
            result.write(cell.path)
            if result.state == "done":
                shutil.rmtree(cell.run_folder, ignore_errors=True)
            elif not any(cell.run_folder.iterdir()):
                cell.run_folder.rmdir()
            return result
    except BlockingIOError:
        return without_scores(cell, "failed", "another process is running it", about)


def _run(
    cell: MatrixCell, encoded: Encoded, tasks: OpenTasks, reading: Reading, watch: Watch, about: Mapping[str, Any]
) -> Result:
    """How a cell ends: with scores, or with the reason why not."""
    state: State = "failed"
    reset_peak_memory()
    try:
        if cell.problem:
            raise InputError(cell.problem)
        tasks(cell).check_judging()
        task = with_some_kept(cell, tasks(cell), watch)
        features = encoded.features_of(cell, task, reading, watch)
        return score_cell(cell, task, features, watch, {**about, "identity": _identity(cell, tasks)})
    except MissingData as error:
        state, reason = "no data", str(error)
    except (InputError, TrainingDiverged) as error:
        reason = str(error)
    except Exception as error:  # a cell may fail in any way; the others must not suffer
        reason = _reason(error)
    watch.note(f"note: {cell.name}: {state}: {reason}")
    return without_scores(cell, state, reason, about)


def _reason(error: Exception) -> str:
    """An error in one line; PRISMHUB_DEBUG=1 shows where it came from."""
    if isinstance(error, InputError):
        return str(error)
    if os.environ.get("PRISMHUB_DEBUG"):
        log.error("%s", error, exc_info=error)
    return f"{type(error).__name__}: {' '.join(str(error).split()) or 'no reason given'}"
