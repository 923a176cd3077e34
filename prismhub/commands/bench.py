"""`prismhub bench` and `prismhub rescore`: the matrix of encoders, benchmarks and adapters."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import typer

from adapters.training.training_config import TrainingConfig
from core_encoder.cluster.cluster_settings import ClusterSettings
from core_encoder.config import group, option, parse_grid
from core_encoder.errors import InputError
from core_encoder.files.storage import nearest
from prismhub.heads import head_assignments, portable_head, portable_source
from prismhub.printing import print_json, print_table
from prismhub.progress import SILENT, Show
from prismhub.provenance import run_command, settings_record
from prismhub.settings import OutputSettings, ReadingSettings, at_least_one

if TYPE_CHECKING:
    from benchmarks.forecast import Forecast
    from benchmarks.matrix_cells import AdapterChoice, Column, MatrixCell
    from benchmarks.rescoring import Rejudged
    from benchmarks.results import Result
    from tasks.benchmark import Benchmark

FAILED_ITEMS = 3
ALL = "all"


@dataclass(frozen=True, kw_only=True)
class BenchSettings:
    """Options of `prismhub bench`."""

    suite: tuple[str, ...] = option((), "Suites of benchmarks, or all (`prismhub tasks list` shows them).", alone=True)
    task: tuple[str, ...] = option((), "Single benchmarks beside them, by name or YAML file.", alone=True)
    encoder: tuple[str, ...] = option(
        help="Bundled name, Hub id, checkpoint folder or Flax .npz file; several make columns.", alone=True
    )
    adapter: tuple[str, ...] = option(
        (), "Kinds to train, or saved adapters; each where it fits (default: each benchmark's own head).", alone=True
    )
    data_root: Path = option(help="Folder of all data sets, each in the folder of its name.")
    output: Path = option(Path("results"), "Folder of the results; what is finished there is not run again.")
    head: tuple[str, ...] = option((), "Options of the heads, as key=value ...; each for the kinds that have it.")
    grid: tuple[str, ...] = option((), "Settings trained side by side, as key=value,value ...; the best is kept.")
    training: TrainingConfig = group()
    seeds: int = option(1, "Train so many times with seeds from --seed on, each a cell of its own.")
    val_fraction: float = option(
        0.1, "Share of train kept apart to choose epochs and settings by, where a benchmark has no val split."
    )
    max_unreadable: float = option(0.1, "A cell fails when a larger share of its videos cannot be read.")
    num_frames: int | None = option(None, "Frames per view (default: the encoder's).")
    feature_dtype: Literal["fp32", "fp16", "bf16", "int8"] = option("fp16", "Precision of stored features.")
    decoder: Literal["auto", "decord", "pyav"] = option("auto", "Video decoder; part of the cache key.")
    encoder_dtype: Literal["fp32", "bf16", "fp16"] = option("fp32", "Precision the encoder runs in.")
    reading: ReadingSettings = group()
    cluster: ClusterSettings = group()
    shard: str = option("1/1", "Run part i of n, as in 2/4: machines that share the output folder do one each.")
    dry_run: bool = option(False, "Only say what is to be done: clips, disk, and about how long.")
    show: OutputSettings = group()

    def __post_init__(self) -> None:
        at_least_one(self, "seeds", "num_frames")
        for name in ("val_fraction", "max_unreadable"):
            if not 0 <= (value := getattr(self, name)) <= 1:
                raise InputError(f"{name} is a share from 0 to 1, not {value:g}")
        if not self.suite and not self.task:
            raise InputError("give suite, as in --suite videoglue, or task, as in --task kinetics400")
        self.part  # noqa: B018 (refuses what is no part)

    @property
    def part(self) -> tuple[int, int]:
        """The shard as numbers: i of n, from 1.

        Raises:
            InputError: it is none.
        """
        found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", self.shard)
        if found is None or not 1 <= int(found[1]) <= int(found[2]):
            raise InputError(f"shard must be i/n with i from 1 to n, as in 2/4, not {self.shard!r}")
        return int(found[1]), int(found[2])


@dataclass(frozen=True)
class Benched:
    """The matrix: its columns, the benchmarks, and every result that is there, by its file."""

    columns: list[Column]
    benchmarks: list[Benchmark]
    results: dict[Path, Result]

    @property
    def failed(self) -> list[Result]:
        """The cells that could not be run though their data is there."""
        return [one for one in self.results.values() if one.state == "failed"]

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Column titles and rows of text."""
        from benchmarks.matrix_table import table_of

        return table_of(self.columns, self.benchmarks, self.results)

    def describe(self) -> dict[str, Any]:
        """All of it, ready for JSON."""
        from benchmarks.matrix_table import averages

        cells = [{"file": str(path), **asdict(result)} for path, result in self.results.items()]
        return {
            "cells": cells,
            "averages": [asdict(one) for one in averages(self.columns, self.benchmarks, self.results)],
        }


