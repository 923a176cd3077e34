"""The head that says who does what where: it learns from boxes, follows tracks, and keeps the contract of all kinds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from adapters.adapter import Adapter
from adapters.boxes import BoxScores, Corners, Track
from adapters.card import AdapterInfo
from adapters.context import Context, TargetSchema
from adapters.features import Batch, Example, Times
from adapters.kinds.spatiotemporal_localizer import SpatiotemporalLocalizer, jittered
from adapters.lightning_adapter import FeatureDataModule
from adapters.predicting import answer_batch, merge_views
from adapters.predictions import Box
from adapters.registry import load_adapter, save_to_registry
from adapters.training.train_grid import train
from adapters.training.training_config import TrainingConfig
from core_encoder.clip_plan import ClipPlan
from core_encoder.errors import InputError
from core_encoder.features.feature_spec import FeatureSpec
from core_encoder.preprocessing import Preprocessing
from tasks.metrics.frame_map import FrameMAP

DIM, GRID, FRAMES, LABELS = 8, (3, 4), 4, ("run", "sit", "red")
PLACES: tuple[Corners, ...] = ((0.0, 0.0, 0.25, 0.34), (0.75, 0.6, 1.0, 1.0), (0.25, 0.34, 0.5, 0.67))
HEAD = {"hidden": 16, "heads": 2, "dropout": 0.0, "multi_label": True}
CONFIG = TrainingConfig(epochs=8, batch_size=8, lr=1e-2, accelerator="cpu")


def example(index: int, seed: int = 0, moving: bool = False) -> Example:
    """Two individuals at different places; what each does is a direction of the features under its box."""
    source = torch.Generator().manual_seed(1000 * seed + index)
    directions = 3 * torch.randn(3, DIM, generator=torch.Generator().manual_seed(99))
    grid = 0.3 * torch.randn(FRAMES, *GRID, DIM, generator=source)
    times = torch.arange(FRAMES) * 0.5 + 0.25
    people, target = [], []
    for place, corners in enumerate(PLACES[: 1 + index % 3]):
        does = (index + place) % 2
        labels = [LABELS[does]] + (["red"] if (index + place) % 3 == 0 else [])
        for label in labels:
            rows = slice(round(corners[1] * 3), max(round(corners[3] * 3), round(corners[1] * 3) + 1))
            columns = slice(round(corners[0] * 4), round(corners[2] * 4))
            grid[:, rows, columns] += directions[LABELS.index(label)]
        people.append(Track((corners,), id=str(place)))
        target += [Box(1.0, corners, label, 1.0, str(place)) for label in labels]
    inputs = {"boxes": tuple(people), "time_s": 1.0, "picture": None}
    span = Times(times, torch.tensor([0.0, 2.0]))
    return Example(
        grid.flatten(1, 2), torch.ones(FRAMES, dtype=torch.bool), tuple(target), f"{seed}-{index}", inputs, span
    )


def context(multi_label: bool = True) -> Context:
    return Context(DIM, TargetSchema("boxes", LABELS, multi_label), grid=GRID)


def build(seed: int = 0, **options: Any) -> SpatiotemporalLocalizer:
    return SpatiotemporalLocalizer.build({**HEAD, **options}, context(), seed=seed).eval()


def ask(adapter: Adapter, *examples: Example) -> list[BoxScores]:
    answers = answer_batch(adapter, adapter.collate(examples))
    assert all(isinstance(one, BoxScores) for one in answers)
    return answers  # type: ignore[return-value]


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> SpatiotemporalLocalizer:
    sets = [[example(i, seed) for i in range(count)] for seed, count in ((0, 24), (1, 8))]
    done = train(
        SpatiotemporalLocalizer,
        *sets,
        targets=context().targets,
        head=HEAD,
        config=CONFIG,
        run_dir=tmp_path_factory.mktemp("run"),
        metric=lambda: FrameMAP(LABELS),
        info=AdapterInfo(grid=GRID),
    )
    assert done.score is not None and done.score > 0.95
    assert done.history[-1]["train_loss"] < 0.5 * done.history[0]["train_loss"]
    assert isinstance(done.best, SpatiotemporalLocalizer)
    return done.best


def test_it_learns_what_each_of_several_does(learned: SpatiotemporalLocalizer) -> None:
    examples = [example(i, seed=2) for i in range(9)]
    metric = FrameMAP(LABELS)
    metric.update(ask(learned, *examples), [one.truth for one in examples])
    assert metric.compute() > 0.95
    (answer,) = ask(learned, examples[1])
    assert {(box.track, box.label) for box in answer.boxes} >= {("0", "sit"), ("1", "run")}


def test_it_learns_under_lightning() -> None:
    from lightning.pytorch import Trainer

    head = build()
    before = head.classifier.weight.clone()
    module = head.lightning_module(lr=1e-2)
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    sets = [example(i) for i in range(12)], [example(i, 1) for i in range(4)]
    Trainer(max_epochs=1, accelerator="cpu", **quiet).fit(module, FeatureDataModule(*sets, batch_size=4))
    assert not torch.equal(before, head.classifier.weight)


def test_saved_and_loaded_it_answers_the_same(learned: SpatiotemporalLocalizer) -> None:
    save_to_registry(learned, "boxes")
    again = load_adapter("boxes")
    (one,), (other,) = ask(learned, example(2, 3)), ask(again, example(2, 3))
    assert one.describe(all_scores=True) == other.describe(all_scores=True)


def test_neither_order_nor_neighbours_matter(learned: SpatiotemporalLocalizer) -> None:
    examples = [example(i, seed=4) for i in range(5)]
    alone = [ask(learned, one)[0] for one in examples]
    for answer, other in zip(ask(learned, *examples[::-1])[::-1], alone, strict=True):
        torch.testing.assert_close(answer.scores, other.scores, atol=1e-5, rtol=1e-4)


def test_padded_frames_change_nothing(learned: SpatiotemporalLocalizer) -> None:
    one = example(2, seed=5)
    mask = torch.tensor([True, True, True, False])
    padded = [replace(one, mask=mask, features=one.features.clone()) for _ in range(2)]
    padded[1].features[3] = 1e3
    first, second = (ask(learned, other)[0].scores for other in padded)
    torch.testing.assert_close(first, second)


def test_half_precision_is_near(learned: SpatiotemporalLocalizer) -> None:
    one = example(2, seed=6)
    with torch.autocast("cpu", torch.bfloat16):
        rough = ask(learned, one)[0].scores
    torch.testing.assert_close(rough, ask(learned, one)[0].scores, atol=0.03, rtol=0.05)
    stored = replace(one, features=one.features.half())
    torch.testing.assert_close(ask(learned, stored)[0].scores, ask(learned, one)[0].scores, atol=0.01, rtol=0.02)


def test_all_weights_learn_and_the_tokens_do_not() -> None:
    head = build(jitter=0.0).train()
    batch = head.collate([example(i) for i in range(3)])
    head.loss(batch).value.backward()
    assert all(one.grad is not None and bool(one.grad.abs().sum() > 0) for one in head.parameters())
    assert batch.features.grad is None


def test_pooling_follows_a_track() -> None:
    """Of an individual that crosses the picture, the answer hangs on the place where it is in each frame."""
    one = example(0)
    grid = torch.zeros(FRAMES, *GRID, DIM)
    ends = (0.0, 0.3, 0.25, 0.7), (0.75, 0.3, 1.0, 0.7)
    for frame in range(FRAMES):
        grid[frame, 1, frame] = 5.0  # a patch further in every frame
    tracks = (Track(ends, (0.25, 1.75), "a"),)
    moving = replace(one, features=grid.flatten(1, 2), inputs={**one.inputs, "boxes": tracks})
    head, still = build(follow=True), build(follow=False)
    seen, middle = (other._asked(other.collate([moving]))[0] for other in (head, still))
    np.testing.assert_allclose(seen.corners[0], [0.375, 0.3, 0.625, 0.7])
    np.testing.assert_allclose(seen.in_frames[0, :, 0], [0.0, 0.25, 0.5, 0.75], atol=1e-6)
    np.testing.assert_allclose(middle.in_frames[0, :, 0], [0.375] * 4)
    (followed,), (stood,) = ask(head, moving), ask(still, moving)
    assert not torch.allclose(followed.scores, stood.scores)


def test_windows_are_joined_into_segments_by_track(learned: SpatiotemporalLocalizer) -> None:
    """Without a moment, the answer is about the middle of a window, of those who are in it; windows are merged."""
    one = example(2)
    tracks = (
        Track((PLACES[0],) * 2, (0.0, 6.0), "long"),
        Track((PLACES[1],) * 2, (0.0, 1.0), "short"),
    )
    windows = []
    for start in (0.0, 2.0, 4.0):
        times = Times(torch.arange(FRAMES) * 0.5 + 0.25 + start, torch.tensor([start, start + 2]))
        windows.append(replace(one, times=times, inputs={"boxes": tracks}))
    answers = ask(learned, *windows)
    assert [answer.tracks for answer in answers] == [("long", "short"), ("long",), ("long",)]
    (merged,) = merge_views(learned, answers, [window.times for window in windows])
    assert merged.times_s == (1.0, 1.0, 3.0, 5.0)
    assert set(merged.segments) == {"long", "short"}
    for segment in merged.segments["long"]:
        assert (segment.start_s, segment.end_s) == (0.0, 6.0)
    record = merged.describe()
    assert record["tracks"]["long"][0]["end"] == 6.0 and record["boxes"][0]["track"] == "long"


def test_views_of_one_moment_are_averaged(learned: SpatiotemporalLocalizer) -> None:
    views = [replace(example(2, seed), id="a", inputs=example(2).inputs) for seed in (0, 1)]
    answers = ask(learned, *views)
    (merged,) = merge_views(learned, answers, [None, None])
    torch.testing.assert_close(merged.scores, (answers[0].scores + answers[1].scores) / 2)


def test_one_of_k_learns_from_boxes_that_are_somebodys() -> None:
    head = SpatiotemporalLocalizer.build({**HEAD, "multi_label": False, "jitter": 0.0}, context(False))
    one = example(0)
    alone = replace(one, target=tuple(box for box in one.target if box.label != "red"))
    stranger = Track(((0.5, 0.0, 0.75, 0.3),))
    more = replace(alone, inputs={**alone.inputs, "boxes": (*alone.inputs["boxes"], stranger)})
    first, second = (head.loss(head.collate([other])) for other in (alone, more))
    assert first.weight == second.weight == 1
    torch.testing.assert_close(first.value, second.value)
    nobody = replace(alone, inputs={**alone.inputs, "boxes": (stranger,)})
    none = head.loss(head.collate([nobody]))
    assert none.weight == 0 and float(none.value.detach()) == 0


def test_a_detection_has_the_labels_of_whom_it_overlaps() -> None:
    head = build()
    target = [Box(0.0, PLACES[0], "run", 1.0, "1"), Box(0.0, PLACES[0], "red", 1.0, "1"), Box(0.0, PLACES[1], "sit", 1)]
    found = np.array([(0.01, 0.0, 0.25, 0.34), (0.8, 0.6, 1.0, 1.0), (0.3, 0.3, 0.6, 0.6)])
    assert head._whose(found, target).tolist() == [[1, 0, 1], [0, 1, 0], [0, 0, 0]]


def test_a_sample_without_boxes_has_an_answer(learned: SpatiotemporalLocalizer) -> None:
    one = example(0)
    empty = replace(one, inputs={**one.inputs, "boxes": ()}, target=())
    answers = ask(learned, empty, one)
    assert answers[0].boxes == () and answers[0].describe() == {"id": one.id, "boxes": []} and answers[1].boxes
    assert float(learned.loss(learned.collate([empty])).weight) == 0


def test_corners_are_enough_and_bad_ones_are_refused(learned: SpatiotemporalLocalizer) -> None:
    one = example(1)
    plain = replace(one, times=None, inputs={"boxes": torch.tensor(PLACES[:2])})
    torch.testing.assert_close(ask(learned, plain)[0].scores, ask(learned, one)[0].scores)
    wrong = {
        "seems to be in pixels": [[10.0, 20.0, 110.0, 220.0]],
        "reaches outside the picture": [[0.1, 0.1, 1.2, 0.5]],
        "has no area": [[0.5, 0.1, 0.5, 0.9]],
        "is not finite": [[float("nan"), 0.1, 0.5, 0.9]],
        "boxes must be corners": [[0.1, 0.2, 0.3]],
    }
    for says, boxes in wrong.items():
        with pytest.raises(InputError, match=says):
            ask(learned, replace(one, inputs={"boxes": boxes}))
    with pytest.raises(InputError, match="give it, as in predict"):
        ask(learned, replace(one, inputs={}))
    with pytest.raises(InputError, match="need features whose times are known"):
        ask(learned, replace(one, times=None, inputs={"boxes": (Track(PLACES[:2], (0.0, 1.0)),)}))


def test_boxes_are_those_of_what_the_encoder_saw() -> None:
    """CLIP sees the middle square: a box at the left edge of a wide picture is outside of it."""
    spec = FeatureSpec("x", "f" * 64, ClipPlan(4), Preprocessing(48, "center_crop"), "pyav-1", grid=GRID)
    head = SpatiotemporalLocalizer.build(HEAD, replace(context(), features=spec))
    one = example(0)
    with pytest.raises(InputError, match="give its size too"):
        head._asked(head.collate([one]))
    inputs = {"boxes": ((0.25, 0.0, 0.75, 0.5),), "picture": (200, 100)}
    (asked,) = head._asked(head.collate([replace(one, inputs=inputs)]))
    np.testing.assert_allclose(asked.in_frames[0, 0], [0.0, 0.0, 1.0, 0.5], atol=1e-6)


def test_jitter_moves_boxes_by_no_more_than_it_says() -> None:
    torch.manual_seed(0)
    boxes = torch.tensor([0.3, 0.4, 0.5, 0.8]).expand(200, 3, 4)
    moved = jittered(boxes, 0.1)
    assert bool((moved == moved[:, :1]).all()) and not torch.equal(moved, boxes)
    width, middle = moved[:, 0, 2] - moved[:, 0, 0], (moved[:, 0, 2] + moved[:, 0, 0]) / 2
    assert float(width.min()) >= 0.2 / 1.1 - 1e-6 and float(width.max()) <= 0.22 + 1e-6
    assert float((middle - 0.4).abs().max()) <= 0.02 + 1e-6
    head, batch = build(jitter=0.3), build().collate([example(2)])
    assert torch.equal(head.eval()._logits(batch, head._asked(batch)), head._logits(batch, head._asked(batch)))


def test_options_out_of_range_are_refused() -> None:
    for options in ({"jitter": 1.0}, {"match_iou": 0.0}, {"bins": 0}, {"heads": 3}, {"mlp_ratio": 0.0}):
        with pytest.raises(InputError):
            build(**options)
    with pytest.raises(InputError, match="wants features"):
        ask(build(), replace(example(0), features=torch.zeros(FRAMES, DIM)))
    batch: Batch = build().collate([example(0)])
    assert batch.targets[0][0].label == "run"


def test_a_run_cut_off_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    sets = [example(i) for i in range(10)], [example(i, 1) for i in range(4)]

    def run(folder: str, epochs: int, **more: Any) -> Any:
        config = replace(CONFIG, epochs=2, batch_size=5)
        if epochs < 2:  # stopped after the first epoch, as by Ctrl-C

            def stop(progress: Any) -> None:
                if progress.epoch >= 2:
                    raise KeyboardInterrupt

            more["progress"] = stop
        return train(
            SpatiotemporalLocalizer,
            *sets,
            targets=context().targets,
            head=HEAD,
            config=config,
            run_dir=tmp_path / folder,
            info=AdapterInfo(grid=GRID),
            **more,
        )

    whole = run("whole", 2).best.saved_state()
    with pytest.raises(KeyboardInterrupt):
        run("cut", 1)
    for name, tensor in run("cut", 2).best.saved_state().items():
        assert torch.equal(tensor, whole[name]), name
