"""Splits: disjoint, complete, stratified, whole videos, the same whatever the order; given ones are kept."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core_encoder.clip_plan import Clip
from core_encoder.errors import InputError
from tasks.families.classification import ClassificationTask
from tasks.sample import Sample
from tasks.splits import split_samples, split_warnings, with_validation
from tasks.task import LazySplits


@st.composite
def datasets(draw: st.DrawFn, several: bool = False) -> list[Sample]:
    """Up to 40 clips of up to 30 videos; a video may have several clips, and clips of several classes."""
    samples = []
    for i in range(draw(st.integers(1, 40))):
        video = draw(st.integers(0, 29))
        labels = draw(st.lists(st.sampled_from("abcde"), min_size=0 if several else 1, max_size=3 if several else 1))
        clip = Clip(f"/data/{video}.mp4", float(i), i + 1.0)
        samples.append(Sample(f"{video}.mp4#{i}-{i + 1}", clip, tuple(dict.fromkeys(labels))))
    return samples


def draw_or_none(samples: list[Sample], seed: int = 0) -> dict[str, list[Sample]] | None:
    try:
        return split_samples(samples, 0.2, 0.2, seed=seed)
    except InputError:
        return None


def videos(samples: list[Sample], label: str | None = None) -> set[str]:
    return {sample.clip.path for sample in samples if label is None or label in sample.labels}


@settings(max_examples=150, deadline=None)
@given(st.booleans().flatmap(datasets), st.integers(0, 5), st.randoms(use_true_random=False))
def test_drawn_splits(samples: list[Sample], seed: int, random: object) -> None:
    splits = draw_or_none(samples, seed)
    if splits is None:  # only where train needs every video to know every class
        assert len(videos(samples)) <= len({label for sample in samples for label in sample.labels or ("",)})
        return
    drawn = [sample for members in splits.values() for sample in members]
    assert sorted(sample.id for sample in drawn) == sorted(sample.id for sample in samples)
    assert all(sample.split == name for name, members in splits.items() for sample in members)
    names = list(splits)
    assert names == [name for name in ("train", "val", "test") if name in names]
    for i, name in enumerate(names):
        for other in names[i + 1 :]:
            assert not videos(splits[name]) & videos(splits[other])
    for label in {label for sample in samples for label in sample.labels}:
        assert videos(splits["train"], label), "every class can be learned"
    shuffled = list(samples)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert draw_or_none(shuffled, seed) == splits
    moved = [replace(s, clip=replace(s.clip, path=s.clip.path.replace("/data", "/elsewhere"))) for s in samples]
    again = split_samples(moved, 0.2, 0.2, seed=seed)
    assert {name: [s.id for s in members] for name, members in again.items()} == {
        name: [s.id for s in members] for name, members in splits.items()
    }


def one_clip_each(**counts: int) -> list[Sample]:
    names = [(label, f"{label}/{i}.mp4") for label, count in counts.items() for i in range(count)]
    return [Sample(name, Clip(f"/d/{name}"), (label,)) for label, name in names]


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 40), min_size=1), st.integers(0, 3))
def test_each_class_is_divided_in_proportion(counts: dict[str, int], seed: int) -> None:
    if max(counts.values()) < 2:
        return
    splits = split_samples(one_clip_each(**counts), 0.25, 0.1, seed=seed)
    for label, n in counts.items():
        of = {name: len(videos(splits.get(name, []), label)) for name in ("train", "val", "test")}
        assert of["train"] >= 1
        assert of["val"] == (0 if n == 1 else max(1, round(0.25 * n)))
        assert of["test"] == (0 if n <= 2 else max(1, round(0.1 * n)))


def test_seeds_differ_and_fractions_may_be_zero() -> None:
    samples = one_clip_each(a=20, b=20)
    assert split_samples(samples, seed=0) != split_samples(samples, seed=1)
    assert [len(members) for members in split_samples(samples).values()] == [28, 6, 6]
    assert list(split_samples(samples, test_fraction=0)) == ["train", "val"]
    assert list(split_samples(samples, val_fraction=0, test_fraction=0)) == ["train"]
    assert list(split_samples(samples, val_fraction=0)) == ["train", "test"]


def test_common_labels_of_several_are_divided_too() -> None:
    samples = [
        Sample(f"{i}", Clip(f"/{i}.mp4"), ("common", "rare") if i % 10 == 0 else ("common",)) for i in range(100)
    ]
    splits = split_samples(samples, 0.2, 0.2)
    for name in ("val", "test"):
        assert len(videos(splits[name], "rare")) == 2
        assert len(videos(splits[name], "common")) == 20


def given_split(samples: list[Sample], *splits: str) -> list[Sample]:
    return [replace(sample, split=splits[i % len(splits)]) for i, sample in enumerate(samples)]


def test_given_splits_are_kept() -> None:
    samples = given_split(one_clip_each(a=9), "train", "val", "test")
    splits = split_samples(samples)
    assert {name: len(members) for name, members in splits.items()} == {"train": 3, "val": 3, "test": 3}
    assert sorted((s for members in splits.values() for s in members), key=lambda s: s.id) == samples
    only_test = given_split(one_clip_each(a=3), "test")
    assert split_samples(only_test) == {"test": only_test}


def test_val_is_taken_out_of_a_given_train() -> None:
    samples = given_split(one_clip_each(a=20, b=20), "train", "test")
    splits = split_samples(samples, val_fraction=0.2)
    assert {name: len(members) for name, members in splits.items()} == {"train": 16, "val": 4, "test": 20}
    assert {s.id for s in splits["test"]} == {s.id for s in samples if s.split == "test"}
    assert list(split_samples(samples, val_fraction=0)) == ["train", "test"]


def test_a_task_keeps_some_of_train_apart() -> None:
    samples = [Sample(f"{name}{k}", Clip(f"/{name}{k}.mp4"), ("ab"[k % 2],)) for name in "xy" for k in range(20)]
    splits = LazySplits({"train": lambda: samples[:20], "test": lambda: samples[20:]})
    task = ClassificationTask("letters", splits, ("a", "b"), ("top1",), "top1", "v1")
    kept = with_validation(task, 0.1)
    assert {name: len(some) for name, some in kept.splits.items()} == {"train": 18, "val": 2, "test": 20}
    assert {s.id for s in (*kept.samples("train"), *kept.samples("val"))} == {s.id for s in samples[:20]}
    assert kept.digest("test") == task.digest("test") and with_validation(task, 0.1).digest("val") == kept.digest("val")
    assert with_validation(kept, 0.5) is kept and with_validation(task, 0.0) is task
    alone = replace(task, splits={"train": samples[:1], "test": samples[20:]})
    with pytest.raises(InputError, match="no class has two videos"):
        with_validation(alone, 0.1)


def test_what_cannot_be_split() -> None:
    samples = one_clip_each(a=2, b=1)
    with pytest.raises(InputError, match=r"b/0\.mp4: has no split while other samples have one"):
        split_samples([*given_split(samples[:2], "train"), samples[2]])
    with pytest.raises(InputError, match="no class has two videos, so no val split can be drawn from 2"):
        split_samples(one_clip_each(a=1, b=1))
    with pytest.raises(InputError, match="no samples"):
        split_samples([])
    with pytest.raises(InputError, match=r"val_fraction must be at least 0 and less than 1, not 1\.5"):
        split_samples(samples, val_fraction=1.5)
    with pytest.raises(InputError, match="leave nothing to train on"):
        split_samples(samples, 0.5, 0.5)


def test_warnings_name_lonely_classes_and_leaks() -> None:
    assert split_warnings(split_samples(one_clip_each(a=5, b=3))) == []
    (val, test) = split_warnings(split_samples(one_clip_each(a=5, b=1)))
    assert val == "1 of 2 classes have no val sample: 'b'; not measured on val"
    assert "no test sample: 'b'" in test
    two = [Sample(str(i), Clip("/v.mp4", float(i)), ("a",), split) for i, split in enumerate(("train", "val"))]
    assert split_warnings(split_samples(two)) == [
        "1 videos have clips in several splits, e.g. /v.mp4; scores will be too high"
    ]
    learned = given_split(one_clip_each(a=1, b=1), "train", "test")
    assert "1 of 2 classes have no train sample: 'b'; never learned" in split_warnings(split_samples(learned, 0))
