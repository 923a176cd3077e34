"""Texts in which a class name stands at `{}`: bundled sets, versioned, and those that a user gives. No torch.

A set is a text file with one template a line; blank lines and comments (`#`) are passed over. Its sha256 is that of the
file, so that a score can be traced to the very texts it was made with.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from core_encoder.errors import InputError
from core_encoder.files.storage import is_file, nearest

_BUNDLED = Path(__file__).parent / "prompts"


@dataclass(frozen=True)
class PromptTemplates:
    """Some templates, what they are called, and the sha256 of their file, or of their lines where there is none."""

    templates: tuple[str, ...]
    name: str
    sha256: str

    def describe(self) -> dict[str, str]:
        """What a result says of them."""
        return {"templates": self.name, "templates_sha256": self.sha256}


def bundled_templates() -> list[str]:
    """The names of the sets that come with the package."""
    return sorted(file.stem for file in _BUNDLED.glob("*.txt"))


def given_templates(templates: Sequence[str]) -> PromptTemplates:
    """Templates that are written out.

    Raises:
        InputError: one has no `{}`.
    """
    text = "".join(f"{one}\n" for one in templates)
    return PromptTemplates(_checked(templates, ""), "given", hashlib.sha256(text.encode()).hexdigest())


def read_templates(given: str) -> PromptTemplates:
    """The bundled set of a name, or those of a file.

    Raises:
        InputError: it is neither, or the file cannot be read, holds no template, or one without `{}`.
    """
    if given in bundled_templates():
        file, name, where = _BUNDLED / f"{given}.txt", given, ""
    elif is_file(given):
        file, name, where = Path(given), Path(given).name, f"{given}: "
    else:
        if "{}" in given:
            return given_templates([given])
        known = nearest(given, bundled_templates())
        raise InputError(
            f"template {given!r} has no {{}} where the label stands, nor is there a file of this name{known}"
        )
    lines = text_lines(file)
    if not lines:
        raise InputError(f"{where}no template: write one a line, with {{}} where the label stands")
    return PromptTemplates(_checked(lines, where), name, hashlib.sha256(file.read_bytes()).hexdigest())


def text_lines(path: str | Path) -> list[str]:
    """The lines of a text file, without blank ones and comments (`#`).

    Raises:
        InputError: it cannot be read.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not a UTF-8 text file"
        raise InputError(f"{path}: cannot be read ({reason})") from error
    lines = [line.strip() for line in text.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def _checked(templates: Sequence[str], where: str) -> tuple[str, ...]:
    for template in templates:
        if "{}" not in template:
            raise InputError(f"{where}template {template!r} has no {{}} where the label stands")
    return tuple(templates)
