"""The scores of others are plausible, and are scores that we compute, too."""

from __future__ import annotations

import pytest

from core_encoder.files.storage import read_json
from tasks.catalog import SUITES, catalog_names
from tasks.catalog.published import published_scores
from tasks.registry import find_benchmark
from tests import ROOT

SCORES = read_json(ROOT / "tasks" / "catalog" / "published.json")


def test_there_are_scores_of_33_benchmarks_and_of_all_in_the_catalog() -> None:
    assert len(SCORES) == 33 and set(catalog_names()) <= set(SCORES)
    assert published_scores("none") == {}


@pytest.mark.parametrize("name", SCORES)
def test_they_are_plausible(name: str) -> None:
    assert SCORES[name]
    for metric, by_model in SCORES[name].items():
        assert all(isinstance(value, int | float) and 0 < value < 100 for value in by_model.values()), metric
        ours = {model: value for model, value in by_model.items() if model.startswith("VideoPrism")}
        assert ours, "the scores that are to be matched"
        base, giant = (ours.get(f"VideoPrism-{size} (paper)") for size in "Bg")
        assert base is None or giant is None or giant > base, "the larger one is the better one, everywhere"
        priors = [model for model in by_model if "best prior" in model]
        assert all(not model.startswith("VideoPrism") for model in priors)
    if {"top1", "top5"} <= set(SCORES[name]):
        for model, value in SCORES[name]["top5"].items():
            assert value > SCORES[name]["top1"][model]


@pytest.mark.parametrize("name", [name for names in SUITES.values() for name in names])
def test_they_are_of_metrics_that_are_judged(name: str) -> None:
    benchmark = find_benchmark(name)
    assert benchmark.published == published_scores(name)
    assert (
        set(benchmark.published) <= {benchmark.metric, *benchmark.metrics} and benchmark.metric in benchmark.published
    )


@pytest.mark.parametrize("name", [*SUITES["captioning"], *SUITES["qa"]])
def test_what_was_not_trained_on_the_data_set_says_so_beside_its_number(name: str) -> None:
    """Ours are trained on the train split unless a saved `llm_decoder` answers: the numbers are no like for like."""
    for by_model in SCORES[name].values():
        ours = [model for model in by_model if model.startswith("VideoPrism")]
        assert ours and all(", zero-shot" in model and model.endswith(" (paper)") for model in ours)
    assert find_benchmark(name).head and any("zero-shot" in line for line in find_benchmark(name).unverified)
