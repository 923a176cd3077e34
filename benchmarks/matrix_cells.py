"""The cells of a matrix: which encoder, benchmark and adapter, with which seed; and how several machines share them.

A column of the matrix is an encoder with a choice of adapter, `own heads` where none was chosen. A chosen adapter that
does not fit a benchmark leaves it to the benchmark's own head, so that every column is whole.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from adapters.training.training_config import HOW_IT_RUNS, TrainingConfig
from core_encoder.clip_plan import ClipPlan
from core_encoder.config import convert_options
from core_encoder.errors import InputError
from core_encoder.files.storage import nearest, plain_name
from tasks.benchmark import Benchmark

if TYPE_CHECKING:
    from adapters.card import AdapterInfo
    from core_encoder.encoder import Encoder
    from core_encoder.features.feature_spec import FeatureSpec, StoredDtype
    from tasks.task import Task

How = Literal["trained", "saved", "words"]
OWN_HEADS, WORDS = "own heads", "words"


@dataclass(frozen=True)
class AdapterChoice:
    """An adapter for every benchmark that it fits: a kind that is trained, or a saved one with what it records."""

    name: str
    info: AdapterInfo | None = None

    def fits(self, benchmark: Benchmark) -> bool:
        """Whether it can answer a benchmark.

        A kind is trained where it learns what the benchmark's own head learns. A saved adapter of texts answers
        whatever is asked in words; one of classes, segments or boxes the benchmark that it was trained on.
        """
        from adapters.registry import target_kind

        if self.info is None:
            return not benchmark.zero_shot and target_kind(self.name) == target_kind(benchmark.head)
        learned = self.info.targets.kind
        if benchmark.zero_shot:
            return learned == "pairs"
        return learned == target_kind(benchmark.head) and (learned == "text" or self.info.dataset == benchmark.name)

    def reads(self, encoder: Encoder) -> bool:
        """Whether it reads the features of an encoder; a kind reads those of any."""
        features = self.info.features if self.info else None
        return features is None or features.fingerprint == encoder.fingerprint


@dataclass(frozen=True)
class MatrixOptions:
    """What holds for all cells: where data and results are, how heads are trained, how videos are encoded."""

    data_root: Path
    output: Path
    head: Mapping[str, Any] = field(default_factory=dict)
    grid: Sequence[Mapping[str, Any]] = ({},)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    seeds: int = 1
    val_fraction: float = 0.1
    max_unreadable: float = 0.1
    num_frames: int | None = None
    feature_dtype: StoredDtype = "fp16"
    decoder: str = "auto"


@dataclass(frozen=True)
class MatrixCell:
    """One cell: an encoder, given with its `source`, a benchmark, and who answers it.

    Where it cannot be run at all, `problem` says why, and there is no `spec` of features.
    """

    encoder: Encoder
    source: str
    benchmark: Benchmark
    how: How
    adapter: str  # a kind, the reference of a saved adapter, or WORDS
    options: MatrixOptions
    seed: int = 0
    head: Mapping[str, Any] = field(default_factory=dict)
    grid: Sequence[Mapping[str, Any]] = ({},)
    spec: FeatureSpec | None = None
    saved: AdapterInfo | None = None
    problem: str = ""

    @property
    def name(self) -> str:
        """What is said of it while it runs."""
        seed = f", seed {self.seed}" if self.options.seeds > 1 and self.how == "trained" else ""
        return f"{self.benchmark.name}, {self.encoder.name}, {self.adapter}{seed}"

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits whose videos it needs."""
        return needed_splits(self.how, self.benchmark)

    @property
    def settings(self) -> dict[str, Any]:
        """What decides its scores beside the encoder and the data, ready for JSON; the seed is apart."""
        decisive: dict[str, Any] = {"how": self.how, "adapter": self.adapter}
        if self.spec is not None:
            decisive |= {"plan": self.spec.plan.describe(), "dtype": self.spec.dtype, "precision": self.spec.precision}
        if self.saved is not None:
            decisive["weights"] = self.saved.weights_sha256
        if self.how == "trained":
            training = self.options.training
            left_out = (*HOW_IT_RUNS, "seed")
            decisive |= {"head": dict(self.head), "grid": [dict(one) for one in self.grid]}
            decisive["training"] = {
                one.name: value
                for one in fields(training)
                if one.name not in left_out and (value := getattr(training, one.name)) != one.default
            }
            decisive["val_fraction"] = self.options.val_fraction
        return decisive

    @property
    def path(self) -> Path:
        """Its result's file: other settings have another name."""
        encoder = f"{plain_name(self.encoder.name)[:60]}-{self.encoder.fingerprint[:8]}"
        seed = f"-s{self.seed}" if self.how == "trained" else ""
        stem = f"{plain_name(self.adapter)[:60]}-{digest(self.settings)[:8]}{seed}"
        return self.options.output / encoder / self.benchmark.name / f"{stem}.json"

    @property
    def predictions_path(self) -> Path:
        return self.path.with_suffix(".predictions.jsonl")

    @property
    def adapter_folder(self) -> Path:
        """Where the trained adapter is saved."""
        return self.path.with_suffix(".adapter")

    @property
    def run_folder(self) -> Path:
        """Where its training is kept until it is done."""
        return self.path.with_name(f".{self.path.stem}.run")

    @property
    def batch(self) -> tuple[Any, ...]:
        """Cells of one batch share videos and clip plan: their videos are encoded together."""
        if self.spec is None:
            return (self.encoder.fingerprint, self.problem)
        return (replace(self.spec, kind="tokens", layers=(), dtype="fp16"), folder_name(self.benchmark))


