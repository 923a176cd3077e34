"""`prismhub evaluate`: a saved adapter on labelled videos."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core_encoder.errors import InputError
from core_encoder.files.storage import plain_name, prismhub_home
from prismhub.features import reading_of
from prismhub.progress import SILENT, Show
from prismhub.proposals import adapter_id, check_classes, check_classifier, classify_proposals
from prismhub.provenance import run_command, settings_record
from prismhub.saved import adapter_encoder, moved_parts, recorded_spec
from prismhub.settings import EvaluateSettings

if TYPE_CHECKING:
    from benchmarks.results import Result
    from core_encoder.features.failures import Failure
    from tasks.task import Task


@dataclass(frozen=True)
class Evaluated:
    """What `evaluate` found and where it is written."""

    result: Result
    path: Path
    task: Task
    predictions: list[Any]
    failures: tuple[Failure, ...]


def evaluate(settings: EvaluateSettings, show: Show = SILENT) -> Evaluated:
    """Evaluate a saved adapter on labelled videos and write the result with its provenance.

    Videos without given splits are all evaluated, unless they are the very ones the adapter was trained on: then it is
    the test split that training kept apart.

    Raises:
        InputError: no such adapter or split, classes the adapter does not know, or too many unreadable videos.
    """
    from adapters.registry import describe_adapter, load_adapter
    from benchmarks.blind import judge_blind
    from benchmarks.cell import answer_samples, cell_features, described_targets, judge_cell
    from benchmarks.leakage import digests_of, trained_on
    from benchmarks.results import write_predictions
    from tasks.own_data import evaluation_split

    dataset = settings.dataset
    settings.cluster.check()
    if settings.out is not None and settings.out.is_dir():
        raise InputError(f"{settings.out}: is a folder; --out wants a file such as {settings.out / 'result.json'}")
    info = describe_adapter(settings.adapter)
    check_classifier(settings.classifier, info)
    (moved,) = moved_parts([info], settings.running)
    boxes = settings.boxes.given_for(info.targets.kind)
    if "context_s" in info.training:  # a moment is looked at as in training
        boxes = {"context": info.training["context_s"]} | boxes
    chosen = evaluation_split(
        dataset.data,
        info.targets,
        info.training,
        split=settings.split,
        multi_label=dataset.multi_label,
        columns=dataset.columns | boxes,
    )
    task, split = chosen.task, chosen.split
    if settings.classifier is not None:
        check_classes(settings.classifier, task.label_names, task.name)
    if chosen.note:
        show.note(f"note: {chosen.note}")
    spec = recorded_spec(settings.adapter, info, settings.running, show)
    adapter = load_adapter(settings.adapter, moved=moved)
    encoder = adapter_encoder(adapter, settings.running, spec)
    reading = reading_of(settings.reading, settings.cluster)
    features = cell_features(task, (split,), encoder, spec, reading, show, dataset.max_unreadable)
    also = trained_on(features.samples[split], info.training)
    if also and split != "train":
        videos = len(digests_of(features.samples[split]))
        which = "" if split == "all" else f"{split} "
        show.note(f"note: the adapter was trained on {also} of the {videos} {which}videos (same bytes)")
    predictions = list(answer_samples(adapter, task, features.samples[split], features.source, show))
    name = settings.adapter
    if settings.classifier is not None:
        by_id = {sample.id: sample.clip for sample in features.samples[split]}
        asked = settings.running, settings.reading, show
        predictions = [*classify_proposals(predictions, by_id, settings.classifier, *asked, all_scores=True)]  # type: ignore[arg-type]
        name = f"{settings.adapter} + {adapter_id(settings.classifier)}"
    about: dict[str, Any] = {"config": settings_record(settings), "command": run_command(), "also_in_train": also}
    about["blind"] = judge_blind(info, task, split, features.samples[split], features.source, show, moved)
    result = judge_cell(adapter, task, split, predictions, features, encoder, name, settings.seed, **about)
    stem = plain_name(f"{task.name}-{split}-{settings.adapter}-{task.digest(split)[:8]}")
    path = settings.out or prismhub_home() / "results" / f"{stem}.json"
    result.write(path)
    targets = described_targets(task, features.samples[split])
    write_predictions(path.with_suffix(".predictions.jsonl"), predictions, targets)
    return Evaluated(result, path, task, predictions, features.report.failures)
