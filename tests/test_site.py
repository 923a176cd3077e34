"""The documentation site and the notebooks: whole, of real runs, and alone in a reader's browser."""

from __future__ import annotations

import importlib
import itertools
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import nbformat
import pytest

from docsite.run_notebooks import run_notebook
from tests import ROOT
from tests.browser import OpenPage

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PACKAGES = ("prismhub", "core_encoder", "adapters", "tasks")
LOADS = {
    "script": "src",
    "img": "src",
    "iframe": "src",
    "source": "src",
    "video": "src",
    "audio": "src",
    "link": "href",
}
LOADED_RELS = {"stylesheet", "icon", "preload", "modulepreload", "prefetch", "preconnect", "dns-prefetch", "manifest"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` builds it: a broken link or anchor is an error."""
    folder = tmp_path_factory.mktemp("site")
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


class Tags(HTMLParser):
    """The tags of a page with their attributes."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str]]] = []
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep it."""
        self.found.append((tag, {name: value or "" for name, value in attrs}))


def loaded(page: Path) -> list[str]:
    """The addresses that a browser fetches with a page by itself."""
    found = []
    for tag, given in Tags(page).found:
        if tag == "link" and not LOADED_RELS & set(given.get("rel", "").split()):
            continue
        if LOADS.get(tag) in given:
            found.append(given[LOADS[tag]])
    return found


@pytest.mark.slow
def test_every_page_is_in_the_navigation_and_every_link_leads_somewhere(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    start = {given["href"] for tag, given in Tags(site / "train.html").found if tag == "a" and "href" in given}
    made = [f"{path.stem}.html" for path in (ROOT / "docs").glob("*.md")]
    made += [f"notebooks/{path.stem}.html" for path in NOTEBOOKS] + [f"reference/{name}.html" for name in PACKAGES]
    reachable = start | {"train.html"}  # sections of other tabs are reached by their first page
    for page in pages:
        folder = page.parent.relative_to(site)
        for tag, given in Tags(page).found:
            address = given.get("href" if tag in ("a", "link") else "src", "")
            parts = urlsplit(address)
            if not address or parts.scheme or address.startswith(("/", "//")) or page.name == "404.html":
                continue
            target = page if not parts.path else page.parent / unquote(parts.path)
            assert target.exists(), f"{page.relative_to(site)}: {address}"
            if tag == "a" and "md-nav__link" in given.get("class", "") and not parts.fragment:
                reachable.add(os.path.normpath(folder / unquote(parts.path)))
    assert not set(made) - reachable
    assert {"index.html", "contributing.html", "changelog.html", "license.html"} <= {page.name for page in pages}


@pytest.mark.slow
def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        assert not [one for one in loaded(page) if "//" in one], page
        text = page.read_text(encoding="utf-8")
        assert not re.search(r"(@import|url\()\s*['\"]?(https?:)?//", text), page
        assert "Content-Security-Policy\" content=\"default-src 'self'" in text, page
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(@import|url\()\s*['\"]?(https?:)?//", sheet.read_text(encoding="utf-8")), sheet


@pytest.mark.slow
@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_is_in_the_reference(package: str, site: Path) -> None:
    page = Tags(site / "reference" / f"{package}.html").found
    anchors = {given["id"] for _, given in page if "id" in given}
    links = {given["href"].rpartition("#")[2] for tag, given in page if tag == "a" and "href" in given}
    for name in importlib.import_module(package).__all__:
        assert f"{package}.{name}" in anchors or any(one.endswith(f".{name}") for one in links), name


@pytest.fixture
def address(site: Path) -> Iterator[str]:
    """Where a plain server shows the site."""
    handler = partial(SimpleHTTPRequestHandler, directory=str(site))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.slow
def test_a_browser_finds_pages_by_words_and_asks_the_site_alone(address: str, open_site: OpenPage) -> None:
    page = open_site(address, "/index.html")
    page.locator("input.md-search__input").first.fill("temporal localizer")
    page.locator("a.md-search-result__link").first.wait_for(timeout=20_000)
    other = open_site(address, "/reference/adapters.html")
    assert "load_adapter" in other.inner_text("article")


def test_no_page_is_in_the_navigation_twice() -> None:
    named = re.findall(r"^ +- (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE)
    assert named
    assert sorted(named) == sorted(set(named))


def test_pages_that_the_navigation_does_not_name_come_last() -> None:
    from mkdocs.config import load_config

    from docsite import hooks

    config: Any = load_config(str(ROOT / "mkdocs.yml"))
    named = set(hooks._leaves(config.nav))
    config.nav = [one for one in config.nav if "Train" not in one]
    changed = hooks.on_config(config).nav
    assert {path.name for path in (ROOT / "docs").glob("*.md")} <= set(hooks._leaves(changed))
    assert "train.md" in named and "train.md" in changed[-1][hooks.FURTHER]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_as_it_ran(path: Path) -> None:
    """Small, with results and pictures, and nothing of the machine it ran on."""
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 1
    assert not [output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"]
    assert path.stat().st_size < 400_000
    said = "".join(output.get("text", "") for output in outputs) + "".join(cell.source for cell in cells)
    assert not re.search(r"(?<![\w.])/(tmp|home|root|work|Users|usr)/|[A-Z]:\\\\", said)


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path, tmp_path: Path) -> None:
    before, now = nbformat.read(path, as_version=4), run_notebook(path, tmp_path)
    assert kinds_of_outputs(now) == kinds_of_outputs(before)


def kinds_of_outputs(notebook: Any) -> list[list[str]]:
    """By cell; what a cell writes to a stream in several pieces, as many as time would have it, counts once."""
    kinds = [[one.output_type for one in cell.get("outputs", ())] for cell in notebook.cells]
    return [[kind for kind, _ in itertools.groupby(several)] for several in kinds]