@dataclass(frozen=True)
class Column:
    """One column of the table: an encoder with a choice of adapter, and its cells by benchmark, one a seed."""

    encoder: str
    adapter: str
    cells: Mapping[str, tuple[MatrixCell, ...]]


def needed_splits(how: str, benchmark: Benchmark) -> tuple[str, ...]:
    """The splits of a benchmark that whoever answers it needs."""
    wanted = ("train", "val", "test") if how == "trained" else ("test",)
    return tuple(split for split in wanted if split in benchmark.splits)


def digest(value: Any) -> str:
    """The sha256 of a value of JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def identity(
    settings: Mapping[str, Any], encoder: str, seed: int, benchmark: Benchmark, task: Task, data: Mapping[str, str]
) -> str:
    """The sha256 of all that decides the scores of a cell: its settings, encoder, seed, protocol, and data by split."""
    return digest(
        {
            "settings": settings,
            "encoder": encoder,
            "seed": seed if settings["how"] == "trained" else 0,
            "protocol": task.protocol,
            "metrics": task.metrics,
            "options": benchmark.options,
            "data": data,
        }
    )


def folder_name(benchmark: Benchmark) -> str:
    """The folder of a benchmark's data set below the root of all."""
    return benchmark.folder or benchmark.name


def check_options(choices: Iterable[AdapterChoice], benchmarks: Iterable[Benchmark], options: MatrixOptions) -> None:
    """Refuse options of heads that no kind in the matrix has, and settings that a kind refuses.

    Raises:
        InputError: which option, and the nearest known one.
    """
    from adapters.registry import adapter_kind
    from adapters.training.grid import resolve_settings

    choices, benchmarks = list(choices), list(benchmarks)
    pairs = {(who, b.name): b for b in benchmarks for how, who, _ in _answerers(b, choices) if how == "trained"}
    known: set[str] = set()
    for (name, _), benchmark in pairs.items():
        kind = adapter_kind(name)
        known |= {one.name for one in fields(kind.Config)}
        head, grid = _head_for(name, benchmark, options)
        resolve_settings(kind, head, options.training, grid)
    trained = {one.name for one in fields(TrainingConfig)} if pairs else set()
    for given, has in ((options.head, known), ({k: 0 for one in options.grid for k in one}, known | trained)):
        for name in given:
            if name not in has:
                raise InputError(f"no head in this matrix has an option {name!r}{nearest(name, has)}")


def matrix_columns(
    encoders: Sequence[tuple[str, Encoder]],
    benchmarks: Sequence[Benchmark],
    choices: Sequence[AdapterChoice],
    options: MatrixOptions,
) -> list[Column]:
    """The columns of the matrix; cells that two columns share are equal.

    Raises:
        InputError: an option of a head is wrong, or a saved adapter belongs to none of the encoders.
    """
    columns = []
    for source, encoder in encoders:
        for own in [[one] for one in choices if one.reads(encoder)] if choices else [[]]:
            cells = {one.name: tuple(_cells(source, encoder, one, own, options)) for one in benchmarks}
            columns.append(Column(encoder.name, own[0].name if own else OWN_HEADS, cells))
    for choice in choices:
        if not any(column.adapter == choice.name for column in columns):
            of = choice.info.encoder if choice.info else ""
            raise InputError(f"adapter {choice.name!r} reads features of encoder {of!r}: name that encoder, too")
    return columns


def distinct_cells(columns: Iterable[Column]) -> list[MatrixCell]:
    """Every cell once, those of one batch one after the other."""
    found = {cell.path: cell for column in columns for several in column.cells.values() for cell in several}
    batches: dict[Any, list[MatrixCell]] = {}
    for cell in found.values():
        batches.setdefault(cell.batch, []).append(cell)
    return [cell for several in batches.values() for cell in several]


