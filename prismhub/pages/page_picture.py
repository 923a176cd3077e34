"""A page of ours in a headless browser: for its tests, and for pictures of it in the manual.

    python -m prismhub.pages.page_picture report.html docs/matrix.png --part "#matrix-part"
    python -m prismhub.pages.page_picture "http://127.0.0.1:8000/#ask" docs/page.png --file new.mp4 --height 900

It needs `playwright` (of the extra `dev`) and a Chromium or Chrome that is installed already.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from core_encoder.errors import InputError
from core_encoder.files.storage import atomic_path

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_QUIET_MS = 1000  # without a request: then a page has all that it asked for
_ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def find_browser() -> str | None:
    """The Chromium or Chrome on the search path; None where there is none."""
    return next((found for name in BROWSERS if (found := shutil.which(name))), None)


@contextmanager
def open_browser() -> Iterator[Any]:
    """A browser of `playwright` without a window and with a fresh profile.

    Raises:
        InputError: there is no browser, or no playwright.
    """
    path = find_browser()
    if path is None:
        raise InputError(f"no browser is installed: none of {', '.join(BROWSERS)} is on PATH; install chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        raise InputError("playwright is not installed: pip install 'prismhub[dev]'") from error
    with tempfile.TemporaryDirectory() as profile, sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=[*_ARGUMENTS], env={"HOME": profile})
        yield browser
        browser.close()


def page_picture(
    page: str | Path,
    picture: str | Path,
    part: str | None = None,
    width: int = 1280,
    scheme: Literal["light", "dark"] = "light",
    height: int | None = None,
    file: str | Path | None = None,
) -> Path:
    """Write a PNG of a page, whole, its first `height` pixels, or the first element that the CSS selector `part` finds.

    Args:
        page: a file, or the address of one that a server gives; of that all requests are waited for.
        file: is given to the first field of the page that takes files.

    Raises:
        InputError: no such page or part, or no browser.
    """
    address = str(page)
    if not address.startswith(("http://", "https://")):
        if not Path(page).is_file():
            raise InputError(f"{page}: no such file")
        address = Path(page).resolve().as_uri()
    with open_browser() as browser, atomic_path(picture) as aside:
        size = {"width": width, "height": height or 900}
        view = browser.new_page(viewport=size, color_scheme=scheme, device_scale_factor=1.5)
        asked: set[Any] = set()
        view.on("request", lambda one: asked.add(one))
        for end in ("requestfinished", "requestfailed"):
            view.on(end, lambda one: asked.discard(one))
        view.goto(address)
        if file is not None:
            view.set_input_files("input[type=file]", file)
        quiet_ms = 0
        while quiet_ms < _QUIET_MS:  # a player asks as long as it plays, and does not count
            view.wait_for_timeout(100)
            quiet_ms = 0 if any(one.resource_type != "media" for one in asked) else quiet_ms + 100
        if part is None:
            aside.write_bytes(view.screenshot(full_page=height is None))
        elif view.locator(part).count():
            aside.write_bytes(view.locator(part).first.screenshot())
        else:
            raise InputError(f"{page}: has no part {part!r}")
    return Path(picture)


if __name__ == "__main__":
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("page")
    words.add_argument("picture")
    words.add_argument("--part", help="CSS selector (default: the whole page)")
    words.add_argument("--width", type=int, default=1280)
    words.add_argument("--height", type=int, help="pixels from the top (default: the whole page)")
    words.add_argument("--file", help="file for the page's field that takes files")
    words.add_argument("--scheme", choices=["light", "dark"], default="light")
    given = words.parse_args()
    page_picture(given.page, given.picture, given.part, given.width, given.scheme, given.height, given.file)
