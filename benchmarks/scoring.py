"""Score one cell of a matrix: train where it is to be trained, answer, judge, and say what it took."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.cell import Cell, CellFeatures, answer_samples, data_sets, train_once
from benchmarks.cost import Stopwatch, peak_memory_bytes
from benchmarks.encoding import Watch
from benchmarks.leakage import record_videos, repeated_videos
from benchmarks.matrix_cells import MatrixCell, digest
from benchmarks.prediction_log import kept_predictions, prediction_log
from benchmarks.results import Cost, Provenance, Result, State
from benchmarks.words import answer_in_words
from core_encoder.errors import InputError
from tasks.splits import with_validation
from tasks.task import Task

if TYPE_CHECKING:
    from adapters.predictions import Prediction
    from tasks.sample import Sample


def score_cell(cell: MatrixCell, task: Task, features: CellFeatures, watch: Watch, about: Mapping[str, Any]) -> Result:
    """Train, answer and judge a cell; every answer is on the disk before the next, a trained adapter at the end.

    What a run that was cut off had trained and answered is gone on with.

    Args:
        task: with val, where something of train is kept apart for it (`with_some_kept`).
        features: of the splits of the task that the cell needs.
        about: the fields of its result that `cell_fields` gives, and its `identity`.

    Raises:
        InputError: the targets do not fit the head, or the answers not the task.
        TrainingDiverged: the loss became NaN.
    """
    assert cell.spec is not None
    clock = Stopwatch()
    trained = None
    run = cell.run_folder / about["identity"][:12]  # what was begun on other data is not gone on with
    if cell.how == "trained":
        with clock.measure("train"):
            trained = _train(cell, task, features, run, watch)
    names = trained.label_names if trained is not None else task.label_names
    with clock.measure("predict"):
        part = run / "predictions.jsonl"
        predictions = kept_predictions(part, names, task.schema.multi_label)
        answered = {one.sample_id for one in predictions}
        samples = [sample for sample in features.samples["test"] if sample.id not in answered]
        if answered:
            watch.note(f"{len(answered)} answers are there already, {len(samples)} are missing")
        answers = _answers(cell, trained, task, samples, features, watch) if samples else iter(())
        predictions += _logged(cell, task, samples, answers, part)
    failed = {failure.clip: failure.reason for failure in features.report.failures}
    with clock.measure("judge"):
        scores = task.judge(predictions, "test", seed=cell.seed)
    also = repeated_videos(features.samples, "test")[0] if cell.how == "trained" else None
    memory, gpu_memory = peak_memory_bytes()
    result = Result.of(
        scores,
        reasons={one.id: failed[one.clip] for one in task.samples("test") if one.clip in failed},
        protocol=task.protocol,
        data_digest=task.digest("test"),
        label_names=list(names),
        adapter_sha256=cell.saved.weights_sha256 or None if cell.saved is not None else None,
        clip_plan=cell.spec.plan.describe(),
        digests=digests(task, cell.how == "words" or cell.saved is not None),
        also_in_train=also,
        provenance=Provenance.collect(
            decoder=cell.spec.decoder,
            device=cell.encoder.device.type,
            precision=cell.spec.precision,
            seed=cell.seed,
        ),
        cost=Cost(
            encode_s=round(features.report.elapsed_s, 3),
            encoded=features.report.n_encoded,
            train_s=round(clock.seconds.get("train", 0.0), 3),
            predict_s=round(clock.seconds["predict"], 3),
            judge_s=round(clock.seconds["judge"], 3),
            peak_memory_bytes=memory,
            peak_gpu_bytes=gpu_memory,
            parameters=sum(tensor.numel() for tensor in trained.saved_state().values()) if trained else None,
        ),
        **about,
    )
    if trained is not None:
        trained.info = replace(trained.info, evaluations=(result.as_scores(),))
        trained.save_pretrained(cell.adapter_folder)
        result = replace(result, adapter_sha256=trained.info.weights_sha256)
    return result


def with_some_kept(cell: MatrixCell, task: Task, watch: Watch | None) -> Task:
    """The task with some of train kept apart to choose epochs and settings by, where a head is trained without val."""
    if cell.how != "trained":
        return task
    try:
        return with_validation(task, cell.options.val_fraction)
    except InputError as error:
        if watch is not None:
            watch.note(f"note: {cell.benchmark.name}: nothing of train is kept apart ({error}); the last epoch counts")
        return task


def _train(cell: MatrixCell, task: Task, features: CellFeatures, run: Path, watch: Watch) -> Any:
    """The head of a cell, trained; a training that was cut off goes on."""
    from adapters.card import AdapterInfo
    from adapters.registry import adapter_kind

    kind = adapter_kind(cell.adapter)
    drawn = {"split_seed": 0, "val_fraction": cell.options.val_fraction}
    one = Cell(
        name=cell.path.stem,
        task=task,
        kind=kind,
        head={**cell.head, **kind.options_for(task.schema)},
        training=cell.options.training,
        grid=cell.grid,
        max_unreadable=cell.options.max_unreadable,
        record={**drawn, **task.record},
    )
    one.check()
    info = AdapterInfo(
        encoder_source=cell.source,
        features=features.spec,
        task=task.family,
        dataset=task.name,
        card=task.card,
        seed=cell.seed,
    )
    adapter = train_once(one, data_sets(one, features), info, run, cell.seed, watch).best
    record = {"data_digest": task.digest("train"), **record_videos(features.samples["train"]), **one.record}
    adapter.info = replace(adapter.info, training=adapter.info.training | record)
    return adapter.to(cell.encoder.device)


def _answers(
    cell: MatrixCell, trained: Any, task: Task, samples: Sequence[Sample], features: CellFeatures, watch: Watch
) -> Iterator[Prediction]:
    """What is said of each sample, as it is asked for."""
    if cell.how == "trained":
        return answer_samples(trained, task, samples, features.source, watch)
    adapter = None
    if cell.saved is not None:
        from adapters.registry import load_adapter

        adapter = load_adapter(cell.adapter, cell.encoder, device=str(cell.encoder.device))
        if not cell.benchmark.zero_shot:
            return answer_samples(adapter, task, samples, features.source, watch)
    return answer_in_words(cell.encoder, adapter, task, samples, features.source, watch)


def _logged(
    cell: MatrixCell, task: Task, samples: Sequence[Sample], answers: Iterator[Prediction], part: Path
) -> Iterator[Prediction]:
    """The answers, each on the disk before the next is asked for, in `part` until all are."""
    by_id = {sample.id: sample for sample in samples}
    with prediction_log(cell.predictions_path, part) as write:
        for answer in answers:
            sample = by_id[answer.sample_id]
            write(answer, {"video": _video_name(sample, cell.options.data_root), **task.describe_sample(sample)})
            yield answer


def _video_name(sample: Sample, root: Path) -> str:
    """The video of a sample by its place below the root of all data sets, the same on every machine."""
    path = Path(sample.clip.path)
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else sample.clip.path


def digests(task: Task, in_words: bool) -> dict[str, str]:
    """The sha256 of the ids that are judged, of the class names, and of what an answer in words is asked with."""
    found = {"ids": digest(sorted(sample.id for sample in task.samples("test")))}
    if task.label_names:
        found["class_names"] = digest(list(task.label_names))
    record = task.record if in_words else {}
    if prompts := [value for name, value in record.items() if name.endswith("_sha256")]:
        found["prompts"] = str(prompts[0])
    return found


def cell_fields(cell: MatrixCell, config: Mapping[str, Any], command: str | None) -> dict[str, Any]:
    """What every result says of its cell, whether it has scores or not."""
    return {
        "task": cell.benchmark.name,
        "suite": cell.benchmark.suite,
        "split": "test",
        "adapter": cell.adapter,
        "encoder": cell.encoder.name,
        "encoder_fingerprint": cell.encoder.fingerprint,
        "config": {**config, "cell": cell.settings},
        "command": command,
    }


def without_scores(cell: MatrixCell, state: State, reason: str, about: Mapping[str, Any]) -> Result:
    """The result of a cell that has no scores; `about` is what `cell_fields` gives."""
    return Result(
        protocol=cell.benchmark.protocol,
        data_digest="",
        label_names=[],
        main_metric=cell.benchmark.metric,
        scores={},
        n_evaluated=0,
        n_total=0,
        state=state,
        reason=reason,
        provenance=Provenance.collect(seed=cell.seed),
        **about,
    )
