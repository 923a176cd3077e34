"""Tasks over a user's own data: which family reads it, and on which split of it an adapter is judged."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from adapters.context import TargetSchema
from core_encoder.errors import InputError
from core_encoder.files.urls import as_location
from tasks.sample import Sample
from tasks.task import Task

_FAMILIES = {
    "classes": "tasks.families.classification:ClassificationTask",
    "pairs": "tasks.families.retrieval:RetrievalTask",
    "segments": "tasks.families.temporal_localization:TemporalLocalizationTask",
    "boxes": "tasks.families.spatiotemporal:SpatiotemporalTask",
    "text": "tasks.families.language:LanguageTask",
}
"""The family that reads a user's own data, by the kind of target that an adapter learns."""


def own_family(target_kind: str) -> type[Task]:
    """The family that reads a user's data for adapters of a target kind.

    Raises:
        InputError: there is none.
    """
    if target_kind not in _FAMILIES:
        raise InputError(f"own data with {target_kind} as targets cannot be read; known: {', '.join(_FAMILIES)}")
    module, _, name = _FAMILIES[target_kind].partition(":")
    return getattr(importlib.import_module(module), name)


def read_task(
    data: str | Path,
    target_kind: str,
    *,
    val_fraction: float,
    test_fraction: float,
    seed: int,
    multi_label: bool | None = None,
    columns: Mapping[str, Any] | None = None,
) -> Task:
    """The task over a folder or manifest, to train on.

    Raises:
        InputError: the data cannot be read; one line with file, line, field and the fix.
    """
    family = own_family(target_kind)
    return family.from_samples(
        family.read_samples(data, **(columns or {})),
        as_location(data).stem,
        multi_label=multi_label,
        val_fraction=val_fraction,
        test_fraction=test_fraction,
        seed=seed,
    )


@dataclass(frozen=True)
class JudgedOn:
    """What an adapter is evaluated on: a split of a task, and what there is to know of the choice."""

    task: Task
    split: str
    note: str = ""


def evaluation_split(
    data: str | Path,
    targets: TargetSchema,
    record: Mapping[str, Any],
    *,
    split: str | None = None,
    multi_label: bool | None = None,
    columns: Mapping[str, Any] | None = None,
) -> JudgedOn:
    """The task over `data` in the classes of an adapter, and the split to judge it on.

    Given splits are kept: test, else val, else train. Data without splits are all evaluated, unless they are the very
    ones the adapter was trained on, by what training recorded: then it is the test split that training kept apart.

    Raises:
        InputError: the data cannot be read, there is no such split, or `multi_label` contradicts the adapter.
    """
    if multi_label not in (None, targets.multi_label):
        raise InputError(f"the adapter was trained with multi_label={targets.multi_label}: leave the option out")
    family, name = own_family(targets.kind), as_location(data).stem
    samples = family.read_samples(data, **(columns or {}))
    given = {sample.split for sample in samples} - {None}

    def task_of(some: Sequence[Sample], seed: int = 0, **fractions: float) -> Task:
        return family.from_samples(
            some, name, classes=targets.label_names, multi_label=targets.multi_label, seed=seed, **fractions
        )

    if split != "all" and (given or "split_seed" in record):
        fractions = {part: record[part] for part in ("val_fraction", "test_fraction") if part in record}
        task: Task | None
        try:
            task = task_of(samples, seed=record.get("split_seed", 0), **fractions)
        except InputError:
            if given or split:
                raise
            task = None  # too few to be split as those of the training were
        known = task is not None and "train" in task.splits and task.digest("train") == record.get("data_digest")
        if task is not None and (given or known or split):
            chosen = split or next(part for part in ("test", "val", "train") if part in task.splits)
            task.samples(chosen)
            if given:
                return JudgedOn(task, chosen)
            if known:
                return JudgedOn(
                    task, chosen, f"these are the videos the adapter was trained on; evaluating its {chosen} split"
                )
            return JudgedOn(
                task, chosen, f"the {chosen} split is drawn anew; videos the adapter was trained on may be in it"
            )
    whole = task_of([replace(sample, split="test") for sample in samples])
    unknown = "" if "videos" in record else "; if the adapter was trained on some, scores are too high"
    note = f"evaluating all {len(samples)} samples{unknown}"
    return JudgedOn(replace(whole, splits={"all": whole.samples("test")}), "all", note)
