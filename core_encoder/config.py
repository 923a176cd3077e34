"""Frozen dataclasses as the one description of every option: their fields become JSON and command-line options."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from core_encoder.errors import InputError
from core_encoder.files.storage import nearest

Config = TypeVar("Config")


def option(
    default: Any = dataclasses.MISSING,
    help: str = "",
    *,
    grid: bool = True,
    positional: bool = False,
    alone: bool = False,
) -> Any:
    """A config field with its help text; without a default it must be given.

    `grid=False` where settings trained on one pass cannot differ; `positional` options need no name in a command line.
    Of a list, `alone` takes each text as it is: one stands for a list of one, and a comma is part of it.
    """
    about = {"help": help, "grid": grid, "positional": positional, "alone": alone}
    return dataclasses.field(default=default, metadata=about)


def group() -> Any:
    """A field that holds another config dataclass, whose options are given and stored among those around it."""
    return dataclasses.field(metadata={"group": True})


@dataclasses.dataclass(frozen=True)
class Option:
    """An option of a config dataclass, or of one of its groups: then `group` names the field that holds it."""

    field: dataclasses.Field[Any]
    hint: Any
    group: str = ""

    @property
    def required(self) -> bool:
        """Whether it must be given."""
        return self.field.default is dataclasses.MISSING and self.field.default_factory is dataclasses.MISSING


def options_of(cls: type[Any]) -> dict[str, Option]:
    """Every option of a config dataclass by name, those of its groups among them, in order."""
    hints, found = get_type_hints(cls), dict[str, Option]()
    for field in dataclasses.fields(cls):
        mine = {field.name: Option(field, hints[field.name])}
        if field.metadata.get("group"):
            inner = options_of(hints[field.name])
            mine = {name: dataclasses.replace(one, group=field.name) for name, one in inner.items()}
        assert not mine.keys() & found.keys(), f"{cls.__name__}: two options of one name: {mine.keys() & found.keys()}"
        found |= mine
    return found


def config_from_dict(cls: type[Config], values: Mapping[str, Any], where: str = "") -> Config:
    """Build the dataclass `cls` from JSON-like values; text is converted (`"1e-3"` -> `0.001`), lists become tuples.

    Raises:
        InputError: an unknown key (the nearest known one is offered), one that is missing, or a value of the wrong type
            or range.
    """
    prefix = f"{where}: " if where else ""
    known = options_of(cls)
    converted = convert_options(cls, values, where)
    for name, one in known.items():
        if one.required and name not in converted:
            raise InputError(f"{prefix}option {name!r} is missing: {one.field.metadata.get('help') or 'it is needed'}")
    hints = get_type_hints(cls)
    groups = {field.name for field in dataclasses.fields(cls) if field.metadata.get("group")}  # type: ignore[arg-type]
    try:
        inner = {
            name: hints[name](**{key: value for key, value in converted.items() if known[key].group == name})
            for name in groups
        }
        return cls(**inner, **{key: value for key, value in converted.items() if not known[key].group})
    except InputError as error:
        raise InputError(f"{prefix}{error}") from error


def convert_options(cls: type[Any], values: Mapping[str, Any], where: str = "") -> dict[str, Any]:
    """The values that options of `cls` get from JSON-like ones, each by itself.

    Raises:
        InputError: an unknown key (the nearest known one is offered), or a value of the wrong type.
    """
    known, prefix = options_of(cls), f"{where}: " if where else ""
    for key in values:
        if key not in known:
            raise InputError(f"{prefix}unknown option {key!r}{nearest(str(key), known)}")
    given = {
        key: (value,) if isinstance(value, str) and known[key].field.metadata.get("alone") else value
        for key, value in values.items()
    }
    return {key: _convert(known[key].hint, value, f"{prefix}option {key!r}") for key, value in given.items()}


def config_to_dict(config: Any) -> dict[str, Any]:
    """Every option of a config dataclass, ready for JSON; `config_from_dict` reads it back to an equal config."""
    values = {
        name: getattr(getattr(config, one.group) if one.group else config, name)
        for name, one in options_of(type(config)).items()
    }
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


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
