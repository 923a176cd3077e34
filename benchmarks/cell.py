"""One cell: a kind of adapter on one task, with one encoder. Train it, judge it, and record where its scores come from.

read the task -> encode what is missing -> train (settings and seeds side by side) -> answer -> judge -> save
"""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.encoding import Reading, Watch, encode_missing
from benchmarks.leakage import near_clips, record_videos, repeated_videos
from core_encoder.errors import InputError

if TYPE_CHECKING:
    from adapters.adapter import Adapter
    from adapters.card import AdapterInfo
    from adapters.features import ClipFeatures, FeatureDataset
    from adapters.predictions import Prediction
    from adapters.training.train_grid import TrainingResult
    from adapters.training.training_config import TrainingConfig, TrainingProgress
    from adapters.tuning.broken_clips import BrokenClips
    from adapters.tuning.frame_examples import FrameExamples
    from adapters.tuning.tuned_adapter import Tuning
    from benchmarks.results import NearClips, Result
    from core_encoder.encoder import Encoder
    from core_encoder.extraction import ExtractionReport
    from core_encoder.features.failures import Failure
    from core_encoder.features.feature_source import FeatureSource
    from core_encoder.features.feature_spec import FeatureSpec
    from tasks.sample import Sample
    from tasks.task import Task

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Cell:
    """What is trained on what: everything that decides its scores but the encoder and its features.

    `metric` chooses between epochs, settings and seeds; by default it is the task's main one.
    """

    name: str  # of the adapter in the registry
    task: Task
    kind: type[Adapter]
    head: Mapping[str, Any]
    training: TrainingConfig
    grid: Sequence[Mapping[str, Any]] = ({},)
    seeds: int = 1
    metric: str | None = None
    max_unreadable: float = 0.1
    blind: bool = False  # train and judge a twin beside it that sees no video
    near_duplicates: float | None = None  # the cosine from which judged clips are counted as near to one of train
    tuning: Tuning | None = None  # of the encoder, which is frozen without it
    record: Mapping[str, Any] = field(default_factory=dict)  # how the splits were drawn, for a later evaluation

    @property
    def choosing_metric(self) -> str:
        """The metric that chooses."""
        return self.metric or self.task.main_metric

    def check(self) -> None:
        """Refuse what can be known to fail before features are made, which may take hours.

        Raises:
            InputError: an unknown option or metric, a split without targets, or a choice with nothing to choose by.
        """
        from adapters.training.grid import resolve_settings

        task = self.task
        task.samples("train")
        task.check_targets()
        task.check_metric(self.choosing_metric)
        resolve_settings(self.kind, self.head, self.training, self.grid)
        choosing = {
            "--grid": len(self.grid) > 1,
            "--seeds": self.seeds > 1,
            "--patience": self.training.patience is not None,
        }
        if "val" not in task.splits and any(choosing.values()):
            word = next(name for name, given in choosing.items() if given)
            raise InputError(
                f"task {task.name}: {word} needs a val split to choose by; leave it out, or give val_fraction"
            )


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
    """What training a cell made: the adapter kept, where it lies, its scores, and what seeds and settings reached."""

    adapter: Adapter
    ref: str
    folder: Path
    run: Path
    task: Task
    result: Result
    predictions: list[Any]
    training: TrainingResult
    extraction: ExtractionReport
    failures: tuple[Failure, ...]
    frames_decoded: int  # over the whole cell: 0 when every feature was cached
    seeds: tuple[SeedScore, ...]


@dataclass(frozen=True)
class CellFeatures:
    """The features of a task's readable samples: what they are, how they are had, and the samples by split."""

    spec: FeatureSpec
    source: FeatureSource
    report: ExtractionReport
    samples: Mapping[str, list[Sample]]


def cell_features(
    task: Task,
    splits: Sequence[str],
    encoder: Encoder,
    spec: FeatureSpec,
    reading: Reading,
    watch: Watch,
    max_unreadable: float = 0.1,
) -> CellFeatures:
    """Encode what is missing of the clips of some splits.

    Raises:
        InputError: the features do not fit on the disk, or too many videos cannot be read.
    """
    clips = [sample.clip for split in splits if split in task.splits for sample in task.samples(split)]
    report = encode_missing(encoder, clips, [spec], reading, watch)
    return readable_features(task, splits, encoder, spec, reading, report, max_unreadable)


def readable_features(
    task: Task,
    splits: Sequence[str],
    encoder: Encoder,
    spec: FeatureSpec,
    reading: Reading,
    report: ExtractionReport,
    max_unreadable: float = 0.1,
) -> CellFeatures:
    """The features of clips that were encoded, as `report` says.

    Raises:
        InputError: too many videos cannot be read, or a sample says something of a time after its video ends.
    """
    from core_encoder.features.feature_source import FeatureSource

    source = FeatureSource(encoder, spec, reading.root, batch_size=reading.clips_per_batch, num_workers=reading.workers)
    readable = readable_samples(task, report.failures, max_unreadable, splits)
    for samples in readable.values():
        for sample in samples:
            if keys := source.cached_keys(sample.clip):
                task.check_length(sample, source.store.info(keys[-1]).end_s)
    return CellFeatures(spec, source, report, readable)


