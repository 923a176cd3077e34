"""The page of a matrix in a real browser: quiet, sorted, filtered, readable on a phone, light and dark, by keyboard."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import prismhub
from tests.benchmarks.report.test_comparison import judged_cell
from tests.benchmarks.report.written_results import write_cell
from tests.browser import OpenPage

pytestmark = pytest.mark.slow  # a browser starts


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with two encoders, a comparison, and names that are no markup."""
    folder = tmp_path_factory.mktemp("report")
    evil = {"<script>alert(1)</script>#1": True, "b": False, "c": True, **{f"video{k}": True for k in range(6)}}
    for encoder in ("nano", "eve"):
        judged_cell(folder / "new", evil, encoder=encoder, fingerprint=encoder * 16)
        for place, name in enumerate(("kinetics400", "diving48", "moments-in-time", "msrvtt-t2v")):
            write_cell(folder / "new", name, 0.2 + 0.1 * (place * 7 % 4), encoder=encoder, fingerprint=encoder * 16)
    write_cell(folder / "new", "charades", state="failed", reason="out of memory", fingerprint="nano" * 16)
    judged_cell(folder / "old", dict.fromkeys(evil, False), fingerprint="nano" * 16)
    page = folder / "report.html"
    prismhub.report(results=folder / "new", against=folder / "old", html=page)
    return page


def names(page: Any, suite: str = "videoglue") -> list[str]:
    """The benchmarks of a suite in the order in which they are shown."""
    rows = page.locator(f'#matrix tr[data-suite="{suite}"] th a')
    return [row.inner_text() for row in rows.all() if row.is_visible()]


def head(page: Any, number: int) -> Any:
    return page.locator("#matrix thead th[data-column]").nth(number)


def test_columns_are_sorted_within_their_suite(report: Path, open_page: OpenPage) -> None:
    page = open_page(report)
    before = names(page)
    assert (
        before[:3] == ["kinetics400", "moments-in-time", "ssv2"] and head(page, 1).get_attribute("aria-sort") == "none"
    )
    head(page, 1).locator("button").click()
    assert head(page, 1).get_attribute("aria-sort") == "descending"
    scores = {"ssv2": 88.9, "kinetics400": 20.0, "diving48": 50.0, "moments-in-time": 40.0}
    best_first = sorted(scores, key=lambda name: -scores[name])
    assert names(page)[:4] == best_first and names(page)[4:] == [name for name in before if name not in scores]
    assert page.locator("#matrix tbody").first.locator("tr").last.inner_text().startswith("average")
    head(page, 1).locator("button").focus()
    page.keyboard.press("Enter")
    assert head(page, 1).get_attribute("aria-sort") == "ascending" and names(page)[:4] == best_first[::-1]
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    assert (
        head(page, 1).get_attribute("aria-sort") == "none" and head(page, 2).get_attribute("aria-sort") == "descending"
    )
    for _ in range(2):
        page.keyboard.press("Space")
    assert names(page) == before
    head(page, 0).locator("button").click()
    assert names(page) == sorted(before) and head(page, 0).get_attribute("aria-sort") == "ascending"


def test_rows_are_filtered(report: Path, open_page: OpenPage) -> None:
    page = open_page(report)
    shown = page.locator("#shown")
    assert shown.inner_text() == "14 of 14 benchmarks" and shown.get_attribute("aria-live") == "polite"
    page.get_by_label("Find").fill("SSV2")
    assert names(page) == ["ssv2"] and names(page, "retrieval") == [] and shown.inner_text() == "1 of 14 benchmarks"
    assert not page.locator("#matrix tbody").nth(1).is_visible()
    page.get_by_role("button", name="Show all").click()
    page.wait_for_function("document.getElementById('shown').textContent === '14 of 14 benchmarks'")
    page.locator("select[name=suite]").select_option("retrieval")
    assert names(page) == [] and len(names(page, "retrieval")) == 6
    page.locator("select[name=suite]").select_option("")
    page.locator("select[name=state]").select_option("failed")
    assert names(page) == ["charades"] and names(page, "retrieval") == []


def test_links_open_the_part_of_a_benchmark(report: Path, open_page: OpenPage) -> None:
    page = open_page(report)
    part = page.locator("details#ssv2")
    assert part.get_attribute("open") is None
    page.locator('#matrix a[href="#ssv2"]').click()
    page.wait_for_selector("details#ssv2[open]")
    assert part.locator("table.classes").first.is_visible() and abs(part.bounding_box()["y"]) < 40
    assert "<script>alert(1)</script>" in part.inner_text()
    page.locator('#matrix a[href="#charades"]').click()
    page.wait_for_selector("details#charades[open]")
    assert "out of memory" in page.locator("details#charades").inner_text()
    page.get_by_role("button", name="Open all").click()
    assert page.locator("details.benchmark:not([open])").count() == 0
    page.get_by_role("button", name="Close all").click()
    assert page.locator("details.benchmark[open]").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_readable_on_a_phone(scheme: str, report: Path, open_page: OpenPage) -> None:
    page = open_page(report, width=360, scheme=scheme)
    page.get_by_role("button", name="Open all").click()
    wide = page.evaluate("[document.documentElement.scrollWidth, document.body.scrollWidth]")
    assert max(wide) <= 360
    box = page.locator("#matrix").locator("xpath=..")
    inside, outside = box.evaluate("box => [box.scrollWidth, box.clientWidth]")
    assert inside > outside  # the table scrolls in its own box
    score = page.locator('#matrix tr[data-words^="ssv2"] td').first.bounding_box()
    assert score["x"] + score["width"] <= 360  # the first score is seen without scrolling
    small = page.evaluate(
        "[...document.querySelectorAll('main p, main td, main th, main li, main dd')]"
        ".filter((one) => one.offsetParent && parseFloat(getComputedStyle(one).fontSize) < 11).length"
    )
    assert small == 0


def luminance(colour: str) -> float:
    """The relative luminance of `rgb(r, g, b)`, as WCAG 2 defines it."""
    parts = [float(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_in_light_and_dark(scheme: str, report: Path, open_page: OpenPage) -> None:
    page = open_page(report, scheme=scheme)
    card = page.evaluate("getComputedStyle(document.querySelector('section')).backgroundColor")
    assert (luminance(card) > 0.5) == (scheme == "light")
    for selector in ("h2", ".soft", "#matrix td", "#matrix th a", ".state", ".better", "thead button", ".cite"):
        colour = page.locator(f"section {selector}").first.evaluate("one => getComputedStyle(one).color")
        lighter, darker = sorted([luminance(colour), luminance(card)], reverse=True)
        assert (lighter + 0.05) / (darker + 0.05) >= 4.5, selector


def test_without_scripts_the_table_is_whole(report: Path, browser: Any) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(report.as_uri())
    assert len(names(page)) == 8 and not page.locator("#filter").is_visible()
    context.close()
