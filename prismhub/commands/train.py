"""`prismhub train`: from a folder of labelled videos to an adapter in the registry, with its scores."""

from __future__ import annotations

import functools
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters.training.training_config import Progress, TrainingConfig
from core_encoder.config import parse_grid
from core_encoder.errors import InputError
from core_encoder.files.storage import check_name, nearest, plain_name, prismhub_home
from prismhub.commands.encode import default_store, extract_features, feature_spec, open_encoder
from prismhub.commands.evaluate import answers, columns, described, readable_samples, required, result_of
from prismhub.progress import SILENT, Show
from prismhub.settings import TrainSettings

if TYPE_CHECKING:
    from adapters.adapter import Adapter
    from adapters.card import AdapterInfo, MetricValue
    from adapters.features import ClipFeatures
    from adapters.predictions import ClassScores
    from adapters.registry import RegisteredAdapter
    from adapters.training.train_grid import TrainingResult
    from benchmarks.results import Result
    from core_encoder.extraction import ExtractionReport
    from core_encoder.features.failures import Failure
    from tasks.families.classification import ClassificationTask


@dataclass(frozen=True)
class SeedScore:
    """What one seed reached: the validation score that chooses, and the main metric on the split judged at the end."""

    seed: int
    validation: float | None
    judged: float

    @property
    def worth(self) -> float:
        """The validation score; without a val split no seed is better than another."""
        return -math.inf if self.validation is None else self.validation


@dataclass(frozen=True)
class Trained:
    """What `train` made: the adapter kept, where it lies, its scores, and what every seed and setting reached."""

    adapter: Adapter
    ref: str
    folder: Path
    run: Path
    task: ClassificationTask
    result: Result
    predictions: list[ClassScores]
    training: TrainingResult
    extraction: ExtractionReport
    failures: tuple[Failure, ...]
    frames_decoded: int  # over the whole job: 0 when every feature was cached
    seeds: tuple[SeedScore, ...]


def train(settings: TrainSettings, show: Show = SILENT) -> Trained:
    """Train an adapter on the features of labelled videos, evaluate it and save it in the registry.

    The same settings again go on with a run that was cut off, and find a finished one finished.

    Raises:
        InputError: something in the settings, the data or the run folder does not fit.
        TrainingDiverged: the loss became NaN.
    """
    from adapters.card import AdapterInfo
    from adapters.features import ClipFeatures
    from adapters.registry import adapter_kind
    from adapters.training.train_grid import resolve_settings
    from benchmarks.results import write_predictions
    from core_encoder.features.feature_source import FeatureSource

    kind = adapter_kind(settings.adapter)
    task = _training_task(settings)
    _check_splits(task, settings)
    head = _assignments(settings.head) | ({"multi_label": True} if task.multi_label else {})
    if settings.layers:
        head["layers"] = settings.layers
    # Whatever can be wrong with the settings is said here: the features may take hours.
    resolved = resolve_settings(kind, head, _training_config(settings), parse_grid(settings.grid))
    metric_name = settings.metric or task.main_metric
    if metric_name not in task.metrics:
        raise InputError(f"unknown metric {metric_name!r}{nearest(metric_name, task.metrics)}")
    if settings.run is not None and settings.run.exists() and not settings.run.is_dir():
        raise InputError(f"{settings.run}: is a file; --run wants a folder")
    name = check_name(settings.name or plain_name(f"{task.name}-{settings.adapter}"), "adapter name")
    for warning in task.warnings:
        show.note(f"note: {warning}")
    encoder = open_encoder(settings.encoder, settings.accelerator, settings.encoder_dtype)
    for setting in resolved:
        kind.build(setting.head, dim=encoder.dim, label_names=task.label_names)
    spec = feature_spec(encoder, settings, kind.feature_kind, getattr(resolved[0].head, "layers", ()))
    root = settings.store or default_store()
    clips = [sample.clip for samples in task.splits.values() for sample in samples]
    report = extract_features(encoder, clips, spec, root, settings, show)
    source = FeatureSource(encoder, spec, root, batch_size=settings.clips_per_batch, num_workers=settings.workers)
    readable = readable_samples(task, report.failures, settings.max_unreadable)

    sets = {
        split: ClipFeatures(source, [s.clip for s in some], task.targets(some), [s.id for s in some])
        for split, some in readable.items()
    }
    info = AdapterInfo(
        features=spec,
        encoder_source=_portable_source(settings.encoder),
        task=task.family,
        dataset=task.name,
    )
    run = settings.run or prismhub_home() / "runs" / f"{name}-{_identity(settings, task, sets)}"
    runs = {
        settings.seed + k: run if settings.seeds == 1 else run / f"seed-{settings.seed + k}"
        for k in range(settings.seeds)
    }
    trainings = [
        _train_once(settings, task, sets, kind, head, info, folder, seed, show) for seed, folder in runs.items()
    ]
    split = next(name for name in ("test", "val", "train") if name in readable)
    judged = [answers(training.best, readable[split], source, show) for training in trainings]
    seeds = tuple(
        SeedScore(seed, training.score, task.judge(predictions, split).main.value)
        for seed, training, predictions in zip(runs, trainings, judged, strict=True)
    )
    chosen = max(range(len(seeds)), key=lambda place: seeds[place].worth)
    best, predictions, adapter = trainings[chosen], judged[chosen], trainings[chosen].best
    adapter.info = replace(adapter.info, training=adapter.info.training | _split_record(settings, task))
    result = result_of(settings, task, split, predictions, adapter, name, report.failures, spec, encoder)
    adapter.info = replace(adapter.info, metrics=_metric_values(result))
    saved = _save_once(adapter, name)
    result = replace(result, adapter=saved.ref, provenance=replace(result.provenance, seed=adapter.info.seed))
    result.write(run / "result.json")
    write_predictions(run / "predictions.jsonl", predictions, {sample.id: sample.labels for sample in readable[split]})
    return Trained(
        adapter=adapter,
        ref=saved.ref,
        folder=saved.path,
        run=run,
        task=task,
        result=result,
        predictions=predictions,
        training=best,
        extraction=report,
        failures=report.failures,
        frames_decoded=report.frames_decoded + source.frames_decoded,
        seeds=seeds,
    )


