"""The manual's page of benchmarks is what the declarations say."""

from __future__ import annotations

from benchmarks.catalog_page import page
from tasks.catalog import catalog_names
from tasks.registry import find_benchmark
from tests import ROOT


def test_the_page_is_that_of_the_declarations() -> None:
    written = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    assert written == page(), "python -m benchmarks.catalog_page > docs/benchmarks.md"


def test_every_benchmark_has_its_section_with_all_that_is_unverified() -> None:
    sections = {part.partition("\n")[0]: part for part in page().split("\n### ")[1:]}
    assert list(sections) == catalog_names()
    for name, text in sections.items():
        assert text.count("- To know: ") == len(find_benchmark(name).unverified)
        assert "- Annotations: " in text and "- Videos: " in text
