"""A notebook as it was run, as a page in Markdown: texts, code, what it printed, tables and pictures."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Any

import nbformat

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def notebook_page(path: Path) -> tuple[str, dict[str, bytes]]:
    """The page, and the files of its pictures by their names."""
    pictures: dict[str, bytes] = {}
    parts = []
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source)
        elif cell.cell_type == "code" and cell.source.strip():
            parts.append(f"```python\n{cell.source}\n```")
            parts += [_shown(output, path.stem, pictures) for output in cell.outputs]
    parts.append(f"The notebook itself: `notebooks/{path.name}`.")
    return "\n\n".join(part for part in parts if part) + "\n", pictures


def _shown(output: Any, name: str, pictures: dict[str, bytes]) -> str:
    if output.output_type == "stream":
        return _as_text(output.text)
    data = output.get("data", {})
    if "image/png" in data:
        file = f"{name}-{len(pictures) + 1}.png"
        pictures[file] = base64.b64decode(data["image/png"])
        return f"![{data.get('text/plain', 'picture')}]({file})"
    if "text/markdown" in data:
        return str(data["text/markdown"])
    return _as_text(data.get("text/plain", ""))


def _as_text(text: str) -> str:
    return f"```text\n{_COLOURS.sub('', text).rstrip()}\n```" if text.strip() else ""