def bench(settings: BenchSettings, show: Show = SILENT) -> Benched | list[Forecast]:
    """Run the cells of a matrix that have no result yet; a dry run says what they will take instead.

    Raises:
        InputError: a suite, benchmark, encoder, adapter or option is unknown, or there is no data of any benchmark.
    """
    settings.cluster.check()
    matrix = open_matrix(settings)
    from prismhub.features import reading_of

    reading = reading_of(settings.reading)
    if settings.dry_run:
        from benchmarks.forecast import forecast

        return forecast(matrix.own, reading, show)
    from benchmarks.matrix import recorded, run_matrix

    root = settings.data_root.expanduser()
    places = {"data_root": str(root.absolute()), "task": [_from_anywhere(name) for name in settings.task]}
    about = settings_record(settings) | places, run_command()
    on_ray = settings.cluster.on_ray
    found = _on_cluster(settings, matrix.own, show, about) if on_ray else run_matrix(matrix.own, reading, show, *about)
    results = dict(zip((cell.path for cell in matrix.own), found, strict=True))
    for cell in matrix.cells:  # what other shards have done by now
        if cell.path not in results and (result := recorded(cell)) is not None:
            results[cell.path] = result
    return Benched(matrix.columns, matrix.benchmarks, results)


@dataclass(frozen=True)
class Matrix:
    """A matrix that is open: its columns, its distinct cells, and those of this shard."""

    benchmarks: list[Benchmark]
    columns: list[Column]
    cells: list[MatrixCell]
    own: list[MatrixCell]


def open_matrix(settings: BenchSettings) -> Matrix:
    """The matrix that the settings ask for, with its encoders in memory.

    Raises:
        InputError: as `bench`.
    """
    benchmarks = find_benchmarks(settings.suite, settings.task)
    root = settings.data_root.expanduser()
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; put the data sets there, each in the folder of its name")
    if settings.output.exists() and not settings.output.is_dir():
        raise InputError(f"{settings.output}: is a file; --output wants a folder")
    check_data_root(benchmarks, root)
    head, grid = portable_head(head_assignments(settings.head)), parse_grid(settings.grid)
    choices = adapter_choices(settings.adapter)
    check_encoders(settings.encoder)

    from benchmarks.matrix_cells import MatrixOptions, check_options, distinct_cells, matrix_columns, shard_of
    from prismhub.features import open_encoder

    options = MatrixOptions(
        data_root=root,
        output=settings.output,
        head=head,
        grid=grid,
        training=settings.training,
        seeds=settings.seeds,
        val_fraction=settings.val_fraction,
        max_unreadable=settings.max_unreadable,
        num_frames=settings.num_frames,
        feature_dtype=settings.feature_dtype,
        decoder=settings.decoder,
    )
    check_options(choices, benchmarks, options)
    encoders = [
        (portable_source(source), open_encoder(source, settings.training.accelerator, settings.encoder_dtype))
        for source in settings.encoder
    ]
    columns = matrix_columns(encoders, benchmarks, choices, options)
    cells = distinct_cells(columns)
    return Matrix(benchmarks, columns, cells, shard_of(cells, settings.part))


