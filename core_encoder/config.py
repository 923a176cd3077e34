"""Frozen dataclasses as the one description of every option: their fields become JSON and command-line options."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from core_encoder.errors import InputError
from core_encoder.files.storage import nearest

Config = TypeVar("Config")


def option(default: Any, help: str, *, grid: bool = True) -> Any:
    """A config field with its help text; `grid=False` where settings trained on one pass cannot differ."""
    return dataclasses.field(default=default, metadata={"help": help, "grid": grid})


def config_from_dict(cls: type[Config], values: Mapping[str, Any], where: str = "") -> Config:
    """Build the dataclass `cls` from JSON-like values; text is converted (`"1e-3"` -> `0.001`), lists become tuples.

    Raises:
        InputError: an unknown key (the nearest known one is offered), or a value of the wrong type or range.
    """
    known = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]
    prefix = f"{where}: " if where else ""
    converted = {}
    hints = get_type_hints(cls)
    for key, value in values.items():
        if key not in known:
            raise InputError(f"{prefix}unknown option {key!r}{nearest(str(key), known)}")
        converted[key] = _convert(hints[key], value, f"{prefix}option {key!r}")
    try:
        return cls(**converted)
    except InputError as error:
        raise InputError(f"{prefix}{error}") from error


def config_to_dict(config: Any) -> dict[str, Any]:
    """Every field of a config dataclass, ready for JSON; `config_from_dict` reads it back to an equal config."""
    return {
        field.name: list(value) if isinstance(value := getattr(config, field.name), tuple) else value
        for field in dataclasses.fields(config)
    }


def expand_grid(choices: Mapping[str, Iterable[Any]]) -> list[dict[str, Any]]:
    """`{"lr": [1e-3, 3e-4], "dropout": [0, 0.5]}` -> the four settings, the last key varying fastest."""
    names = list(choices)
    return [dict(zip(names, values, strict=True)) for values in itertools.product(*(choices[name] for name in names))]


def parse_grid(texts: Iterable[str]) -> list[dict[str, Any]]:
    """`["lr=1e-3,3e-4", "dropout=0,0.5"]` -> the four settings, their values still text.

    Raises:
        InputError: a text is not `option=value,value`, or an option comes twice.
    """
    choices: dict[str, list[str]] = {}
    for text in texts:
        name, equals, values = text.partition("=")
        listed = [value.strip() for value in values.split(",")]
        if not (equals and name.strip() and all(listed)):
            raise InputError(f"grid {text!r} is not of the form option=value,value (for example lr=1e-3,3e-4)")
        if name.strip() in choices:
            raise InputError(f"grid: option {name.strip()!r} is given twice; list its values in one place")
        choices[name.strip()] = listed
    return expand_grid(choices)


def _convert(hint: Any, value: Any, what: str) -> Any:
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return value if isinstance(value, hint) else config_from_dict(hint, value, what)
    from pydantic import ConfigDict, TypeAdapter, ValidationError

    several = (value,) if isinstance(value, str) and _is_choices(hint) else value  # one of many, alone
    try:
        return TypeAdapter(hint, config=ConfigDict(allow_inf_nan=False)).validate_python(several)
    except ValidationError as error:
        reason = error.errors()[0]["msg"].replace("valid tuple", "list, such as [a, b]")
        raise InputError(f"{what} cannot be {value!r}: {reason[:1].lower()}{reason[1:]}") from error


def _is_choices(hint: Any) -> bool:
    """Whether an option takes several of some named choices; of free texts, one alone may be a mistyped list."""
    return get_origin(hint) is tuple and get_origin(get_args(hint)[0]) is Literal
