"""Train, val and test: the given splits, or seeded ones that keep all clips of a video together. No torch."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from core_encoder.errors import InputError
from tasks.sample import Sample

if TYPE_CHECKING:
    from tasks.task import Task

AnyTask = TypeVar("AnyTask", bound="Task")
SPLIT_NAMES: Mapping[str, str] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validate": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}
"""Every spelling of a split that is understood, and what it means."""


def split_name(name: str) -> str | None:
    """`Validation` -> `val`; None when the name is no split's."""
    return SPLIT_NAMES.get(name.strip().lower())


def split_samples(
    samples: Sequence[Sample], val_fraction: float = 0.15, test_fraction: float = 0.15, seed: int = 0
) -> dict[str, list[Sample]]:
    """Samples of each split that has any, in the order train, val, test; each sorted by id.

    Given splits are kept; where train is given and val is not, val is taken out of train. Without given splits val
    and test are drawn: stratified by class, all clips of one video file in one split, the same for a seed whatever
    the order of the samples or the place of the folder. A class of two videos or more has one in train and one in
    val, of three or more also one in test; a class of one video stays in train (`split_warnings` names it).

    Raises:
        InputError: no samples, only some have a split, or no class has enough videos to draw a split.
    """
    for what, fraction in (("val_fraction", val_fraction), ("test_fraction", test_fraction)):
        if not 0.0 <= fraction < 1.0:
            raise InputError(f"{what} must be at least 0 and less than 1, not {fraction}")
    if val_fraction + test_fraction >= 1.0:
        raise InputError(f"val_fraction {val_fraction} and test_fraction {test_fraction} leave nothing to train on")
    if not samples:
        raise InputError("there are no samples to split")
    bare = next((sample for sample in samples if sample.split is None), None)
    if bare is not None and any(sample.split for sample in samples):
        raise InputError(f"{bare.id}: has no split while other samples have one; give every sample a split or none")
    splits: dict[str, list[Sample]] = defaultdict(list)
    for sample in sorted(samples, key=lambda sample: sample.id):
        splits[sample.split or ""].append(sample)
    if bare is not None:
        splits = _draw(splits[""], {"val": val_fraction, "test": test_fraction}, seed)
    elif "train" in splits and "val" not in splits and val_fraction > 0:
        splits |= _draw(splits["train"], {"val": val_fraction}, seed)
    return {
        name: [replace(sample, split=name) for sample in splits[name]]
        for name in ("train", "val", "test")
        if splits.get(name)
    }


def with_validation(task: AnyTask, fraction: float, seed: int = 0) -> AnyTask:
    """The task with a share of train kept apart as val, drawn as `split_samples` does; unchanged where it has one.

    Raises:
        InputError: no class has two videos.
    """
    if "train" not in task.splits or "val" in task.splits or not fraction:
        return task
    train = [replace(sample, split="train") for sample in task.samples("train")]
    drawn = split_samples(train, fraction, 0.0, seed)
    others = {name: task.samples(name) for name in task.splits if name != "train"}
    return replace(task, splits={name: tuple(some) for name, some in drawn.items()} | others)


def split_warnings(splits: Mapping[str, Sequence[Sample]]) -> list[str]:
    """One line for each thing a user should know: classes that miss a split, videos that are in two."""
    warnings = []
    counts = {name: Counter(label for s in samples for label in s.labels) for name, samples in splits.items()}
    classes = sorted({label for counter in counts.values() for label in counter})
    for name, counter in counts.items():
        missing = [label for label in classes if not counter[label]]
        if missing:
            shown = ", ".join(repr(label) for label in missing[:5]) + (", ..." if len(missing) > 5 else "")
            reason = "never learned" if name == "train" else f"not measured on {name}"
            warnings.append(f"{len(missing)} of {len(classes)} classes have no {name} sample: {shown}; {reason}")
    places: dict[str, set[str]] = defaultdict(set)
    for name, samples in splits.items():
        for sample in samples:
            places[sample.clip.path].add(name)
    shared = sorted(path for path, names in places.items() if len(names) > 1)
    if shared:
        warnings.append(f"{len(shared)} videos have clips in several splits, e.g. {shared[0]}; scores will be too high")
    return warnings


def _draw(samples: list[Sample], fractions: Mapping[str, float], seed: int) -> dict[str, list[Sample]]:
    """Divide by video, the rarest classes first (Sechidis et al. 2011, with one video of each class kept in train)."""
    videos: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        videos[sample.clip.path].append(sample)
    groups = {min(sample.id for sample in clips): clips for clips in videos.values()}
    classes = {key: {label for s in clips for label in s.labels} or {""} for key, clips in groups.items()}
    members: dict[str, list[str]] = defaultdict(list)
    for key in sorted(groups, key=lambda key: hashlib.sha256(f"{seed}\0{key}".encode()).digest()):
        for label in classes[key]:
            members[label].append(key)
    rarest_first = sorted(members, key=lambda label: (len(members[label]), label))
    place: dict[str, str] = {}
    for label in rarest_first:
        if not any(key in place for key in members[label]):
            place[members[label][0]] = "train"
    placed = {name: Counter[str]() for name in fractions}
    for label in rarest_first:
        wanted = _quota(len(members[label]), fractions)
        for key in members[label]:
            if key in place:
                continue
            name = max(fractions, key=lambda name: wanted[name] - placed[name][label])
            if wanted[name] <= placed[name][label]:
                place[key] = "train"
                continue
            place[key] = name
            placed[name].update(classes[key])
    splits: dict[str, list[Sample]] = {name: [] for name in ("train", *fractions)}
    for key, clips in groups.items():
        splits[place[key]] += clips
    for name, fraction in fractions.items():
        splits[name].sort(key=lambda sample: sample.id)
        if fraction > 0 and not splits[name] and name == "val":
            raise InputError(
                f"no class has two videos, so no {name} split can be drawn from {len(groups)}"
                "; add videos, or give the splits as folders or a column"
            )
    splits["train"].sort(key=lambda sample: sample.id)
    return splits


def _quota(num_videos: int, fractions: Mapping[str, float]) -> dict[str, int]:
    """Videos of one class for each drawn split: the rounded share, at least one while train keeps one."""
    left = num_videos - 1
    quota = {}
    for name, fraction in fractions.items():
        quota[name] = min(left, max(round(num_videos * fraction), 1)) if fraction > 0 else 0
        left -= quota[name]
    return quota
