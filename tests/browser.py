"""A headless browser for tests of pages: a page that is opened here must neither complain nor ask for anything."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from prismhub.pages.page_picture import BROWSERS, find_browser, open_browser

REQUIRED = "PRISMHUB_BROWSER_REQUIRED"
OpenPage = Callable[..., Any]


@contextmanager
def _running() -> Iterator[Any]:
    """The browser; without one the test is skipped, unless CI says that there has to be one."""
    lacking = "" if find_browser() else f"no browser: none of {', '.join(BROWSERS)} is on PATH"
    try:
        import playwright  # noqa: F401
    except ImportError:
        lacking = lacking or "playwright is not installed"
    if lacking and os.environ.get(REQUIRED):
        pytest.fail(f"{lacking}, but {REQUIRED} is set")
    if lacking:
        pytest.skip(lacking)
    with open_browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """One browser for the tests of a file."""
    with _running() as browser:
        yield browser


@pytest.fixture
def open_page(browser: Any) -> Iterator[OpenPage]:
    """`open_page(path, width=1280, scheme="light")` opens a file from the disk.

    At the end no page may have written to the console, failed in a script, or asked for anything but itself.
    """
    opened, said, asked = [], [], []

    def open_one(path: Path, width: int = 1280, scheme: str = "light", **options: Any) -> Any:
        page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme, **options)
        page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: said.append(f"error: {error}"))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(path.resolve().as_uri())
        opened.append((page, path.resolve().as_uri()))
        return page

    yield open_one
    own = {uri for _, uri in opened}
    for page, _ in opened:
        page.close()
    assert said == []
    assert [url for url in asked if url.partition("#")[0] not in own and not url.startswith("data:")] == []