def _on_cluster(
    settings: BenchSettings, cells: Sequence[MatrixCell], show: Show, about: tuple[dict[str, Any], str | None]
) -> Iterator[Result]:
    """Encode what the cells miss on a cluster, then run each there; results in the order of the cells."""
    from benchmarks.matrix import OpenTasks, encode_together, finished
    from benchmarks.scoring import cell_fields, without_scores
    from core_encoder.cluster.actor_calls import Gone
    from core_encoder.cluster.cluster_size import ClusterSize
    from core_encoder.cluster.jobs import run_jobs
    from core_encoder.cluster.ray_session import ray_session
    from prismhub.features import reading_of

    reading = reading_of(settings.reading, settings.cluster)
    tasks = OpenTasks(settings.data_root.expanduser())
    found = {cell.path: result for cell in cells if (result := finished(cell, tasks)) is not None}
    missing = {str(cell.path): cell for cell in cells if cell.path not in found}
    if not missing:
        yield from (found[cell.path] for cell in cells)
        return
    with ray_session(settings.cluster, show.note) as ray, show.bar("cells") as bar:
        for _, group in itertools.groupby(missing.values(), key=lambda cell: cell.batch):
            encode_together(list(group), tasks, reading, show)
        size = ClusterSize.of(ray, settings.cluster)
        given = (ray.put((replace(settings, cluster=ClusterSettings()), os.getcwd(), about)),)  # noqa: PTH109
        tell = lambda workers: bar.update(len(found), len(cells), f"{workers} workers")  # noqa: E731
        done = run_jobs(
            ray,
            CellWorker,
            given,
            list(missing),
            count=min(size.encoding, len(missing)),
            num_cpus=size.num_cpus,
            num_gpus=size.num_gpus,
            tick=tell,
        )
        for path, result in done:
            cell = missing[path]
            if isinstance(result, Gone):
                reason = f"three processes died of it: {result.reason[:200]}"
                result = without_scores(cell, "failed", reason, cell_fields(cell, *about))
                result.write(cell.path)
            found[cell.path] = result
            show.note(f"[{len(found)} of {len(cells)}] {cell.name}: {result.state} {result.reason or ''}".rstrip())
    for cell in cells:
        yield found[cell.path]


class CellWorker:
    """Runs cells of a matrix in a process of a cluster; what they miss was encoded before."""

    def __init__(self, given: tuple[BenchSettings, str, tuple[dict[str, Any], str | None]]) -> None:
        self._settings, self._folder, self._about = given

    def ready(self) -> None:
        """Open the matrix.

        Raises:
            InputError: the data or the encoders are not on this machine.
        """
        from core_encoder.cluster.workers import enter

        enter(self._folder)
        self._settings.reading.apply()
        self._cells = {str(cell.path): cell for cell in open_matrix(self._settings).own}

    def run(self, path: str) -> Result:
        """Run the cell of a result's file, and write that."""
        from benchmarks.matrix import run_matrix
        from prismhub.features import reading_of

        return next(run_matrix([self._cells[path]], reading_of(self._settings.reading), SILENT, *self._about))


def _from_anywhere(task: str) -> str:
    """The name of a benchmark, or the whole path of its YAML file: `rescore` may be run in another folder."""
    file = Path(task).expanduser()
    return str(file.absolute()) if file.is_file() else task


def find_benchmarks(suites: Sequence[str], names: Sequence[str]) -> list[Benchmark]:
    """The benchmarks of suites and those named beside them, each once.

    Raises:
        InputError: an unknown suite or benchmark, or two benchmarks of one name.
    """
    from tasks.catalog import SUITES
    from tasks.registry import find_benchmark

    wanted: list[str] = []
    for suite in suites:
        if suite != ALL and suite not in SUITES:
            raise InputError(f"unknown suite {suite!r}{nearest(suite, [*SUITES, ALL])}")
        wanted += [name for one in (SUITES if suite == ALL else [suite]) for name in SUITES[one]]
    found = {source: find_benchmark(source) for source in dict.fromkeys([*wanted, *names])}
    by_name: dict[str, str] = {}
    for source, benchmark in found.items():
        if by_name.setdefault(benchmark.name, source) != source:
            raise InputError(f"{source}: a benchmark called {benchmark.name!r} is in this matrix already")
    return list(found.values())


def check_data_root(benchmarks: Sequence[Benchmark], root: Path) -> None:
    """Refuse a folder with none of the data sets.

    Raises:
        InputError: the folders that were looked for.
    """
    folders = sorted({one.folder or one.name for one in benchmarks})
    if not any((root / name).is_dir() for name in folders):
        raise InputError(f"{root}: holds none of the folders {', '.join(folders)}; put the data sets there")


