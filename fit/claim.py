"""The record of what decides a run, kept in its folder, so that no other run goes on from there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core_encoder.errors import InputError
from core_encoder.files.storage import read_config_json, write_json

_SHOWN = 3


@dataclass(frozen=True)
class Aspect:
    """One entry of a record that makes a run another one when it differs.

    What changed is told from the mapping recorded as `details`, or else by `otherwise`, or else by two short values.
    """

    name: str
    details: str = ""
    otherwise: str = ""


def claim(file: Path, record: Mapping[str, Any], aspects: Sequence[Aspect], advice: str) -> None:
    """Make the folder of `file` that of the run that `record` describes, which begins it or goes on with it.

    Raises:
        InputError: it holds another run; the line says what differs, and ends in `advice`.
    """
    check_claim(file, record, aspects, advice)
    if not file.exists():
        write_json(file, dict(record))


def check_claim(file: Path, record: Mapping[str, Any], aspects: Sequence[Aspect], advice: str) -> None:
    """Refuse a folder that holds another run; an aspect that either record does not know is not compared.

    Raises:
        InputError: it holds another run; the line says what differs, and ends in `advice`.
    """
    begun = read_config_json(file) if file.exists() else {}
    if not isinstance(begun, dict):
        raise InputError(f"{file}: not the record of a run; {advice}")
    for aspect in aspects:
        before, now = begun.get(aspect.name), record.get(aspect.name)
        if None not in (before, now) and before != now:
            detail = difference(begun.get(aspect.details), record.get(aspect.details)) or aspect.otherwise
            if not detail and all(isinstance(value, str | int) and len(str(value)) < 40 for value in (before, now)):
                detail = f"was {before!r}, now {now!r}"
            told = f" ({detail})" if detail else ""
            raise InputError(f"{file.parent}: was begun with another {aspect.name}{told}; {advice}")


def difference(before: Any, now: Any) -> str:
    """What changed between two mappings, in one line: the first three entries, and how many more; else empty."""
    if not isinstance(before, Mapping) or not isinstance(now, Mapping):
        return ""
    changed = [
        f"{key} was {before.get(key)!r}, now {now.get(key)!r}"
        for key in [*now, *(key for key in before if key not in now)]
        if before.get(key) != now.get(key)
    ]
    more = f" and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
    return ", ".join(changed[:_SHOWN]) + more
