"""A headless browser for tests of pages: a page that is looked at must neither complain nor ask for anything."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from prismhub.pages.page_picture import BROWSERS, find_browser, open_browser

REQUIRED = "PRISMHUB_BROWSER_REQUIRED"
OpenPage = Callable[..., Any]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """One browser for the tests of a file; they are skipped without one, unless CI says that there has to be one."""
    lacking = "" if find_browser() else f"no browser: none of {', '.join(BROWSERS)} is on PATH"
    if importlib.util.find_spec("playwright") is None:
        lacking = lacking or "playwright is not installed"
    if lacking and os.environ.get(REQUIRED):
        pytest.fail(f"{lacking}, but {REQUIRED} is set")
    if lacking:
        pytest.skip(lacking)
    with open_browser() as browser:
        yield browser


@pytest.fixture
def open_page(browser: Any) -> Iterator[OpenPage]:
    """`open_page(file, width, scheme)` opens a page, which at the end must have said and asked for nothing else."""
    contexts, troubles = [], []

    def open_one(file: Path, width: int = 1280, scheme: str = "light") -> Any:
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: troubles.append(f"{message.type}: {message.text}"))
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
