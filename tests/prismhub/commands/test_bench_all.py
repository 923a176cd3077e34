"""Every benchmark of the catalog from its official files to a score, with `nano` and a tiny language model.

Each of the scores is computed a second time, by plain loops over the annotation files and the kept predictions.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

import prismhub
from benchmarks.matrix_table import averages
from benchmarks.rescoring import PREDICTIONS, result_files
from benchmarks.results import Result
from tasks.catalog import SUITES, catalog_names
from tasks.registry import find_benchmark
from tests.language_models import tiny_llm
from tests.prismhub.commands.matrices import results_in, write_root
from tests.tasks.metrics.small_wordnet import write_lexicon
from tests.tasks.plain_scores.drawn import drawn_line
from tests.tasks.plain_scores.every import PLAIN_SCORES


def check_scores(root: Path, output: Path) -> dict[str, tuple[float, ...]]:
    """Compare every score of every cell below `output` with the plain one; returns them."""
    checked = {}
    for path in result_files(output):
        result = Result.read(path)
        benchmark = find_benchmark(result.task)
        lines = [json.loads(line) for line in path.with_suffix(PREDICTIONS).read_text(encoding="utf-8").splitlines()]
        for line in lines:
            del line["target"]  # the annotation files alone say what is right
        expected = PLAIN_SCORES[result.task](root / (benchmark.folder or benchmark.name), lines)
        found = {name: score.value for name, score in result.scores.items()}
        assert found == pytest.approx(expected, abs=1e-9), result.task
        assert result.n_evaluated == result.n_total == len(lines)
        checked[result.task] = tuple(round(value, 9) for value in found.values())
    return checked


def draw_answers(output: Path, seed: int) -> None:
    """Put other answers in the place of those of every cell below `output`."""
    for path in result_files(output):
        file = path.with_suffix(PREDICTIONS)
        dice, drawn = random.Random(f"draw {seed} of {path.parent.name}"), []
        for text in file.read_text(encoding="utf-8").splitlines():
            line = json.loads(text)
            drawn.append(json.dumps(drawn_line(line, line["target"], dice)) + "\n")
        file.write_text("".join(drawn), encoding="utf-8")


def test_every_benchmark_has_a_plain_score() -> None:
    assert list(PLAIN_SCORES) == catalog_names() and len(PLAIN_SCORES) == 33


@pytest.mark.slow
def test_all_suites_have_the_scores_of_the_annotation_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WNSEARCHDIR", str(write_lexicon(tmp_path / "wordnet")))
    monkeypatch.setattr("tasks.families.open_answers.nltk_tagging", lambda: None)  # the same words on every machine
    root, output = write_root(tmp_path / "root", catalog_names()), tmp_path / "results"
    llm = tiny_llm(tmp_path / "llm")
    done = prismhub.bench(
        suite="all", encoder="nano", data_root=root, output=output, head=[f"llm={llm}"], epochs=1, accelerator="cpu"
    )
    found = results_in(output)
    assert {name: one.reason for name, one in found.items() if one.state != "done"} == {}
    means = averages(done.columns, done.benchmarks, done.results)
    assert {mean.suite: mean.there for mean in means} == {suite: len(names) for suite, names in SUITES.items()}
    assert all(mean.score is not None for mean in means)
    assert sorted(check_scores(root, output)) == sorted(catalog_names())
    again = prismhub.rescore(results=output)
    assert len(again) == len(found)
    for one in again:  # what the lines say is all that a judge needs, in every family
        assert one.after is not None, one.reason
        assert one.after.scores == one.before.scores and one.after.identity == one.before.identity
    earned: dict[str, set[tuple[float, ...]]] = {name: set() for name in found}
    for seed in range(6):  # a tiny model says the same of all, which many a wrong rule judges alike
        draw_answers(output, seed)
        assert all(one.after is not None for one in prismhub.rescore(results=output))
        for name, values in check_scores(root, output).items():
            earned[name].add(values)
    assert {name: values for name, values in earned.items() if len(values) == 1} == {}