def _train_once(
    settings: TrainSettings,
    task: ClassificationTask,
    sets: Mapping[str, ClipFeatures],
    kind: type[Adapter],
    head: dict[str, Any],
    info: AdapterInfo,
    run: Path,
    seed: int,
    show: Show,
) -> TrainingResult:
    from adapters.training.train_grid import train as train_head

    metric_name = settings.metric or task.main_metric
    with show.bar("training") as bar:
        return train_head(
            kind,
            sets["train"],
            sets.get("val"),
            label_names=task.label_names,
            head=head,
            config=replace(_training_config(settings), seed=seed),
            grid=parse_grid(settings.grid),
            run_dir=run,
            metric=functools.partial(task.metric, metric_name),
            info=info,
            progress=lambda p: bar.update(p.step, p.steps, _training_note(p, metric_name)),
            restart=settings.restart,
        )


def _training_config(settings: TrainSettings) -> TrainingConfig:
    return TrainingConfig(**{field.name: getattr(settings, field.name) for field in fields(TrainingConfig)})


def _training_note(p: Progress, metric: str) -> str:
    loss = min(p.losses.values(), default=math.nan)
    best = f", best {metric} {max(p.scores.values()):.3f}" if p.scores else ""
    return f"epoch {p.epoch} of {p.epochs}, loss {loss:.3f}{best}, {p.samples_per_s:.0f} samples/s"


def _training_task(settings: TrainSettings) -> ClassificationTask:
    from tasks.families.classification import ClassificationTask

    return ClassificationTask.read(
        required(settings.data, "data"),
        multi_label=settings.multi_label,
        val_fraction=settings.val_fraction,
        test_fraction=settings.test_fraction,
        seed=settings.seed,
        **columns(settings),
    )


def _check_splits(task: ClassificationTask, settings: TrainSettings) -> None:
    task.samples("train")
    for split, samples in task.splits.items():
        if not any(sample.labels for sample in samples):
            raise InputError(f"task {task.name}: no sample of the {split} split has a label")
    choosing = {"--grid": settings.grid, "--seeds": settings.seeds > 1, "--patience": settings.patience}
    if "val" not in task.splits and any(choosing.values()):
        word = next(name for name, given in choosing.items() if given)
        raise InputError(f"task {task.name}: {word} needs a val split to choose by; leave it out, or give val_fraction")


def _metric_values(result: Result) -> tuple[MetricValue, ...]:
    from adapters.card import MetricValue

    ordered = sorted(result.scores.items(), key=lambda item: item[0] != result.main_metric)
    return tuple(
        MetricValue(name, score.value, result.split, result.n_evaluated, result.n_total, (score.low, score.high))
        for name, score in ordered
    )


def _save_once(adapter: Adapter, name: str) -> RegisteredAdapter:
    """Save as a new version, unless the newest version is this very adapter: a finished run that was run again."""
    from adapters.registry import list_adapters, save_to_registry

    versions = list_adapters(name)
    return versions[-1] if versions and _is_saved(adapter, versions[-1].path) else save_to_registry(adapter, name)


def _is_saved(adapter: Adapter, folder: Path) -> bool:
    """Whether `folder` holds an adapter that says and answers the same."""
    import torch

    try:
        before = type(adapter).from_folder(folder)
    except InputError:  # damaged, or of another kind
        return False
    said = ("config", "label_names", "features", "encoder_source", "dataset", "metrics")
    if any(getattr(before.info, name) != getattr(adapter.info, name) for name in said):
        return False
    ours, theirs = adapter.state_dict(), before.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)


def _split_record(settings: TrainSettings, task: ClassificationTask) -> dict[str, Any]:
    """What `evaluate` needs to find the same splits again."""
    return {
        "data_digest": task.digest("train"),
        "split_seed": settings.seed,
        "val_fraction": settings.val_fraction,
        "test_fraction": settings.test_fraction,
    }


def _identity(settings: TrainSettings, task: ClassificationTask, sets: Mapping[str, ClipFeatures]) -> str:
    """A short hash of all that decides a run, the bytes of the videos among it: anything else gets another folder."""
    from adapters.features import digest_of
    from adapters.training.train_grid import HOW_IT_RUNS

    decisive = described(settings)
    about = ("quiet", "json", "run", "restart", "workers", "clips_per_batch", "store", "data", "max_unreadable")
    for name in (*HOW_IT_RUNS, *about):
        decisive.pop(name)
    digests = {split: digest_of(features) for split, features in sets.items()}
    whole = json.dumps([decisive, task.label_names, digests], sort_keys=True)
    return hashlib.sha256(whole.encode()).hexdigest()[:10]


def _assignments(words: Sequence[str]) -> dict[str, Any]:
    """`["dropout=0.5", "heads=8"]` as options of a head."""
    given = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name or not value:
            raise InputError(f"head option {word!r} is not of the form key=value (for example dropout=0.5)")
        given[name] = value
    return given


def _portable_source(source: str) -> str:
    """A folder or file is recorded whole, so that the adapter finds its encoder from wherever it is used."""
    from core_encoder.models.known_encoders import encoders

    path = Path(source).expanduser()
    bundled = source in {info.name for info in encoders() if info.bundled}  # a name wins over a folder called so
    return str(path.absolute()) if path.exists() and not bundled else source