def shard_of(cells: Sequence[MatrixCell], shard: tuple[int, int]) -> list[MatrixCell]:
    """The cells of shard i of n, from 1: whole batches, shared out by the samples that their benchmarks declare.

    It is the same on every machine, whatever is finished already.
    """
    number, count = shard
    weights: dict[Any, int] = {}
    for cell in cells:
        weights[cell.batch] = weights.get(cell.batch, 0) + max(sum(cell.benchmark.sizes.values()), 1)
    loads, owner = [0] * count, {}
    for batch in sorted(weights, key=lambda one: -weights[one]):  # of equals in the order of the cells
        lightest = loads.index(min(loads))
        owner[batch] = lightest
        loads[lightest] += weights[batch]
    return [cell for cell in cells if owner[cell.batch] == number - 1]


def _answerers(benchmark: Benchmark, choices: Sequence[AdapterChoice]) -> list[tuple[How, str, AdapterInfo | None]]:
    """Who answers a benchmark: the choices that fit, else its own head, or the encoder's words."""
    fitting: list[tuple[How, str, AdapterInfo | None]] = [
        ("saved" if one.info else "trained", one.name, one.info) for one in choices if one.fits(benchmark)
    ]
    return fitting or [("words", WORDS, None) if benchmark.zero_shot else ("trained", benchmark.head, None)]


def _head_for(kind: str, benchmark: Benchmark, options: MatrixOptions) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The options of a head on a benchmark, and its grid: those that the kind has, over those of the benchmark."""
    from adapters.registry import adapter_kind

    config = adapter_kind(kind).Config
    own, trained = ({one.name for one in fields(of)} for of in (config, TrainingConfig))
    head = dict(benchmark.head_options) if kind == benchmark.head else {}
    head |= {name: value for name, value in options.head.items() if name in own}
    head = convert_options(config, head, kind)
    grid: list[dict[str, Any]] = []
    for setting in options.grid:
        mine = convert_options(config, {name: value for name, value in setting.items() if name in own}, "grid")
        rest = {name: value for name, value in setting.items() if name in trained}
        mine |= convert_options(TrainingConfig, rest, "grid")
        if mine not in grid:
            grid.append(mine)
    return head, grid


def _cells(
    source: str, encoder: Encoder, benchmark: Benchmark, choices: Sequence[AdapterChoice], options: MatrixOptions
) -> Iterable[MatrixCell]:
    for how, name, info in _answerers(benchmark, choices):
        cell = MatrixCell(encoder, source, benchmark, how, name, options, options.training.seed, saved=info)
        if how == "trained":
            head, grid = _head_for(name, benchmark, options)
            cell = replace(cell, head=head, grid=grid)
        try:
            cell = replace(cell, spec=_spec(cell))
        except InputError as error:  # an encoder without words, or of which the features cannot be had
            cell = replace(cell, problem=str(error))
        count = options.seeds if how == "trained" else 1
        yield from (replace(cell, seed=options.training.seed + k) for k in range(count))


def _spec(cell: MatrixCell) -> FeatureSpec:
    """The features that a cell reads."""
    from adapters.registry import adapter_kind
    from adapters.training.grid import resolve_settings
    from core_encoder.extraction import spec_for
    from core_encoder.features.dtypes import PRECISIONS
    from core_encoder.models.known_encoders import no_text_tower
    from core_encoder.video.decoders import decoder_id

    encoder, options = cell.encoder, cell.options
    if cell.saved is not None:
        if cell.saved.features is None:
            raise InputError(f"adapter {cell.adapter!r} does not record which features it reads")
        precision = PRECISIONS[encoder.dtype]
        return replace(cell.saved.features, precision=precision, decoder=decoder_id(options.decoder))
    plan = plan_for(cell.benchmark.plan, options.num_frames or encoder.num_frames)
    about: dict[str, Any] = {"dtype": options.feature_dtype, "decoder": options.decoder}
    if cell.how == "words":
        if not encoder.has_text:
            raise no_text_tower(encoder.name)
        return spec_for(encoder, plan, kind="embedding", **about)
    kind = adapter_kind(cell.adapter)
    head = resolve_settings(kind, cell.head, options.training, cell.grid)[0].head
    return spec_for(encoder, plan, kind=kind.feature_kind_for(head), layers=getattr(head, "layers", ()), **about)


def plan_for(plan: ClipPlan, num_frames: int) -> ClipPlan:
    """The plan of a benchmark with the frames that an encoder takes; windows follow each other as closely as before."""
    hop = plan.window_stride
    if hop is not None:
        hop = max(1, hop * num_frames // plan.num_frames)
    return replace(plan, num_frames=num_frames, window_stride=hop)
