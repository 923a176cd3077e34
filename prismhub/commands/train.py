"""`prismhub train`: from a folder of labelled videos to an adapter in the registry, with its scores."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import TYPE_CHECKING

from core_encoder.config import parse_grid
from core_encoder.errors import InputError, one_line
from core_encoder.files.storage import check_name, plain_name, prismhub_home
from prismhub.features import (
    check_encoding,
    clip_plan,
    describe_windows,
    feature_spec,
    in_windows,
    open_encoder,
    reading_of,
)
from prismhub.heads import head_assignments, portable_head, portable_source
from prismhub.progress import SILENT, Show
from prismhub.provenance import run_command, settings_record
from prismhub.settings import TrainSettings

if TYPE_CHECKING:
    from adapters.context import TargetKind
    from adapters.features import ClipFeatures
    from benchmarks.cell import Trained
    from tasks.task import Task


def train(settings: TrainSettings, show: Show = SILENT) -> Trained:
    """Train an adapter on the features of labelled videos, evaluate it and save it in the registry.

    The same settings again go on with a run that was cut off, and find a finished one finished.

    Raises:
        InputError: something in the settings, the data or the run folder does not fit.
        TrainingDiverged: the loss became NaN.
    """
    from adapters.card import AdapterInfo
    from adapters.context import Context
    from adapters.registry import adapter_kind, head_options, target_kind
    from adapters.training.grid import resolve_settings
    from benchmarks.blind import check_blind
    from benchmarks.cell import SPLITS, Cell, cell_features, data_sets, train_cell
    from benchmarks.tuned_training import broken_clips, frame_sets, state_cost, tuning_of
    from tasks.own_data import read_task

    dataset, training = settings.dataset, settings.training
    settings.cluster.check()
    head, grid = head_assignments(settings.head) | settings.head_options, parse_grid(settings.grid)
    if settings.name is not None:
        check_name(settings.name, "adapter name")
    if settings.run is not None and settings.run.exists() and not settings.run.is_dir():
        raise InputError(f"{settings.run}: is a file; --run wants a folder")
    learns = target_kind(settings.adapter)
    windowed = learns == "segments" and settings.encoding.sampling == "uniform"
    check_encoding(in_windows(settings.encoding, "clip", 4) if windowed else settings.encoding)
    head = portable_head(head)
    if settings.encoding.layers:
        head["layers"] = settings.encoding.layers
    resolve_settings(head_options(settings.adapter), head, training, grid)
    check_tuning(settings, learns)
    drawn = {"val_fraction": settings.val_fraction, "test_fraction": settings.test_fraction}
    task = read_task(
        dataset.data,
        learns,
        multi_label=dataset.multi_label,
        seed=training.seed,
        columns=dataset.columns | settings.boxes.given_for(learns),
        **drawn,
    )
    task.check_metric(settings.metric or task.main_metric)
    kind = adapter_kind(settings.adapter)  # brings torch: what is wrong without it is said by now
    if settings.blind:
        check_blind(kind)
    head |= kind.options_for(task.schema)
    cell = Cell(
        name=check_name(settings.name or plain_name(f"{task.name}-{settings.adapter}"), "adapter name"),
        task=task,
        kind=kind,
        head=head,
        training=training,
        grid=grid,
        seeds=settings.seeds,
        metric=settings.metric,
        max_unreadable=dataset.max_unreadable,
        blind=settings.blind,
        near_duplicates=settings.near_duplicates,
        record={"split_seed": training.seed, **drawn, **task.record},
    )
    cell.check()  # whatever else can be wrong with the settings is said here: the features may take hours
    for warning in task.warnings:
        show.note(f"note: {warning}")
    source = portable_source(settings.encoding.encoder)
    encoder = open_encoder(settings.encoding.encoder, training.accelerator, settings.encoding.encoder_dtype)
    resolved = resolve_settings(kind, head, cell.training, cell.grid)
    tuned = settings.tuning.trains_encoder
    reads = kind.feature_kind_for(resolved[0].head)
    encoding = settings.encoding
    if kind.reads_whole_clips and encoding.sampling == "uniform":
        encoding = in_windows(encoding, reads, encoder.num_frames)
        plan = clip_plan(encoding, encoder.num_frames)
        show.note(f"note: {kind.kind} looks at whole videos: {describe_windows(plan)}")
    spec = feature_spec(encoder, encoding, reads, getattr(resolved[0].head, "layers", ()))
    context = Context(encoder.dim, task.schema, spec, encoder_source=source)
    # they stay until the end: a language model is read from the disk once, as long as anybody uses it
    heads = [kind.build(setting.head, context) for setting in resolved]
    reading = reading_of(settings.reading, settings.cluster)
    if tuned:
        cell = replace(cell, tuning=tuning_of(settings.tuning, source, spec, encoder, heads[0], show))
    looked_at = replace(spec, kind="clip", layers=()) if tuned else spec  # one pass, to know which can be read
    features = cell_features(task, SPLITS, encoder, looked_at, reading, show, dataset.max_unreadable)
    sets = data_sets(cell, features)
    run = settings.run or prismhub_home() / "runs" / f"{cell.name}-{_identity(settings, task, sets)}"
    broken, frames = None, {}
    if cell.tuning is not None:
        broken = broken_clips(run, features, dataset.max_unreadable, settings.restart)
        frames = frame_sets(cell.tuning, sets, broken, reading.workers)
        if settings.restart or not (run / "result.json").exists():
            state_cost(cell.tuning, heads, frames, training, encoder.device, show)
    trained = train_cell(
        cell,
        replace(features, spec=spec),
        frames or sets,
        encoder,
        AdapterInfo(encoder_source=source),
        run,
        show,
        settings.restart,
        broken,
        config=settings_record(settings),
        command=run_command(),
    )
    if broken is not None and (lost := broken.failures()):
        count = "1 clip" if len(lost) == 1 else f"{len(lost)} clips"
        first = f"{one_line(lost[0].path)}: {lost[0].reason}"
        show.note(f"{count} broke meanwhile: left out, and listed in {broken.path}; the first: {first}")
    return trained


def check_tuning(settings: TrainSettings, learns: TargetKind) -> None:
    """Refuse, before torch is imported, what does not go with an encoder that trains.

    Raises:
        InputError: a kind of adapter, or another option.
    """
    settings.tuning.check(settings.adapter, learns)
    if settings.tuning.trains_encoder and settings.encoding.encoder_dtype != "fp32":
        raise InputError(
            f"encoder_dtype {settings.encoding.encoder_dtype}: weights that train are fp32; "
            "--precision bf16-mixed computes in bf16"
        )


def _identity(settings: TrainSettings, task: Task, sets: Mapping[str, ClipFeatures]) -> str:
    """A short hash of all that decides a run, the bytes of the videos among it: anything else gets another folder."""
    from adapters.features import digest_of
    from adapters.training.training_config import HOW_IT_RUNS
    from adapters.tuning.tune_config import HOW_IT_TUNES, TuneConfig

    decisive = settings_record(settings)
    about = ("quiet", "json", "run", "restart", "workers", "clips_per_batch", "store", "data", "max_unreadable")
    files = ("videos", "val", "test", "labels", "excluded", "detections", "train_detections")  # read into the data
    tuning = HOW_IT_TUNES if settings.tuning.trains_encoder else [one.name for one in fields(TuneConfig)]
    for name in (*HOW_IT_RUNS, *about, *files, "near_duplicates", "blind", *tuning):
        decisive.pop(name)
    digests = {split: digest_of(features) for split, features in sets.items()}
    whole = json.dumps([decisive, task.label_names, digests], sort_keys=True)
    return hashlib.sha256(whole.encode()).hexdigest()[:10]
