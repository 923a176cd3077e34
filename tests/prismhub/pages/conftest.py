"""A real browser for the tests of pages; they are skipped where Chromium or Playwright is not installed."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

QUIET = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync")
OpenPage = Callable[..., Any]


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api")
    place = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if place is None:
        pytest.skip("no Chromium on this machine")
    with api.sync_playwright() as running:
        opened = running.chromium.launch(executable_path=place, args=[*QUIET, "--disable-component-update"])
        yield opened
        opened.close()


@pytest.fixture
def open_page(browser: Any) -> Iterator[OpenPage]:
    """`open_page(file, width, scheme)` opens a page; at the end none may have said or asked for anything."""
    contexts, troubles = [], []

    def open_one(file: Path, width: int = 1280, scheme: str = "light") -> Any:
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: troubles.append(message.text))
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on(
            "request", lambda one: None if one.url.startswith(("data:", file.as_uri())) else troubles.append(one.url)
        )
        page.goto(file.as_uri())
        return page

    yield open_one
    for context in contexts:
        context.close()
    assert troubles == []
