"""The result of one adapter on one task: numbers with intervals and all that is needed to make them again. No torch."""

from __future__ import annotations

import functools
import json
import platform
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from adapters.scores import Score, Scores
from core_encoder.errors import InputError
from core_encoder.files.storage import read_json, write_json, write_text

if TYPE_CHECKING:
    from adapters.predictions import Prediction

SCHEMA_VERSION = 2
_STRICT = ConfigDict(extra="forbid", strict=True)
_DISTRIBUTIONS = (
    "torch",
    "transformers",
    "lightning",
    "torchmetrics",
    "numpy",
    "safetensors",
    "decord",
    "av",
)
Count = Annotated[int, Field(ge=0)]


@dataclass(frozen=True)
class Skipped:
    """A sample without a prediction, and why."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    id: str
    reason: str


@dataclass(frozen=True)
class NearClip:
    """A judged sample and one of train whose features nearly agree."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    id: str
    train_id: str
    cosine: float


@dataclass(frozen=True)
class NearClips:
    """Judged samples that are near one of train though their files differ: how many, in how many pairs, the nearest."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    least_cosine: float
    count: Count
    pairs: Count
    nearest: list[NearClip]


@dataclass(frozen=True)
class Blind:
    """What an adapter reaches that was trained alike but sees no video: what words alone are worth."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    adapter: str
    scores: dict[str, Score]


@dataclass(frozen=True)
class Provenance:
    """Where and with what a result was made.

    `commit` is that of the library's own source, with `+changes` when files differ from it; None outside a checkout.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    created_utc: str
    prismhub: str
    commit: str | None
    versions: dict[str, str]
    platform: str
    decoder: str | None = None
    device: str | None = None
    precision: str | None = None
    seed: int | None = None

    @classmethod
    def collect(
        cls,
        *,
        decoder: str | None = None,
        device: str | None = None,
        precision: str | None = None,
        seed: int | None = None,
    ) -> Provenance:
        """The provenance of a result made now, here."""
        versions = {"python": platform.python_version()}
        versions |= {name: version for name in _DISTRIBUTIONS if (version := _version(name)) is not None}
        return cls(
            created_utc=datetime.now(UTC).isoformat(timespec="seconds"),
            prismhub=_version("prismhub") or "not installed",
            commit=_source_commit(),
            versions=versions,
            platform=platform.platform(),
            decoder=decoder,
            device=device,
            precision=precision,
            seed=seed,
        )


@dataclass(frozen=True)
class Cost:
    """What a cell took here: seconds of each piece of work, the most memory, and how large the trained head is.

    `encode_s` is of all that was encoded together for the tasks that share it, `encoded` clips; cached clips cost none.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    encode_s: float
    encoded: Count
    train_s: float
    predict_s: float
    judge_s: float
    peak_memory_bytes: Count | None = None
    peak_gpu_bytes: Count | None = None
    parameters: Count | None = None


