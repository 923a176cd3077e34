"""The report over every benchmark of the catalog: what the lines of predictions say gives the recorded score again."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import prismhub
from benchmarks.report.details import details_of
from benchmarks.report.judged_log import SPLIT, read_log, task_of
from benchmarks.report.result_folder import ReportedCell, read_cells
from tasks.catalog import SUITES, catalog_names
from tests.language_models import tiny_llm
from tests.prismhub.commands.matrices import write_root
from tests.prismhub.pages.test_report import Page
from tests.tasks.metrics.small_wordnet import write_lexicon

pytestmark = pytest.mark.slow
WITHOUT_CLASSES = (*SUITES["retrieval"], *SUITES["captioning"], "msrvtt-qa", "msvd-qa")


@pytest.fixture(scope="module")
def wordnet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A small WordNet for open answers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WNSEARCHDIR", str(write_lexicon(tmp_path_factory.mktemp("wordnet"))))
        yield


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory, wordnet: None) -> Path:
    """All 33 benchmarks on miniatures of their data; read only."""
    folder = tmp_path_factory.mktemp("all")
    root, llm = write_root(folder / "root", catalog_names()), tiny_llm(folder / "llm")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PRISMHUB_HOME", str(folder / "home"))
        options = {"head": [f"llm={llm}"], "epochs": 1, "accelerator": "cpu", "output": folder / "results"}
        prismhub.bench(suite="all", encoder="nano", data_root=root, **options)
    return folder / "results"


def cells(results: Path) -> dict[str, ReportedCell]:
    return {cell.result.task: cell for cell in read_cells(results)}


def test_the_lines_give_the_recorded_score_again(results: Path) -> None:
    found = cells(results)
    assert sorted(found) == sorted(catalog_names())
    for name, cell in found.items():
        log = read_log(cell, task_of(cell))
        weighed = log.task.weighed(log.predictions, SPLIT)
        assert weighed is not None and log.videos_known, name
        value = weighed.statistic(np.ones((1, len(weighed.samples)), dtype=np.float32))[0]
        assert value == pytest.approx(cell.result.scores[cell.result.main_metric].value, abs=1e-6), name
        assert all(not Path(sample.clip.path).is_absolute() for sample in weighed.samples), name


def test_scores_by_class_make_up_the_main_score(results: Path) -> None:
    """Recall weighed by samples is top-1, plain means of average precision are mAP; types of questions as accuracy."""
    for name, cell in cells(results).items():
        by_class = details_of(cell).by_class
        assert (by_class is None) == (name in WITHOUT_CLASSES), name
        if by_class is None:
            continue
        rows = [(value, count) for value, count in by_class.rows.values() if value is not None and count]
        values, counts = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
        weighed = by_class.counted == "questions" or cell.result.main_metric == "top1"
        mean = np.average(values, weights=counts) if weighed else values.mean()
        assert mean == pytest.approx(cell.result.scores[cell.result.main_metric].value, abs=1e-6), name


def test_confusions_and_examples_are_of_the_samples(results: Path) -> None:
    for name, cell in cells(results).items():
        found = details_of(cell)
        assert found.examples and not found.reason and not found.note, name
        assert all(one.truth and one.said for one in found.examples), name
        if found.confusions is not None and found.confusions.labels:
            assert sum(map(sum, found.confusions.counts)) == cell.result.n_evaluated, name
            right = sum(row[place] for place, row in enumerate(found.confusions.counts))
            if cell.result.main_metric == "top1":
                assert right / cell.result.n_evaluated == pytest.approx(cell.result.scores["top1"].value), name


def test_all_formats_hold_all_benchmarks(results: Path, tmp_path: Path) -> None:
    done = prismhub.report(results=results, html=tmp_path / "x.html")
    page = Page((tmp_path / "x.html").read_text("utf-8"))
    assert {one["id"] for one in page.all("details", "benchmark")} == set(catalog_names())
    records = {record["task"]: record for record in csv.DictReader(io.StringIO(done.csv()))}
    assert sorted(records) == sorted(catalog_names())
    for name, cell in cells(results).items():
        main = cell.result.scores[cell.result.main_metric]
        assert float(records[name]["score"]) == pytest.approx(main.value * (100 if main.unit == "%" else 1), abs=1e-6)
    assert len(done.report.videoglue) == 1 and done.report.videoglue[0].score is not None
    assert all(one.score is not None for one in done.report.averages)
    assert (tmp_path / "x.html").stat().st_size < 1_000_000