def data_sets(cell: Cell, features: CellFeatures) -> dict[str, ClipFeatures]:
    """The readable samples of a cell as training reads them, by split."""
    from adapters.features import ClipFeatures

    return {
        split: ClipFeatures(
            features.source,
            [sample.clip for sample in some],
            cell.task.targets(some),
            [sample.id for sample in some],
            [cell.task.inputs(sample) for sample in some],
            whole_clips=cell.kind.reads_whole_clips,
        )
        for split, some in features.samples.items()
    }


def train_cell(
    cell: Cell,
    features: CellFeatures,
    sets: Mapping[str, ClipFeatures] | Mapping[str, FrameExamples],
    encoder: Encoder,
    info: AdapterInfo,
    run: Path,
    watch: Watch,
    restart: bool = False,
    broken: BrokenClips | None = None,
    **about: Any,
) -> Trained:
    """Train a cell, judge it and save the best adapter in the registry; the same again goes on, or finds it finished.

    Args:
        features, sets: of `cell_features` and `data_sets`; `frame_sets` of `benchmarks.tuned_training` where it tunes.
        info: what the adapter should record of encoder and data.
        run: the folder of the run.
        broken: where it tunes, the list of clips that break meanwhile.
        about: `config` and `command` of the result.

    Raises:
        InputError: the run folder holds another run, or the targets do not fit.
        TrainingDiverged: the loss became NaN.
    """
    from adapters.registry import save_once
    from benchmarks.results import write_predictions

    task = cell.task
    repeated = {name: repeated_videos(features.samples, name) for name in SPLITS[1:] if name in features.samples}
    for name, (count, total) in repeated.items():
        if count:
            watch.note(f"note: {count} of {total} {name} videos are also in train (same bytes)")
    split = next(name for name in reversed(SPLITS) if name in features.samples)
    near = _near_train(cell, features, split, watch)
    first = cell.training.seed
    folders = {first + k: run if cell.seeds == 1 else run / f"seed-{first + k}" for k in range(cell.seeds)}
    info = replace(info, features=features.spec, task=task.family, dataset=task.name, card=task.card)
    record: dict[str, Any] = {  # by now: later a file may be gone
        "data_digest": task.digest("train"),
        "clip_s": _clip_lengths(sets["train"]),
        **record_videos(features.samples["train"]),
        **cell.record,
    }
    trainings = [train_once(cell, sets, info, folder, seed, watch, restart) for seed, folder in folders.items()]
    samples = features.samples[split]
    judged = [
        list(answer_samples(one.best, task, samples, source_for(one.best, features, encoder), watch, broken))
        for one in trainings
    ]
    seeds = tuple(
        SeedScore(seed, training.score, task.judge(predictions, split).main.value)
        for seed, training, predictions in zip(folders, trainings, judged, strict=True)
    )
    chosen = max(range(len(seeds)), key=lambda place: seeds[place].worth)
    best, predictions, adapter = trainings[chosen], judged[chosen], trainings[chosen].best
    blind = None
    if cell.blind:
        from benchmarks.blind import train_blind

        blind = train_blind(cell, features, sets, info, run / "blind", watch, split, restart)
        record["blind"] = blind.adapter
    adapter.info = replace(adapter.info, training=adapter.info.training | record)
    about |= {"also_in_train": repeated[split][0] if split in repeated else None, "near_train": near, "blind": blind}
    failures = (*features.report.failures, *(broken.failures() if broken else ()))
    report = replace(features.report, failures=failures)
    read = replace(features, spec=adapter.info.features or features.spec, report=report)
    result = judge_cell(adapter, task, split, predictions, read, encoder, cell.name, first, **about)
    scores = result.as_scores()
    twin = replace(scores, values=blind.scores) if blind else None
    adapter.info = replace(adapter.info, evaluations=(scores,), blind=twin)
    saved = save_once(adapter, cell.name)
    result = replace(result, adapter=saved.ref, provenance=replace(result.provenance, seed=adapter.info.seed))
    result.write(run / "result.json")
    write_predictions(run / "predictions.jsonl", predictions, described_targets(task, samples))
    return Trained(
        adapter=adapter,
        ref=saved.ref,
        folder=saved.path,
        run=run,
        task=task,
        result=result,
        predictions=predictions,
        training=best,
        extraction=features.report,
        failures=failures,
        frames_decoded=features.report.frames_decoded + features.source.frames_decoded,
        seeds=seeds,
    )


def source_for(adapter: Adapter, features: CellFeatures, encoder: Encoder) -> FeatureSource:
    """Where an adapter's features come from: those of the cell, or what its own encoder makes of the same clips."""
    own = adapter.info.features
    if adapter.tuning is None or own is None:
        return features.source
    tuned = adapter.find_encoder().to(encoder.device, encoder.dtype)
    return features.source.of(tuned, own)


