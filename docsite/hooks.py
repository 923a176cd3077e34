"""What MkDocs calls: pages that lie outside of docs/ or are made, the navigation, and links that hold in the site.

Links in the files are those of the repository, where they work too. In the site, a link to a file of source leads to a
page that shows it.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from posixpath import dirname, relpath
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from docsite.command_reference import command_reference
from docsite.notebook_pages import notebook_page

ROOT = Path(__file__).parents[1]
PACKAGES = ("prismhub", "core_encoder", "adapters", "tasks")
NAMED = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
FURTHER = "Further pages"
_FENCE = re.compile(r"(^```[^\n]*\n.*?^```$)", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add the pages of docs/ that the navigation does not name, in a section of their own."""
    assert config.nav is not None
    named = set(_leaves(config.nav))
    further = sorted(path.name for path in (ROOT / "docs").glob("*.md") if path.name not in named)
    if further:
        config.nav.append({FURTHER: further})
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages whose source is not in docs/, and one for every file of source that a page links to."""
    made: dict[str, str] = {page: (ROOT / name).read_text(encoding="utf-8") for name, page in NAMED.items()}
    made["license.md"] = f"# Licence\n\n```text\n{(ROOT / 'LICENSE').read_text(encoding='utf-8')}\n```\n"
    made["reference/commands.md"] = command_reference()
    made |= {f"reference/{package}.md": _reference_page(package) for package in PACKAGES}
    for name, text in made.items():
        files.append(File.generated(config, name, content=text))
    for notebook in sorted((ROOT / "notebooks").glob("*.ipynb")):
        text, pictures = notebook_page(notebook)
        files.append(File.generated(config, _page_of(notebook), content=text))
        for name, content in pictures.items():
            files.append(File.generated(config, f"notebooks/{name}", content=content))
    known = {file.src_uri for file in files}
    pages = [file for file in files if file.is_documentation_page() and not file.src_uri.startswith("reference/")]
    for path in sorted(set(_linked(pages))):
        if (page := _page_of(path)) not in known:
            files.append(File.generated(config, page, content=_source_page(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links of the repository into links of the site, and name languages as MkDocs knows them."""
    folder = _origin(page.file).parent
    if page.file.src_uri.startswith("reference/"):  # made for the site
        return markdown

    def in_site(found: re.Match[str]) -> str:
        target, hash_sign, anchor = found[1].partition("#")
        if not target or "://" in target or target.startswith("mailto:"):
            return found[0]
        place = relpath(_page_of((folder / target).resolve()), dirname(page.file.src_uri) or ".")
        return f"]({place}{hash_sign}{anchor})"

    text = _outside_of_fences(markdown, lambda part: _LINK.sub(in_site, part))
    return re.sub(r"^```python runnable$", "```python", text, flags=re.MULTILINE)


def _leaves(nav: Any) -> Iterable[str]:
    if isinstance(nav, str):
        yield nav
    for one in nav.values() if isinstance(nav, dict) else nav if isinstance(nav, list) else ():
        yield from _leaves(one)


def _outside_of_fences(markdown: str, change: Callable[[str], str]) -> str:
    return "".join(part if part.startswith("```") else change(part) for part in _FENCE.split(markdown))


def _origin(file: File) -> Path:
    """The file of the repository that a page is made of."""
    pages = {page: name for name, page in NAMED.items()}
    if file.src_uri in pages:
        return ROOT / pages[file.src_uri]
    return ROOT / (file.src_uri if file.src_uri.startswith("notebooks/") else f"docs/{file.src_uri}")


def _page_of(path: Path) -> str:
    """Where in the site a file of the repository is."""
    name = path.relative_to(ROOT).as_posix()
    if name in NAMED:
        return NAMED[name]
    if name == "LICENSE":
        return "license.md"
    if name.startswith("docs/"):
        return name.removeprefix("docs/")
    if name.startswith("notebooks/"):
        return name.removesuffix(".ipynb") + (".md" if name.endswith(".ipynb") else "")
    return f"source/{name.lstrip('.')}.md"  # MkDocs leaves out what is hidden


def _linked(pages: Iterable[File]) -> Iterable[Path]:
    """The files of source that pages link to."""
    for page in pages:
        folder = _origin(page).parent
        for target in _LINK.findall(_outside_of_fences(page.content_string, lambda part: part)):
            path = (folder / target.partition("#")[0]).resolve()
            if "://" not in target and path.is_file() and path.is_relative_to(ROOT):
                yield path


def _reference_page(package: str) -> str:
    """The public names of a package; of those that belong to another one, where they are described."""
    module = importlib.import_module(package)
    homes = {name: home.partition(".")[0] for name, home in module._HOME.items()}
    elsewhere = {name: home for name, home in homes.items() if home in PACKAGES and home != package}
    lines = [f"- `{package}.{name}` is [`{home}.{name}`]({home}.md#{home}.{name})" for name, home in elsewhere.items()]
    return "\n".join([f"# {package}", "", f"::: {package}", "", *lines]) + "\n"


def _source_page(path: Path) -> str:
    name = path.relative_to(ROOT).as_posix()
    fence = "````"
    return f"# {name}\n\n{fence}{path.suffix.lstrip('.') or 'text'}\n{path.read_text(encoding='utf-8')}\n{fence}\n"
