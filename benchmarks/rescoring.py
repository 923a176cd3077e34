"""Judge the kept predictions of a matrix again: by another version of a metric or another rule; no model is run."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from benchmarks.encoding import Watch
from benchmarks.matrix_cells import identity, needed_splits
from benchmarks.prediction_log import read_predictions
from benchmarks.results import Provenance, Rescored, Result
from core_encoder.errors import InputError
from tasks.benchmark import Benchmark
from tasks.families.retrieval import RetrievalTask
from tasks.registry import find_benchmark
from tasks.task import Task

PREDICTIONS = ".predictions.jsonl"


@dataclass(frozen=True)
class Rejudged:
    """A cell before and after; where it could not be judged again, the `reason`."""

    path: Path
    before: Result
    after: Result | None = None
    reason: str = ""


def result_files(folder: Path) -> list[Path]:
    """The results below the folder of a matrix: a folder an encoder, in it one a benchmark."""
    return sorted(path for path in folder.glob("*/*/*.json") if not path.name.startswith("."))


def rescore(
    folder: Path,
    watch: Watch,
    data_root: Path | None = None,
    ties: Literal["mean", "clip4clip"] | None = None,
    output: Path | None = None,
) -> Iterator[Rejudged]:
    """Judge every finished cell below `folder` again, write its result, and yield it.

    Args:
        data_root: the folder of all data sets (default: where it was); annotations are read, videos are not.
        ties: how equal similarities rank in retrieval (default: as the benchmark has it).
        output: a folder for the new results, with copies of the predictions (default: in place).

    Raises:
        InputError: the folder holds no result, or a file in it is none.
    """
    files = result_files(folder)
    if not files:
        raise InputError(f"{folder}: holds no results of `prismhub bench`")
    opened: dict[tuple[str, Path], Task] = {}
    with watch.bar("judging") as bar:
        for place, path in enumerate(files):
            before = Result.read(path)
            bar.update(place, len(files), before.task)
            if before.state != "done":
                continue
            target = (output or folder) / path.relative_to(folder)
            try:
                after = _judged(path, before, data_root, ties, opened)
            except InputError as error:
                yield Rejudged(target, before, None, str(error))
                continue
            if output is not None:
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path.with_suffix(PREDICTIONS), target.with_suffix(PREDICTIONS))
            after.write(target)
            yield Rejudged(target, before, after)


def _judged(
    path: Path, before: Result, data_root: Path | None, ties: str | None, opened: dict[tuple[str, Path], Task]
) -> Result:
    """The result of a cell by the rules of today."""
    benchmark = benchmark_of(before)
    root = data_root or Path(str(before.config.get("data_root", "")))
    key = (benchmark.name, root)
    if key not in opened:
        opened[key] = benchmark.open(benchmark.folder_in(root))
    task = opened[key]
    if task.digest("test") != before.data_digest:
        raise InputError(f"the data of {benchmark.name} in {root} is not what was judged: run the cell again")
    settings = before.config["cell"]
    data = {split: task.digest(split) for split in needed_splits(settings["how"], benchmark)}
    seed = before.provenance.seed or 0
    known = identity(settings, before.encoder_fingerprint, seed, benchmark, task, data)
    if ties is not None and isinstance(task, RetrievalTask) and ties != task.ties:
        task = replace(task, ties=ties, protocol=f"{task.protocol}, ties: {ties}")  # type: ignore[arg-type]
    found = read_predictions(path.with_suffix(PREDICTIONS), before.label_names, task.schema.multi_label)
    scores = task.judge(found, "test", seed=seed)
    reasons = {one.id: one.reason for one in before.skipped}
    now = Provenance.collect()
    judged = Result.of(
        scores,
        reasons=reasons,
        **{name: getattr(before, name) for name in ("task", "split", "data_digest", "label_names", "adapter")},
        encoder=before.encoder,
        encoder_fingerprint=before.encoder_fingerprint,
        protocol=task.protocol,
        provenance=before.provenance,
    )
    return replace(
        before,
        protocol=judged.protocol,
        main_metric=judged.main_metric,
        scores=judged.scores,
        n_evaluated=judged.n_evaluated,
        n_total=judged.n_total,
        skipped=judged.skipped,
        identity=known,
        rescored=Rescored(
            created_utc=now.created_utc,
            prismhub=now.prismhub,
            commit=now.commit,
            protocol_before=before.protocol,
            score_before=before.scores[before.main_metric].value,
        ),
    )


def benchmark_of(result: Result) -> Benchmark:
    """The benchmark of a result: known by name, or from the YAML file that was given then.

    Raises:
        InputError: it is no longer known, and its file is gone.
    """
    try:
        return find_benchmark(result.task)
    except InputError:
        for source in result.config.get("task", ()):
            benchmark = find_benchmark(str(source))
            if benchmark.name == result.task:
                return benchmark
        raise
