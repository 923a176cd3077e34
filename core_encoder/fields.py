"""Checks that frozen records make of their fields at birth, and their way back from JSON."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from core_encoder.errors import InputError
from core_encoder.files.storage import nearest

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_CLOCK = re.compile(r"(?:(\d+):)?(\d+):(\d+(?:\.\d*)?)", re.ASCII)
_Record = TypeVar("_Record", bound="DataclassInstance")


def set_field(record: object, name: str, value: object) -> None:
    """Give a field of a frozen record its canonical value, inside `__post_init__`."""
    object.__setattr__(record, name, value)


def finite_number(what: str, name: str, value: Any, at_least: float = -math.inf, above: float = -math.inf) -> float:
    """`value` as a float, so that 8 and 8.0 make equal records and equal JSON.

    Raises:
        InputError: not a number, not finite, or out of bounds; the message opens with `what` and names the field.
    """
    number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value < at_least or value <= above:
        bound = (
            f" of at least {at_least:g}" if at_least > -math.inf else f" above {above:g}" if above > -math.inf else ""
        )
        raise InputError(f"{what}: {name} must be a finite number{bound}, not {value!r}")
    return float(value) + 0.0  # + 0.0 turns -0.0 into 0.0


def whole_number(what: str, name: str, value: Any, at_least: int = 1, at_most: int | None = None) -> int:
    """`value` as an int.

    Raises:
        InputError: not a whole number, too small or too large; the message opens with `what` and names the field.
    """
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < at_least:
        raise InputError(f"{what}: {name} must be a whole number of at least {at_least}, not {value!r}")
    if at_most is not None and value > at_most:
        raise InputError(f"{what}: {name} must be at most {at_most}, not {value}")
    return int(value)


def seconds_of(value: Any) -> float:
    """A time in seconds, given as a number, as its text, or as `1:02` and `00:01:02.5`.

    Raises:
        ValueError: it is no time, negative, or not finite.
    """
    clock = _CLOCK.fullmatch(value.strip()) if isinstance(value, str) else None
    try:
        if clock is not None:
            hours, minutes, rest = (float(part or 0) for part in clock.groups())
            seconds = 3600 * hours + 60 * minutes + rest if rest < 60 and (minutes < 60 or not clock[1]) else math.nan
        else:
            seconds = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        seconds = math.nan
    if not 0.0 <= seconds < math.inf:
        raise ValueError(f"{value!r} is not a time")
    return seconds


def record_from_dict(cls: type[_Record], what: str, given: Mapping[str, Any]) -> _Record:
    """Build a frozen record from what its `describe` gave.

    Raises:
        InputError: an unknown or missing field, or a value the record refuses.
    """
    known = [f.name for f in fields(cls)]
    for name in given:
        if name not in known:
            raise InputError(f"{what}: unknown field {name!r}{nearest(str(name), known)}")
    try:
        return cls(**given)
    except TypeError as error:
        raise InputError(f"{what}: {error}") from error
