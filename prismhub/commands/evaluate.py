"""`prismhub evaluate`: a saved adapter on labelled videos; how every score of the hub is made."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters.predictions import ClassScores
from core_encoder.config import config_to_dict
from core_encoder.errors import InputError
from core_encoder.files.storage import plain_name, prismhub_home
from prismhub.commands.encode import default_store, extract_features, find_device, open_encoder
from prismhub.progress import SILENT, Show
from prismhub.settings import DataSettings, EvaluateSettings, SavedAdapterSettings, TrainSettings

if TYPE_CHECKING:
    from adapters.adapter import Adapter
    from benchmarks.results import Result
    from core_encoder.encoder import Encoder
    from core_encoder.features.failures import Failure
    from core_encoder.features.feature_source import FeatureSource
    from core_encoder.features.feature_spec import FeatureSpec
    from tasks.families.classification import ClassificationTask
    from tasks.readers.annotations import Sample


@dataclass(frozen=True)
class Evaluated:
    """What `evaluate` found and where it is written."""

    result: Result
    path: Path
    task: ClassificationTask
    predictions: list[ClassScores]
    failures: tuple[Failure, ...]


def evaluate(settings: EvaluateSettings, show: Show = SILENT) -> Evaluated:
    """Evaluate a saved adapter on labelled videos and write the result with its provenance.

    Videos without given splits are all evaluated, unless they are the very ones the adapter was trained on: then it is
    the test split that training kept apart.

    Raises:
        InputError: no such adapter or split, classes the adapter does not know, or too many unreadable videos.
    """
    from adapters.registry import load_adapter
    from benchmarks.results import write_predictions
    from core_encoder.features.feature_source import FeatureSource

    if settings.out is not None and settings.out.is_dir():
        raise InputError(f"{settings.out}: is a folder; --out wants a file such as {settings.out / 'result.json'}")
    adapter = load_adapter(required(settings.adapter, "adapter"))
    spec = recorded_spec(adapter, settings, show)
    task, split = _evaluation_task(settings, adapter, show)
    encoder = adapter_encoder(adapter, settings, spec)
    root = settings.store or default_store()
    report = extract_features(encoder, [sample.clip for sample in task.samples(split)], spec, root, settings, show)
    readable = readable_samples(task, report.failures, settings.max_unreadable, (split,))
    source = FeatureSource(encoder, spec, root, batch_size=settings.clips_per_batch, num_workers=settings.workers)
    predictions = answers(adapter, readable[split], source, show)
    result = result_of(settings, task, split, predictions, adapter, settings.adapter, report.failures, spec, encoder)
    stem = plain_name(f"{task.name}-{split}-{settings.adapter}-{task.digest(split)[:8]}")
    path = settings.out or prismhub_home() / "results" / f"{stem}.json"
    result.write(path)
    truth = {sample.id: sample.labels for sample in readable[split]}
    write_predictions(path.with_suffix(".predictions.jsonl"), predictions, truth)
    return Evaluated(result, path, task, predictions, report.failures)


def _evaluation_task(settings: EvaluateSettings, adapter: Adapter, show: Show) -> tuple[ClassificationTask, str]:
    """The task and the split to evaluate; see `evaluate` for data without given splits."""
    from tasks.families.classification import ClassificationTask
    from tasks.readers.annotations import read_samples

    source = required(settings.data, "data")
    samples = read_samples(source, **columns(settings))
    given = {sample.split for sample in samples} - {None}
    record = adapter.info.training
    multi_label = adapter.info.config.get("multi_label", settings.multi_label)
    if settings.multi_label not in (None, multi_label):
        raise InputError(
            f"adapter {settings.adapter!r} was trained with multi_label={multi_label}: leave the option out"
        )

    def task_of(some: Sequence[Sample], seed: int = 0, **fractions: float) -> ClassificationTask:
        return ClassificationTask.from_samples(
            some, source.stem, classes=adapter.label_names, multi_label=multi_label, seed=seed, **fractions
        )

    if settings.split != "all" and (given or "split_seed" in record):
        fractions = {name: record[name] for name in ("val_fraction", "test_fraction") if name in record}
        task = task_of(samples, seed=record.get("split_seed", 0), **fractions)
        known = "train" in task.splits and task.digest("train") == record.get("data_digest")
        if given or known or settings.split:
            split: str = settings.split or next(name for name in ("test", "val", "train") if name in task.splits)
            task.samples(split)
            if known and not given:
                show.note(f"note: these are the videos the adapter was trained on; evaluating its {split} split")
            elif not given:
                show.note(f"note: the {split} split is drawn anew; videos the adapter was trained on may be in it")
            return task, split
    everything = task_of([replace(sample, split="test") for sample in samples])
    show.note(f"note: evaluating all {len(samples)} samples; if the adapter was trained on some, scores are too high")
    return replace(everything, splits={"all": everything.splits["test"]}), "all"


def readable_samples(
    task: ClassificationTask,
    failures: Sequence[Failure],
    max_unreadable: float,
    splits: Sequence[str] = ("train", "val", "test"),
) -> dict[str, list[Sample]]:
    """The samples whose video could be read, by split.

    Raises:
        InputError: too large a share could not, or nothing is left of a split.
    """
    present = [split for split in splits if split in task.splits]
    total = sum(len(task.samples(split)) for split in present)
    if len(failures) > max_unreadable * total:
        raise InputError(
            f"{len(failures)} of {total} videos cannot be read, more than max_unreadable={max_unreadable:g} allows; "
            f"the first: {failures[0].path}: {failures[0].reason}"
        )
    broken = {failure.clip for failure in failures}
    left = {split: [s for s in task.samples(split) if s.clip not in broken] for split in present}
    for split, samples in left.items():
        if not samples:
            raise InputError(f"{task.name}: no readable video is left in the {split} split")
    return left


def answers(adapter: Adapter, samples: Sequence[Sample], source: FeatureSource, show: Show) -> list[ClassScores]:
    predictions = []
    with show.bar("predicting") as bar:
        for done, sample in enumerate(samples, start=1):
            predictions.append(
                ClassScores(sample.id, adapter.predict_records(source[sample.clip]), adapter.label_names)
            )
            bar.update(done, len(samples))
    return predictions


def result_of(
    settings: TrainSettings | EvaluateSettings,
    task: ClassificationTask,
    split: str,
    predictions: Sequence[ClassScores],
    adapter: Adapter,
    name: str,
    failures: Sequence[Failure],
    spec: FeatureSpec,
    encoder: Encoder,
) -> Result:
    from benchmarks.results import Provenance, Result

    reasons = {failure.clip: failure.reason for failure in failures}
    return Result.of(
        task.judge(predictions, split, seed=settings.seed),
        reasons={s.id: reasons[s.clip] for s in task.samples(split) if s.clip in reasons},
        task=task.name,
        split=split,
        protocol=task.protocol,
        data_digest=task.digest(split),
        label_names=list(adapter.label_names),
        adapter=name,
        encoder=spec.encoder,
        encoder_fingerprint=spec.fingerprint,
        clip_plan=spec.plan.describe(),
        config=described(settings),
        command=" ".join(["prismhub", *sys.argv[1:]]) if Path(sys.argv[0]).stem == "prismhub" else None,
        provenance=Provenance.collect(
            decoder=spec.decoder,
            device=encoder.device.type,
            precision=spec.precision,
            seed=settings.seed,
        ),
    )


def described(settings: Any) -> dict[str, Any]:
    """The settings, ready for JSON."""
    return {name: str(value) if isinstance(value, Path) else value for name, value in config_to_dict(settings).items()}


def columns(settings: DataSettings) -> dict[str, str | None]:
    names = ("path_column", "label_column", "split_column", "start_column", "end_column", "label_separator")
    return {name: getattr(settings, name) for name in names}


def recorded_spec(adapter: Adapter, settings: SavedAdapterSettings, show: Show) -> FeatureSpec:
    """The features an adapter reads: by default in the precision of its training, with the decoder as it is here."""
    from core_encoder.video.decoders import decoder_id

    spec = adapter.info.features
    if spec is None:
        raise InputError(
            f"adapter {settings.adapter!r} does not record which encoder it was trained on; use it on features instead"
        )
    wanted = spec.decoder.partition("-")[0]
    try:
        decoder = decoder_id(wanted)
    except InputError:
        decoder = decoder_id("auto")
        show.note(f"note: trained with decoder {wanted}, which is not installed; using {decoder}")
    return replace(spec, precision=settings.encoder_dtype or spec.precision, decoder=decoder)


def adapter_encoder(adapter: Adapter, settings: SavedAdapterSettings, spec: FeatureSpec) -> Encoder:
    """The encoder of an adapter, given or where it was in training; the adapter uses it from now on."""
    find_device(settings.accelerator)
    source = settings.encoder or adapter.info.encoder_source or adapter.info.encoder
    try:
        encoder = open_encoder(source, settings.accelerator, spec.precision)
    except InputError as error:
        if settings.encoder:
            raise
        raise InputError(f"the adapter's encoder is not at hand ({error}): say where it lies with --encoder") from error
    adapter.use_encoder(encoder)
    return encoder


def required(value: Any, name: str) -> Any:
    if not value:
        raise InputError(f"--{name} is missing")
    return value