def _near_train(cell: Cell, features: CellFeatures, split: str, watch: Watch) -> NearClips | None:
    """Count the judged clips that are near one of train, where that is asked for, and say how many they are."""
    if cell.near_duplicates is None or split == "train":
        return None
    found = near_clips(features.source, features.samples, split, cell.near_duplicates)
    which = f"{found.count} of {len(features.samples[split])} {split} clips"
    example = found.nearest[0] if found.nearest else None
    named = f", the nearest {example.id} to {example.train_id} ({example.cosine:.3f})" if example else ""
    watch.note(f"note: {which} are near one of train (cosine of at least {found.least_cosine:g}){named}")
    return found


def readable_samples(
    task: Task, failures: Sequence[Failure], max_unreadable: float, splits: Sequence[str] = SPLITS
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
            first = next(failure for failure in failures if failure.clip in {s.clip for s in task.samples(split)})
            raise InputError(
                f"{task.name}: no readable video is left in the {split} split; the first: {first.path}: {first.reason}"
            )
    return left


def described_targets(task: Task, samples: Sequence[Sample]) -> dict[str, Any]:
    """What is right for every sample, by its id and as people write it."""
    return {sample.id: task.describe_target(sample) for sample in samples}


def answer_samples(
    adapter: Adapter,
    task: Task,
    samples: Sequence[Sample],
    source: FeatureSource,
    watch: Watch,
    broken: BrokenClips | None = None,
) -> Iterator[Prediction]:
    """What an adapter says of every sample, as it is asked for; nothing of those that `broken` takes.

    Raises:
        InputError: a video that was encoded can no longer be read, and `broken` is not given or full.
    """
    from adapters.predicting import predict_clips
    from adapters.predictions import Truth
    from core_encoder.features.failures import Failure

    known = [Truth(sample.id, None, task.inputs(sample)) for sample in samples]
    with watch.bar("predicting") as bar:
        found = predict_clips(adapter, [sample.clip for sample in samples], known, source)
        for done, answer in enumerate(found, start=1):
            bar.update(done, len(samples))
            if not isinstance(answer, Failure):
                yield answer
            elif broken is None:
                raise InputError(f"{answer.path}: {answer.reason}")
            else:
                broken.add(answer.clip, answer.reason)


def judge_cell(
    adapter: Adapter,
    task: Task,
    split: str,
    predictions: Sequence[Prediction],
    features: CellFeatures,
    encoder: Encoder,
    name: str,
    seed: int,
    **about: Any,
) -> Result:
    """The scores of predictions, with all that is needed to make them again."""
    from benchmarks.results import Provenance, Result

    reasons = {failure.clip: failure.reason for failure in features.report.failures}
    spec = features.spec
    return Result.of(
        task.judge(predictions, split, seed=seed),
        reasons={s.id: reasons[s.clip] for s in task.samples(split) if s.clip in reasons},
        task=task.name,
        split=split,
        protocol=task.protocol,
        data_digest=task.digest(split),
        label_names=list(adapter.label_names),
        adapter=name,
        adapter_sha256=adapter.info.weights_sha256 or None,
        encoder=spec.encoder,
        encoder_fingerprint=spec.fingerprint,
        clip_plan=spec.plan.describe(),
        provenance=Provenance.collect(
            decoder=spec.decoder, device=encoder.device.type, precision=spec.precision, seed=seed
        ),
        **about,
    )


def train_once(
    cell: Cell,
    sets: Mapping[str, FeatureDataset],
    info: AdapterInfo,
    run: Path,
    seed: int,
    watch: Watch,
    restart: bool = False,
) -> TrainingResult:
    """Train the head of a cell with one seed, its settings side by side; the same again goes on or finds it finished.

    Raises:
        InputError: the run folder holds another run, or the targets do not fit.
        TrainingDiverged: the loss became NaN.
    """
    from adapters.training.train_grid import train

    metric = cell.choosing_metric
    with watch.bar("training") as bar:
        return train(
            cell.kind,
            sets["train"],
            sets.get("val"),
            targets=cell.task.schema,
            head=cell.head,
            config=replace(cell.training, seed=seed),
            grid=cell.grid,
            run_dir=run,
            metric=functools.partial(cell.task.metric, metric),
            info=info,
            tuning=cell.tuning,
            progress=lambda p: bar.update(p.step, p.steps, _training_note(p, metric)),
            restart=restart,
        )


def _clip_lengths(clips: ClipFeatures | FrameExamples) -> dict[str, float]:
    """How long the clips are that an adapter learned from, in seconds: what it is asked about should be like them."""
    seconds = clips.clip_seconds()
    return {"median": round(statistics.median(seconds), 3), "longest": round(max(seconds), 3)} if seconds else {}


def _training_note(p: TrainingProgress, metric: str) -> str:
    loss = min(p.losses.values(), default=math.nan)
    best = f", best {metric} {max(p.scores.values()):.3f}" if p.scores else ""
    return f"epoch {p.epoch} of {p.epochs}, loss {loss:.3f}{best}, {p.samples_per_s:.0f} samples/s"
