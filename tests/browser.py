"""A headless browser for tests of pages: a page that is looked at must neither complain nor ask for anything."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
    with watched_pages(browser) as open_one:
        yield lambda file, width=1280, scheme="light": open_one(file.as_uri(), (file.as_uri(),), width, scheme, True)


@pytest.fixture
def open_site(browser: Any) -> Iterator[OpenPage]:
    """`open_site(url, path, width, scheme)` opens a page of a server, which must ask nobody but that server.

    `open_site.said` are the troubles so far; a test takes out of them what has to be there.
    """
    with watched_pages(browser) as open_one:

        def open_at(url: str, path: str = "/", width: int = 1280, scheme: str = "light") -> Any:
            return open_one(url + path, (f"{url}/", "blob:"), width, scheme, False)

        open_at.said = open_one.said  # type: ignore[attr-defined]
        yield open_at


@contextmanager
def watched_pages(browser: Any) -> Iterator[Any]:
    """Opens pages while the block runs; what they write to the console, or ask of others, fails at its end."""
    contexts, troubles = [], []

    def open_one(address: str, allowed: tuple[str, ...], width: int, scheme: str, offline: bool) -> Any:
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, offline=offline)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: troubles.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("request", lambda one: None if one.url.startswith(("data:", *allowed)) else troubles.append(one.url))
        page.goto(address)
        return page

    open_one.said = troubles  # type: ignore[attr-defined]
    yield open_one
    for context in contexts:
        context.close()
    assert not troubles, "\n".join(troubles)
