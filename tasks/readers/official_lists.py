"""Lists of one name a line, as many data sets give their splits. No torch."""

from __future__ import annotations

from pathlib import Path

from core_encoder.errors import InputError
from core_encoder.files.storage import read_utf8


def read_list(file: Path) -> list[tuple[int, str]]:
    """The lines that hold anything, each with its number.

    Raises:
        InputError: the file is not UTF-8, holds nothing, or a line twice.
    """
    numbered = [(number, line.strip()) for number, line in enumerate(read_utf8(file).split("\n"), start=1)]
    found: dict[str, int] = {}
    for number, name in numbered:
        if name and found.setdefault(name, number) != number:
            raise InputError(f"{file}: line {number}: {name!r} is in line {found[name]} already; remove one")
    if not found:
        raise InputError(f"{file}: holds no name")
    return [(number, name) for name, number in found.items()]
