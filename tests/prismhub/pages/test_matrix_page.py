"""The page of a matrix: it escapes what it is given, holds all it shows, and stays small however large the results."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.report.comparison import compare_folders
from benchmarks.report.matrix_report import read_report
from prismhub.pages.matrix_page import MOST_CLASSES, matrix_page
from prismhub.progress import SILENT
from tests.benchmarks.report.test_comparison import judged_cell
from tests.benchmarks.report.written_results import class_scores, class_task, write_cell, write_judged
from tests.prismhub.pages.test_report import Page

EVIL = "<script>alert('1')</script><img src=x onerror=alert(2)>\"'&{{ 7 * 7 }}"


def page_of(folder: Path, old: Path | None = None) -> str:
    report = read_report(folder)
    if old is not None:
        report = replace(report, comparison=compare_folders(report.cells, old, SILENT))
    return matrix_page(report, SILENT, command="prismhub report " + EVIL)


class OurPage(Page):
    """A page with one script, whose text is no text of the page."""

    def handle_data(self, data: str) -> None:
        if "script" not in self.open:
            super().handle_data(data)


def test_names_from_data_are_escaped(tmp_path: Path) -> None:
    samples = class_task("ssv2", {EVIL: [EVIL], "b": ["b"]}, (EVIL, "b"))
    cell = write_cell(tmp_path / "new", "ssv2", encoder=EVIL.replace("/", "_"), adapter="adapter", command=EVIL)
    cell = write_judged(cell, samples, class_scores({EVIL: (0.4, 0.6), "b": (0.4, 0.6)}, (EVIL, "b")))
    write_cell(tmp_path / "new", "diving48", state="failed", reason=EVIL)
    old = write_cell(tmp_path / "old", "ssv2", encoder="eve", adapter=EVIL.replace("/", "_"))
    write_judged(old, samples, class_scores({EVIL: (0.6, 0.4), "b": (0.4, 0.6)}, (EVIL, "b")))
    text = page_of(tmp_path / "new", tmp_path / "old")
    page = OurPage(text)
    assert len(page.all("script")) == 1 and not page.all("img") and "49" not in re.findall(r"\b49\b", page.text)
    assert all(not name.startswith("on") for _, attributes in page.elements for name in attributes)
    shown = page.text
    for place in (f"in truth: {EVIL}", f"diving48 , nano, map_classifier: {EVIL}", f"was {EVIL.replace('/', '_')}"):
        assert place in shown or place.replace(": ", ": ", 1) in shown, place
    assert len(page.all("table", "classes")) == 1 and EVIL not in text


def test_the_page_allows_its_own_script_alone(tmp_path: Path) -> None:
    write_cell(tmp_path, "ssv2")
    text = page_of(tmp_path)
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    assert policy == f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    assert not re.findall(r'(?:src|href)="(?!#|data:)', text)


def test_every_part_is_there_and_links_lead_somewhere(tmp_path: Path) -> None:
    judged_cell(tmp_path / "new", {"a": True, "b": False})
    write_cell(tmp_path / "new", "kabr", state="no data", reason="kabr: no such folder")
    judged_cell(tmp_path / "old", {"a": False, "b": False})
    write_cell(tmp_path / "old", "msrvtt-t2v", adapter="words", seed=None)
    page = OurPage(page_of(tmp_path / "new", tmp_path / "old"))
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = {str(one["href"]).removeprefix("#") for one in page.all("a")}
    assert {"ssv2", "kabr", "comparison", "cost", "without", "videoglue"} <= links
    assert {link for link in links if link not in ids} <= {row.name for row in read_report(tmp_path / "new").rows}
    for said in ("1 of 8", "0 of 6", "not run", "kabr: no such folder", "+50.0 [0.0, +100.0]", "1,024 MiB"):
        assert said in page.text, said
    assert "1 min 2 s" in page.text  # of training
    assert "msrvtt-t2v, nano, words: only in" in page.text and page.text.count("cited") >= 4
    assert "Recall by class" in page.text and "What was taken for what" in page.text


def test_a_missing_file_of_predictions_leaves_its_details_out(tmp_path: Path) -> None:
    judged_cell(tmp_path, {"a": True, "b": False}).predictions_path.unlink()
    page = OurPage(page_of(tmp_path))
    assert "nothing of its predictions is shown: map_classifier-11111111-s0.predictions.jsonl is not there" in page.text
    assert "Recall by class" not in page.text and "50.0" in page.text


@pytest.mark.parametrize(
    ("classes", "samples"),
    [(400, 400), pytest.param(3, 20_000, marks=pytest.mark.slow), pytest.param(700, 700, marks=pytest.mark.slow)],
)
def test_large_results_make_a_small_page(classes: int, samples: int, tmp_path: Path) -> None:
    names = [f"class number {k}" for k in range(classes)]
    rng = np.random.default_rng(0)
    labels = {f"video{k}.mp4": [names[k % classes]] for k in range(samples)}
    rows = dict(zip(labels, rng.dirichlet(np.ones(classes), samples).astype(np.float32), strict=True))
    task = class_task("kinetics400", labels, names)
    write_judged(write_cell(tmp_path, "kinetics400"), task, class_scores(rows, names))
    text = page_of(tmp_path)
    assert len(text) < 600_000
    shown = OurPage(text).text
    assert f"6 of {samples}" in shown  # examples
    if classes > 20:
        assert f"A picture of {classes} classes is left out" in shown
        assert f"and {samples - round(samples * _share_right(rows, labels, names)) - 20} more pairs" in shown
    if classes > MOST_CLASSES:
        assert f"The {MOST_CLASSES} classes with the most samples; {classes - MOST_CLASSES} more are left out" in shown


def _share_right(rows: dict[str, np.ndarray], labels: dict[str, list[str]], names: list[str]) -> float:
    hits = [names[int(row.argmax())] == labels[name][0] for name, row in rows.items()]
    return sum(hits) / len(hits)
