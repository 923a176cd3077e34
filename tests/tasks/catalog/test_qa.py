"""The question benchmarks over their miniatures: closed vocabularies, examples, and accuracy counted by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from adapters.predictions import Text
from tasks.catalog import SUITES
from tasks.registry import find_benchmark
from tests.tasks.miniatures import video_qa

WRITERS: dict[str, Callable[[Path], Path]] = {
    "msrvtt-qa": video_qa.write_msrvtt_qa,
    "msvd-qa": video_qa.write_msvd_qa,
}
WORDS = ("man", "talk", "couch", "two", "square")


@pytest.mark.parametrize("name", SUITES["qa"])
def test_answers_outside_the_vocabulary_are_wrong(name: str, tmp_path: Path) -> None:
    benchmark = find_benchmark(name)
    task = benchmark.open(WRITERS[name](tmp_path))
    assert (benchmark.suite, benchmark.head, task.main_metric) == ("qa", "llm_decoder", "accuracy")
    task.check_targets()
    samples = task.samples("test")
    for sample in samples:
        given = task.inputs(sample)
        assert given["candidates"] == WORDS and given["question"] and len(given["examples"]) == 2
    best = [own[0] if own[0] in WORDS else "man" for own in task.targets(samples)]
    scores = task.judge([Text(s.id, f"{word}.") for s, word in zip(samples, best, strict=True)], num_draws=10)
    assert scores.main.value == pytest.approx(1 - 1 / len(samples)) and scores.n_evaluated == len(samples)
    assert all(Path(sample.clip.path).is_file() for split in task.splits for sample in task.samples(split))


def test_the_examples_are_those_that_the_paper_prints() -> None:
    asked = {name: find_benchmark(name).options["examples"] for name in SUITES["qa"]}
    assert asked["msrvtt-qa"][0] == ("who is talking to his family?", "man")
    assert {answer for _, answer in asked["msvd-qa"]} == {"man", "woman"}