def check_encoders(sources: Sequence[str]) -> None:
    """Refuse encoders that are known not to be there, or that come twice.

    Raises:
        InputError: which one.
    """
    from core_encoder.models.known_encoders import encoder_path

    for source in sources:
        encoder_path(source)
        if sources.count(source) > 1:
            raise InputError(f"encoder {source!r} is named twice")


def adapter_choices(names: Sequence[str]) -> list[AdapterChoice]:
    """Kinds of adapters by name, and saved adapters with what they record.

    Raises:
        InputError: it is neither, or comes twice.
    """
    from adapters.registry import adapter_kinds, describe_adapter
    from benchmarks.matrix_cells import AdapterChoice

    kinds, found = adapter_kinds(), []
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"adapter {name!r} is named twice")
        if name in kinds:
            found.append(AdapterChoice(name))
            continue
        try:
            info = describe_adapter(name)
        except InputError as error:
            raise InputError(f"adapter {name!r} is no kind{nearest(name, kinds)}; nor a saved one: {error}") from error
        found.append(AdapterChoice(portable_source(name), info))
    return found


def print_bench(settings: BenchSettings) -> None:
    """Run benchmarks on encoders, cell by cell; what is finished is kept, the same command goes on.

    Example: prismhub bench --suite videoglue --encoder nano --data-root data/ --output results/
    """
    done = bench(settings, Show(settings.show.quiet))
    if isinstance(done, list):
        _print_forecast(done, settings)
        return
    if settings.show.json:
        print_json(done.describe())
    else:
        from benchmarks.matrix_table import reasons

        print_table(*done.table())
        print("\n".join([*reasons(done.columns, done.results), f"results in {settings.output}"]))
    if done.failed:
        raise typer.Exit(FAILED_ITEMS)


def _print_forecast(found: Sequence[Forecast], settings: BenchSettings) -> None:
    from benchmarks.forecast import FORECAST_HEADER, total_line
    from core_encoder.features.shard_folder import shard_folder
    from prismhub.features import reading_of

    if settings.show.json:
        print_json([asdict(one) for one in found])
        return
    print_table(FORECAST_HEADER, [one.row() for one in found])
    for one in found:
        if one.reason:
            print(f"{one.cell}: {one.state}: {one.reason}")
    print(total_line(found, shard_folder(reading_of(settings.reading).root).free_bytes()))


@dataclass(frozen=True, kw_only=True)
class RescoreSettings:
    """Options of `prismhub rescore`."""

    results: Path = option(help="Folder of results of `prismhub bench`.", positional=True)
    data_root: Path | None = option(None, "Folder of all data sets (default: where it was); no video is read.")
    ties: Literal["mean", "clip4clip"] | None = option(
        None, "Retrieval: how equal similarities rank (default: mean, as the benchmarks have it)."
    )
    output: Path | None = option(None, "Folder for the new results (default: in place).")
    show: OutputSettings = group()


def rescore(settings: RescoreSettings, show: Show = SILENT) -> list[Rejudged]:
    """Judge the predictions of finished cells again, and write their results; no model is run.

    Raises:
        InputError: there is no such folder, it holds no results, or a file in it is none.
    """
    from benchmarks.rescoring import rescore as judge_again

    if not settings.results.is_dir():
        raise InputError(f"{settings.results}: no such folder; give that of the results of `prismhub bench`")
    return list(judge_again(settings.results, show, settings.data_root, settings.ties, settings.output))


def print_rescore(settings: RescoreSettings) -> None:
    """Judge kept predictions again, by the metrics of this version or another tie rule, without running a model.

    Example: prismhub rescore results/ --ties clip4clip --output rescored/
    """
    found = rescore(settings, Show(settings.show.quiet))
    if settings.show.json:
        records = [asdict(one) for one in found]
        print_json([record | {"path": str(record["path"])} for record in records])
    else:
        header = ["benchmark", "encoder", "adapter", "metric", "before", "after", "protocol"]
        print_table(header, [_row(one) for one in found])
    if any(one.after is None for one in found):
        raise typer.Exit(FAILED_ITEMS)


def _row(one: Rejudged) -> list[str]:
    before, after = one.before, one.after
    cell = [before.task, before.encoder, before.adapter, before.main_metric, str(before.scores[before.main_metric])]
    if after is None:
        return [*cell, "-", one.reason]
    return [*cell, str(after.scores[after.main_metric]), after.protocol]
