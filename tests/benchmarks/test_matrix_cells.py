"""What cells a matrix has: who answers, under which name, in which shard."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from adapters.card import AdapterInfo
from adapters.context import TargetSchema
from adapters.training.training_config import TrainingConfig
from benchmarks.matrix_cells import (
    AdapterChoice,
    MatrixCell,
    MatrixOptions,
    check_options,
    distinct_cells,
    matrix_columns,
    plan_for,
    shard_of,
)
from core_encoder.clip_plan import ClipPlan
from core_encoder.encoder import Encoder, load_encoder
from core_encoder.errors import InputError
from tasks.catalog import SUITES
from tasks.registry import find_benchmark

ALL = [find_benchmark(name) for names in SUITES.values() for name in names]


@pytest.fixture(scope="module")
def nano() -> Encoder:
    return load_encoder("nano")


def options(**given: Any) -> MatrixOptions:
    return MatrixOptions(Path("data"), Path("results"), **given)


def cells_of(nano: Encoder, names: Sequence[str] = (), **given: Any) -> list[MatrixCell]:
    chosen = [find_benchmark(name) for name in names] or ALL
    return distinct_cells(matrix_columns([("nano", nano)], chosen, (), options(**given)))


def test_every_benchmark_is_answered_by_its_own_head_or_by_words(nano: Encoder) -> None:
    cells = {cell.benchmark.name: cell for cell in cells_of(nano)}
    assert len(cells) == len(ALL)
    for one in ALL:
        assert cells[one.name].adapter == (one.head or "words")
        assert cells[one.name].how == ("trained" if one.head else "words")
        spec = cells[one.name].spec
        assert spec is not None and spec.plan.num_frames == nano.num_frames
        assert (spec.kind == "embedding") == (not one.head)
    assert cells["kinetics400"].splits == ("train", "test") and cells["kinetics400-zs"].splits == ("test",)


def test_benchmarks_of_one_data_set_and_plan_are_one_batch(nano: Encoder) -> None:
    batches: dict[Any, set[str]] = {}
    for cell in cells_of(nano):
        batches.setdefault(cell.batch, set()).add(cell.benchmark.name)
    assert {"msrvtt-t2v", "msrvtt-v2t", "msrvtt-cap", "msrvtt-qa"} in batches.values()
    assert {"ssv2", "ssv2-temporal", "ssv2-events"} in batches.values()
    assert {"kinetics400"} in batches.values() and {"kinetics400-zs"} in batches.values()  # of four views, and of one


def test_chosen_adapters_answer_what_they_fit_and_own_heads_the_rest(nano: Encoder) -> None:
    benchmarks = [find_benchmark(name) for name in ("kinetics400", "ava", "msrvtt-t2v")]
    choices = [AdapterChoice("linear"), AdapterChoice("map_classifier")]
    linear, mapped = matrix_columns([("nano", nano)], benchmarks, choices, options())
    answered = {name: [cell.adapter for cell in cells] for name, cells in linear.cells.items()}
    assert answered == {"kinetics400": ["linear"], "ava": ["spatiotemporal_localizer"], "msrvtt-t2v": ["words"]}
    assert mapped.cells["kinetics400"][0].adapter == "map_classifier"
    assert len(distinct_cells([linear, mapped])) == 4  # ava and msrvtt-t2v are shared


def saved(kind: str, dataset: str = "") -> AdapterChoice:
    return AdapterChoice("mine@v1", AdapterInfo(kind="x", targets=TargetSchema(kind), dataset=dataset))  # type: ignore[arg-type]


def test_saved_adapters_fit_what_they_learned() -> None:
    fitting = {
        name: {one.name for one in ALL if choice.fits(one)}
        for name, choice in {
            "pairs": saved("pairs"),
            "text": saved("text"),
            "classes": saved("classes", "ssv2"),
        }.items()
    }
    assert fitting["pairs"] == {one.name for one in ALL if one.zero_shot}
    assert fitting["text"] == {*SUITES["captioning"], *SUITES["qa"]}
    assert fitting["classes"] == {"ssv2"}


def test_an_adapter_of_an_encoder_that_is_not_there_is_refused(nano: Encoder) -> None:
    (cell,) = cells_of(nano, ["ssv2"])
    assert cell.spec is not None
    choice = saved("pairs")
    assert choice.info is not None
    foreign = replace(
        choice, info=replace(choice.info, features=replace(cell.spec, encoder="eve", fingerprint="0" * 64))
    )
    with pytest.raises(InputError, match="'mine@v1' reads features of encoder 'eve': name that encoder"):
        matrix_columns([("nano", nano)], [find_benchmark("ssv2")], [foreign], options())


def test_the_name_of_a_cell_says_what_decides_it(nano: Encoder) -> None:
    def path(name: str = "ssv2", **given: Any) -> Path:
        return cells_of(nano, [name], **given)[0].path

    plain = path()
    assert plain.parts[:1] == ("results",) and plain.parts[2] == "ssv2" and plain.name.startswith("map_classifier-")
    assert path(head={"dropout": "0.5"}) == path(head={"dropout": 0.5}) != plain
    assert path(training=TrainingConfig(epochs=3)) != plain
    assert path(training=TrainingConfig(accelerator="cpu", checkpoint_every_s=1)) == plain  # how it runs, not what
    assert [cell.seed for cell in cells_of(nano, ["ssv2"], seeds=2)] == [0, 1]
    assert len({cell.path for cell in cells_of(nano, ["ssv2"], seeds=2)}) == 2
    words = path("ssv2-events")
    assert path("ssv2-events", training=TrainingConfig(epochs=3), seeds=2) == words  # nothing of it is trained


def test_options_count_for_the_kinds_that_have_them(nano: Encoder) -> None:
    grid = [{"lr": "1e-3", "dropout": "0"}, {"lr": "1e-3", "dropout": "0.5"}]
    ssv2, charades = cells_of(nano, ["ssv2", "msrvtt-cap"], grid=grid)
    assert ssv2.grid == [{"dropout": 0.0, "lr": 1e-3}, {"dropout": 0.5, "lr": 1e-3}]
    assert charades.grid == [{"lr": 1e-3}]  # llm_decoder has no dropout
    for wrong in ({"head": {"drpout": 1}}, {"grid": [{"drpout": "1"}]}):
        with pytest.raises(InputError, match="no head in this matrix has an option 'drpout'; did you mean 'dropout'"):
            check_options((), [find_benchmark("ssv2")], options(**wrong))
    with pytest.raises(InputError, match="dropout"):
        check_options((), [find_benchmark("ssv2")], options(head={"dropout": "much"}))


@pytest.mark.parametrize("count", [1, 2, 3, 7, 50])
def test_shards_are_whole_batches_and_share_out_all_cells(count: int, nano: Encoder) -> None:
    cells = cells_of(nano, seeds=2)
    shards = [shard_of(cells, (number, count)) for number in range(1, count + 1)]
    assert sorted(str(cell.path) for one in shards for cell in one) == sorted(str(cell.path) for cell in cells)
    places = [{cell.batch for cell in one} for one in shards]
    assert sum(map(len, places)) == len(set().union(*places))
    if count == 2:
        loads = [sum(sum(cell.benchmark.sizes.values()) for cell in one) for one in shards]
        assert max(loads) < 1.6 * min(loads)


def test_plans_take_the_frames_of_the_encoder() -> None:
    assert plan_for(ClipPlan(16, "stride", stride=4, views=4), 8) == ClipPlan(8, "stride", stride=4, views=4)
    dense = ClipPlan(16, "dense", fps=15, window_stride=16)
    assert plan_for(dense, 8) == ClipPlan(8, "dense", fps=15, window_stride=8)
    assert plan_for(dense, 16) == dense
