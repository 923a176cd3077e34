"""The question benchmarks over their miniatures: closed vocabularies, examples, accuracy by hand, WUPS as of files."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from adapters.predictions import Text
from core_encoder.errors import InputError
from tasks.judges.nextqa_oe import judge_nextqa_oe
from tasks.readers.texts import TextSample
from tasks.registry import find_benchmark
from tests.tasks.metrics.small_wordnet import write_lexicon
from tests.tasks.miniatures import next_qa, video_qa

WRITERS: dict[str, Callable[[Path], Path]] = {
    "msrvtt-qa": video_qa.write_msrvtt_qa,
    "msvd-qa": video_qa.write_msvd_qa,
}
WORDS = ("man", "talk", "couch", "two", "square")


@pytest.mark.parametrize("name", WRITERS)
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
    asked = {name: find_benchmark(name).options["examples"] for name in WRITERS}
    assert asked["msrvtt-qa"][0] == ("who is talking to his family?", "man")
    assert {answer for _, answer in asked["msvd-qa"]} == {"man", "woman"}


def test_open_answers_are_judged_as_their_files_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against the judge of files, which is that of the official evaluator."""
    folder = next_qa.write(tmp_path / "data")
    monkeypatch.setenv("WNSEARCHDIR", str(write_lexicon(tmp_path / "wordnet")))
    task = find_benchmark("nextqa-oe").open(folder)
    task.check_targets()
    samples = task.samples("test")
    said = ["share a dog", "approach", "gesture", "a toy", "gesture", "", "unwrap", "two men playing"]
    answers = [Text(sample.id, text) for sample, text in zip(samples, said, strict=True)]
    scores = task.judge(answers, num_draws=20)
    written: dict[str, dict[str, str]] = {}
    for one in answers:
        video, _, number = one.sample_id.rpartition("_")
        written.setdefault(video, {})[number] = one.text
    (tmp_path / "said.json").write_text(json.dumps(written))
    inner = folder / "NExT-OE/dataset/nextqa"
    official = judge_nextqa_oe(inner / "test.csv", tmp_path / "said.json", inner / "add_reference_answer_test.json")
    for name, score in scores.values.items():
        assert 100 * score.value == pytest.approx(official.metrics[name.upper().replace("@", "_")])
    assert 0 < scores.main.value < 1 and len(scores.values) == 1 + len(set(next_qa.TYPES) - {"TP"}) + 3
    metric = task.metric()
    metric.update(answers, task.truths(samples))
    assert metric.compute() == pytest.approx(scores.main.value)
    assert task.protocol in ("nextqa-oe-wups-v1", "nextqa-oe-wups-v1-guessed")
    assert all(Path(sample.clip.path).is_file() for split in task.splits for sample in task.samples(split))
    with pytest.raises(InputError, match="wups@C is only judged at the end"):
        task.metric("wups@C")
    with pytest.raises(InputError, match="no metric 'cider' of open answers"):
        dataclasses.replace(task, metrics=("cider",), main_metric="cider")
    with pytest.raises(InputError, match="v: is no question of a type"):
        task.check(TextSample("v", samples[0].clip, (), "test", ("a",), "why?"))
