"""A page of ours in a headless browser: for its tests, and for pictures of it in the manual.

    python -m prismhub.pages.page_picture report.html docs/matrix.png --part "#matrix-part"

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
_QUIET = (
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
        browser = driver.chromium.launch(executable_path=path, args=[*_QUIET], env={"HOME": profile})
        yield browser
        browser.close()


def page_picture(
    page: str | Path,
    picture: str | Path,
    part: str | None = None,
    width: int = 1280,
    scheme: Literal["light", "dark"] = "light",
) -> Path:
    """Write a PNG of a page on the disk, whole, or of the first element that the CSS selector `part` finds.

    Raises:
        InputError: no such page or part, or no browser.
    """
    source = Path(page).resolve()
    if not source.is_file():
        raise InputError(f"{page}: no such file")
    with open_browser() as browser, atomic_path(picture) as aside:
        view = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme, device_scale_factor=1.5)
        view.goto(source.as_uri())
        if part is None:
            aside.write_bytes(view.screenshot(full_page=True))
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
    words.add_argument("--scheme", choices=["light", "dark"], default="light")
    given = words.parse_args()
    page_picture(given.page, given.picture, given.part, given.width, given.scheme)
