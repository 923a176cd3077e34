"""`temporal_localizer` on features that say when: it learns, keeps its contract, and refuses times that do not fit."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from adapters.context import Context, TargetSchema
from adapters.features import Example, Times
from adapters.kinds.temporal_localizer import TemporalLocalizer
from adapters.predicting import answer_batch
from adapters.predictions import PROPOSAL, Segment, Segments, Timeline
from adapters.training.train_grid import TrainingResult, train
from adapters.training.training_config import TrainingConfig
from core_encoder.errors import InputError
from tasks.metrics.temporal_detection import RunningTemporalScore, score_named

DIM, LABELS = 6, ("run", "sit")
SMALL = {"hidden": 16, "heads": 2, "levels": 3, "reach": 4, "dropout": 0.0}
CONFIG = TrainingConfig(epochs=20, batch_size=4, lr=5e-3, accelerator="cpu")
SCHEMA = TargetSchema("segments", LABELS)


def example(index: int, seed: int = 0, stride_s: float = 0.5, **known: Any) -> Example:
    """A video of 20 to 31 windows in which two things happen, each along a direction of its own."""
    rng = torch.Generator().manual_seed(1000 * seed + index)
    count = 20 + index % 12
    starts = torch.arange(count, dtype=torch.float64) * stride_s
    spans = torch.stack([starts, starts + 2 * stride_s], -1)
    features = 0.3 * torch.randn(count, DIM, generator=rng)
    first, length = 2 + index % 4, 4 + index % 3
    rows = []
    for place, label in ((first, index % 2), (first + 9, (index + index // 2) % 2)):
        features[place : place + length, label] += 3.0
        start_s = float(spans[place].mean()) - stride_s / 2
        rows.append(Segment(start_s, start_s + length * stride_s, LABELS[label], 1.0))
    target = Timeline(tuple(rows), **known) if known else rows
    return Example(features, None, target, f"v{seed}-{index}", times=Times(starts[:, None], spans))


def built(**options: Any) -> TemporalLocalizer:
    adapter = TemporalLocalizer.build(SMALL | options, Context(DIM, SCHEMA), seed=1)
    adapter.calibrate([example(index) for index in range(4)])
    return adapter.eval()


def run(folder: Path, config: TrainingConfig = CONFIG, count: int = 16, **options: Any) -> TrainingResult:
    return train(
        TemporalLocalizer,
        [example(index) for index in range(count)],
        [example(index, seed=1) for index in range(4)],
        targets=SCHEMA,
        head=SMALL | options,
        config=config,
        metric=map_of_segments,
        run_dir=folder,
    )


def map_of_segments() -> RunningTemporalScore:
    return RunningTemporalScore("map")


def answers(adapter: TemporalLocalizer, count: int = 6, seed: int = 2) -> list[Segments]:
    batch = adapter.collate([example(index, seed) for index in range(count)])
    return answer_batch(adapter, batch)  # type: ignore[return-value]


def truths(count: int = 6, seed: int = 2) -> list[Timeline]:
    return [Timeline.of(example(index, seed).target) for index in range(count)]


@pytest.mark.parametrize("boundary", ["direct", "tridet"])
def test_it_learns_when_and_what(boundary: str, tmp_path: Path) -> None:
    best = run(tmp_path, boundary=boundary, bins=8).best
    assert isinstance(best, TemporalLocalizer)
    found = answers(best)
    assert score_named("map@0.5", found, truths()) > 0.9
    assert score_named("map", found, truths()) > 0.5
    again = TemporalLocalizer.from_folder(best.save_pretrained(tmp_path / "saved"))
    assert [one.describe(all_scores=True) for one in answers(again)] == [one.describe(all_scores=True) for one in found]
    assert len(found[0].shown()) < len(found[0].segments) and json.dumps(found[0].describe())


def test_it_says_when_without_saying_what(tmp_path: Path) -> None:
    best = run(tmp_path, class_agnostic=True).best
    found = answers(best)  # type: ignore[arg-type]
    assert {one.label for said in found for one in said.segments} == {PROPOSAL}
    assert score_named("map@0.5", found, truths()) > 0.9


def test_an_interrupted_run_ends_as_a_calm_one(tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    def stop(now: Any) -> None:
        if now.step == 5:
            raise Stop

    quick = replace(CONFIG, epochs=3, checkpoint_every_s=0.0)
    calm = run(tmp_path / "calm", quick, 8).best.saved_state()
    examples = [example(index) for index in range(8)], [example(index, seed=1) for index in range(4)]
    about: dict[str, Any] = {"targets": SCHEMA, "head": SMALL, "config": quick, "metric": map_of_segments}
    with pytest.raises(Stop):
        train(TemporalLocalizer, *examples, run_dir=tmp_path / "cut", progress=stop, **about)
    again = train(TemporalLocalizer, *examples, run_dir=tmp_path / "cut", **about).best.saved_state()
    assert all(torch.equal(again[name], tensor) for name, tensor in calm.items())


def test_neither_padding_nor_the_order_of_a_batch_matters() -> None:
    adapter = built(min_score=0.0)
    together = answers(adapter, 5)
    for index, said in enumerate(together):
        (alone,) = answer_batch(adapter, adapter.collate([example(index, 2)]))
        assert isinstance(alone, Segments)
        pairs = zip(alone.segments, said.segments, strict=True)
        assert all(abs(one.score - other.score) < 1e-5 for one, other in pairs)
    whole = adapter.loss(adapter.collate([example(0), example(1)]))
    parts = [adapter.loss(adapter.collate([example(index)])) for index in (0, 1)]
    torch.testing.assert_close(
        whole.value * whole.weight, parts[0].value * parts[0].weight + parts[1].value * parts[1].weight
    )


@pytest.mark.parametrize("boundary", ["direct", "tridet"])
def test_every_parameter_learns(boundary: str) -> None:
    adapter = built(boundary=boundary, bins=4).train()
    adapter.loss(adapter.collate([example(index) for index in range(6)])).value.backward()
    silent = [name for name, p in adapter.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not silent


def test_what_nobody_annotated_teaches_nothing() -> None:
    adapter = built()
    whole = example(3)
    late = replace(whole, features=whole.features.clone())
    late.features[15:] += 50.0  # far outside of what was annotated, and beyond what the first places attend to

    def loss_of(one: Example, **known: Any) -> float:
        target = Timeline(tuple(s for s in whole.target if s.end_s < 5), **known)
        batch = adapter.collate([replace(one, target=target)])
        return adapter.loss(batch).value.item()

    assert loss_of(whole) != loss_of(whole, annotated=((0.0, 5.0),))
    assert loss_of(whole, annotated=()) == 0.0
    assert loss_of(whole, classes=("run", "sit")) == loss_of(whole)
    assert loss_of(whole, classes=("sit",)) < loss_of(whole)
    changed = adapter.collate([replace(whole, target=Timeline((Segment(8.0, 9.0, "run", 1.0),), ((0.0, 5.0),)))])
    empty = adapter.collate([replace(whole, target=Timeline((), ((0.0, 5.0),)))])
    assert adapter.loss(changed).value == adapter.loss(empty).value  # it lies where nobody looked
    assert torch.isfinite(torch.tensor(loss_of(late, annotated=((0.0, 5.0),))))


def test_segments_stay_in_the_video_and_times_are_seconds() -> None:
    adapter = built(min_score=0.0)
    late = example(1, 2)
    assert late.times is not None
    shifted = replace(late, times=Times(late.times.frames + 100, late.times.span + 100))
    (here,), (there,) = (answer_batch(adapter, adapter.collate([one])) for one in (late, shifted))
    assert isinstance(here, Segments) and isinstance(there, Segments)
    end_s = float(late.times.span.max())
    assert all(0 <= one.start_s < one.end_s <= end_s for one in here.segments)
    for one, other in zip(here.segments[:20], there.segments[:20], strict=True):
        assert other.start_s - one.start_s == pytest.approx(100, abs=1e-3)


def test_half_precision_is_near() -> None:
    adapter = built()
    batch = adapter.collate([example(0), example(1)])
    with torch.no_grad():
        exact = adapter(batch.features, batch.mask).logits
        with torch.autocast("cpu", torch.bfloat16):
            near = adapter(batch.features, batch.mask).logits.float()
    assert (exact - near).abs().max() < 0.15


def test_times_that_do_not_fit_are_refused() -> None:
    adapter = built()
    with pytest.raises(InputError, match="v2-0: one vector every 1 s, but the adapter learned from one every 0.5 s"):
        answer_batch(adapter, adapter.collate([example(0, 2, stride_s=1.0)]))
    with pytest.raises(InputError, match="v0-1: one vector every 0.25 s, but"):
        adapter.calibrate([example(0), example(2), example(1, stride_s=0.25)])
    short = example(0)
    assert short.times is not None
    one = replace(short, features=short.features[:1], times=Times(short.times.frames[:1], short.times.span[:1]))
    with pytest.raises(InputError, match="no training video has two feature vectors"):
        adapter.calibrate([one])
    with pytest.raises(InputError, match="was not calibrated"):
        fresh = TemporalLocalizer.build(SMALL, Context(DIM, SCHEMA))
        fresh.loss(fresh.collate([example(0)]))
    (alone,) = answer_batch(adapter, adapter.collate([one]))
    assert isinstance(alone, Segments)  # a video of one window is answered by the stride of the training


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"levels": 0}, "levels must be at least 1"),
        ({"radius": 0}, "radius must be above 0"),
        ({"hidden": 10, "heads": 4}, "hidden=10 is no multiple of heads=4"),
        ({"boundary": "tridett"}, "boundary"),
        ({"dropout": 1.0}, "dropout must be at least 0 and below 1"),
    ],
)
def test_options_out_of_range(options: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        TemporalLocalizer.build(options, Context(DIM, SCHEMA))


def test_one_vector_a_frame() -> None:
    adapter = TemporalLocalizer.build(SMALL | {"reads": "frames"}, Context(DIM, SCHEMA))
    assert adapter.feature_kind_for(adapter.config) == "frames"
    starts = torch.arange(5, dtype=torch.float64) * 2
    times = Times(starts[:, None] + torch.arange(4) * 0.5, torch.stack([starts, starts + 2], -1))
    one = Example(torch.randn(5, 4, DIM), torch.ones(5, 4, dtype=torch.bool), [], "a", times=times)
    adapter.calibrate([one])
    assert float(adapter.stride_s) == 0.5 and adapter.collate([one]).features.shape == (1, 20, DIM)
