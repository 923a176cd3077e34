"""Options of heads as commands take them: words of the form key=value, and the places that some of them name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from adapters.language.known_llms import KNOWN_LLMS, check_llm
from core_encoder.errors import InputError
from core_encoder.models.known_encoders import encoders, text_source


def head_assignments(words: Sequence[str]) -> dict[str, Any]:
    """`["dropout=0.5", "heads=8"]` as options of a head.

    Raises:
        InputError: a word is not of this form.
    """
    given = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name or not value:
            raise InputError(f"head option {word!r} is not of the form key=value (for example dropout=0.5)")
        given[name] = value
    return given


def portable_head(head: Mapping[str, Any]) -> dict[str, Any]:
    """The options with the places of a text tower and a language model written whole, checked that they may be some.

    Raises:
        InputError: there is no such text tower or language model.
    """
    found = dict(head)
    if "text_tower" in found:
        text_source(found["text_tower"])
        found["text_tower"] = portable_source(found["text_tower"])
    if "llm" in found:
        check_llm(found["llm"])
        found["llm"] = found["llm"] if found["llm"] in KNOWN_LLMS else portable_source(found["llm"])
    return found


def portable_source(source: str) -> str:
    """A folder or file is recorded whole, so that the adapter finds its encoder from wherever it is used."""
    path = Path(source).expanduser()
    bundled = source in {info.name for info in encoders() if info.bundled}  # a name wins over a folder called so
    return str(path.absolute()) if path.exists() and not bundled else source
