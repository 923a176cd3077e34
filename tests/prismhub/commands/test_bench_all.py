"""Every benchmark of the catalog from its official files to a score, with `nano` and a tiny language model."""

from __future__ import annotations

from pathlib import Path

import pytest

import prismhub
from benchmarks.matrix_table import averages
from tasks.catalog import SUITES, catalog_names
from tests.language_models import tiny_llm
from tests.prismhub.commands.matrices import results_in, write_root
from tests.tasks.metrics.small_wordnet import write_lexicon


def test_all_suites_have_their_scores_and_keep_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WNSEARCHDIR", str(write_lexicon(tmp_path / "wordnet")))
    root, output = write_root(tmp_path / "root", catalog_names()), tmp_path / "results"
    llm = tiny_llm(tmp_path / "llm")
    done = prismhub.bench(
        suite="all", encoder="nano", data_root=root, output=output, head=[f"llm={llm}"], epochs=1, accelerator="cpu"
    )
    found = results_in(output)
    assert {name: one.reason for name, one in found.items() if one.state != "done"} == {}
    assert sorted(found) == sorted(catalog_names())
    for one in found.values():
        assert one.n_evaluated == one.n_total > 0 and one.main_metric in one.scores
    means = averages(done.columns, done.benchmarks, done.results)
    assert {mean.suite: mean.there for mean in means} == {suite: len(names) for suite, names in SUITES.items()}
    assert all(mean.score is not None for mean in means)
    again = prismhub.rescore(results=output)
    assert len(again) == len(found)
    for one in again:  # what the lines say is all that a judge needs, in every family
        assert one.after is not None, one.reason
        assert one.after.scores == one.before.scores and one.after.identity == one.before.identity