@dataclass(frozen=True)
class Rescored:
    """That predictions were judged again later: when, by which version, and what the main score had been."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    created_utc: str
    prismhub: str
    commit: str | None
    protocol_before: str
    score_before: float


State = Literal["done", "failed", "no data"]


@dataclass(frozen=True)
class Result:
    """One cell of the matrix: an adapter with its encoder on one split of one task.

    A cell that has no score says why: its `state` is `failed` or `no data`, with the `reason`. What follows it is of
    cells of a matrix alone: `digests` are sha256 of what was judged (`ids`, `class_names`, `prompts`), `identity` is
    that of all that decides the scores.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    task: str
    split: str
    protocol: str
    data_digest: str
    label_names: list[str]
    adapter: str
    encoder: str
    encoder_fingerprint: str
    main_metric: str
    scores: dict[str, Score]
    n_evaluated: Count
    n_total: Count
    provenance: Provenance
    skipped: list[Skipped] = field(default_factory=list)
    also_in_train: Count | None = None  # videos of the split whose bytes are in the training split too
    near_train: NearClips | None = None  # where near duplicates were asked for
    adapter_sha256: str | None = None  # of the saved weights that answered
    blind: Blind | None = None  # beside captions and answers, where a blind adapter was trained
    clip_plan: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    command: str | None = None
    state: State = "done"
    reason: str = ""
    suite: str = ""
    identity: str = ""
    digests: dict[str, str] = field(default_factory=dict)
    cost: Cost | None = None
    rescored: Rescored | None = None
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        if (self.state == "done") == bool(self.reason):
            raise ValueError(f"a cell that is {self.state!r} has the reason {self.reason!r}")
        if self.state != "done" and self.scores:
            raise ValueError(f"a cell that is {self.state!r} has scores")
        if self.state == "done" and self.main_metric not in self.scores:
            raise ValueError(f"the main metric {self.main_metric!r} is not among the scores")
        if self.n_evaluated + len(self.skipped) != self.n_total:
            raise ValueError(f"{self.n_evaluated} evaluated and {len(self.skipped)} skipped of {self.n_total}")

    @classmethod
    def of(cls, scores: Scores, *, reasons: Mapping[str, str] | None = None, **about: Any) -> Result:
        """The result of a task's `Scores`.

        Args:
            reasons: why a sample has no prediction, by sample id.
            about: the other fields.
        """
        reasons = reasons or {}
        return cls(
            main_metric=scores.main_metric,
            scores=dict(scores.values),
            n_evaluated=scores.n_evaluated,
            n_total=scores.n_total,
            skipped=[Skipped(one, reasons.get(one, "no prediction")) for one in scores.missing],
            **about,
        )

    def as_scores(self) -> Scores:
        """The scores, as an adapter records them."""
        return Scores(self.scores, self.main_metric, self.n_evaluated, self.n_total, self.split)

    def write(self, path: str | Path) -> Path:
        """Write as JSON, atomically; `Result.read` gives an equal object."""
        return write_json(path, asdict(self))

    @classmethod
    def read(cls, path: str | Path) -> Result:
        """Read and check a result.

        Raises:
            InputError: missing, not JSON, of another schema version, or a field is missing, unknown or of a wrong type.
        """
        record = read_json(path)
        version = record.get("schema_version") if isinstance(record, dict) else None
        if version == 1:  # scores without a unit were all fractions
            record["schema_version"] = SCHEMA_VERSION
        elif version != SCHEMA_VERSION:
            raise InputError(f"{path}: result schema {version!r}, this version reads {SCHEMA_VERSION}; evaluate again")
        try:
            return _checker().validate_json(json.dumps(record))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "result"
            raise InputError(f"{path}: {where}: {first['msg']}") from error


def table_rows(results: Iterable[Result]) -> tuple[list[str], list[list[str]]]:
    """Column titles and rows of text for a table, one row a result and one for its blind adapter, with intervals."""
    results = list(results)
    names = list(dict.fromkeys(name for result in results for name in result.scores))
    header = ["task", "split", "adapter", "encoder", *names, "evaluated"]
    rows = []
    for result in results:
        count = f"{result.n_evaluated} of {result.n_total}"
        judged = [(result.adapter, result.scores)]
        judged += [(f"{result.blind.adapter} (blind)", result.blind.scores)] if result.blind else []
        for adapter, scores in judged:
            cells = [str(scores[name]) if name in scores else "-" for name in names]
            rows.append([result.task, result.split, adapter, result.encoder, *cells, count])
    return header, rows


def write_predictions(
    path: str | Path, predictions: Iterable[Prediction], targets: Mapping[str, Any] | None = None
) -> Path:
    """Write every prediction as one line of JSON, all it has to say, with the true target, by id, where it is given."""
    lines = []
    for prediction in predictions:
        record = prediction.describe(all_scores=True)
        if targets is not None:
            record["target"] = targets[prediction.sample_id]
        lines.append(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n")
    return write_text(path, "".join(lines))


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


@functools.cache
def _checker() -> TypeAdapter[Result]:
    return TypeAdapter(Result)


def _source_commit() -> str | None:
    """The commit this file was read from; None when it is installed, or not under version control."""
    folder = Path(__file__).parent.parent
    if not (folder / ".git").exists():  # a checkout of another project may lie further up
        return None

    def git(*words: str) -> str:
        call = ["git", "-C", str(folder), *words]
        return subprocess.run(call, capture_output=True, text=True, timeout=10, check=True).stdout.strip()

    try:
        commit = git("rev-parse", "HEAD")
        changed = git("status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return None
    return commit + ("+changes" if changed else "")
