"""From one dataclass a command's options, its YAML keys and its Python arguments: its options are the only list.

Precedence: command line over `--config FILE` over the dataclass's defaults.
"""

from __future__ import annotations

import dataclasses
import inspect
import types
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import typer

from core_encoder.config import Option, config_from_dict, convert_options, options_of
from core_encoder.errors import InputError
from core_encoder.files.storage import read_yaml

Settings = TypeVar("Settings")


def command_signature(cls: type[Settings], run: Callable[[Settings], None]) -> Callable[..., None]:
    """A function for Typer whose options are those of the dataclass `cls`; it calls `run(cls(...))`.

    Values stay text until `config_from_dict` converts them, so that the command line, YAML and Python refuse the same
    things in the same words.
    """
    known = options_of(cls)
    parameters = [_parameter(one) for one in known.values()]
    config_option = typer.Option("--config", metavar="FILE", help="YAML file with any of these options as keys.")
    parameters.append(
        inspect.Parameter(
            "config", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[str | None, config_option]
        )
    )

    def command(*, config: str | None = None, **given: Any) -> None:
        values = {name: value for name, value in given.items() if value is not None and value != []}
        for name, value in values.items():
            if value == "":
                raise InputError(f"--{name.replace('_', '-')} is empty; give a value or leave it out")
        for name in values:
            about = known[name].field.metadata
            if not (about.get("positional") or about.get("alone")):
                values[name] = _values(values[name])
        settings = resolve(cls, config, values)
        apply_limits(settings)
        run(settings)

    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    command.__doc__ = run.__doc__
    return command


def apply_limits(settings: Any) -> None:
    """Hold this process to what a command's settings say of remote files."""
    reading = getattr(settings, "reading", None)
    if reading is not None:
        reading.apply()


def resolve(cls: type[Settings], config: str | Path | None, given: Mapping[str, Any]) -> Settings:
    """Merge a YAML file and the values given on top of it into the dataclass `cls`.

    Raises:
        InputError: the file is missing or no YAML mapping; a key is unknown (the nearest is offered) or ill-typed.
    """
    from_file: dict[str, Any] = {}
    if config is not None:
        from_file = {key: _pairs(value) for key, value in _mapping(config).items()}
        convert_options(cls, from_file, str(config))  # errors of the file name the file
        needed = [name for name, one in options_of(cls).items() if one.required]
        values = {name: given[name] for name in needed if name in given} | from_file
        if all(name in values for name in needed):
            config_from_dict(cls, values, str(config))
    return config_from_dict(cls, from_file | dict(given))


def _mapping(path: str | Path) -> dict[str, Any]:
    loaded = read_yaml(path)
    if loaded is None:
        return {}
    if not isinstance(loaded, dict):
        raise InputError(f"{path}: holds a {type(loaded).__name__}, expected keys and values such as `epochs: 20`")
    return {str(key): value for key, value in loaded.items()}


def gather_lists(arguments: Sequence[str], options: Sequence[str] = ("--grid", "--head")) -> list[str]:
    """Let one option take several words: `--grid lr=1,2 dropout=0` becomes `--grid lr=1,2 --grid dropout=0`."""
    gathered: list[str] = []
    current, fresh = "", False
    for word in arguments:
        if word in options:
            current, fresh = word, True
        elif current and "=" in word and not word.startswith("-"):
            if not fresh:
                gathered.append(current)
            fresh = False
        else:
            current = ""
        gathered.append(word)
    return gathered


def _parameter(one: Option) -> inspect.Parameter:
    field, inner = one.field, _without_none(one.hint)
    several = get_origin(inner) is tuple
    help_text = str(field.metadata.get("help", "")) + _default_text(one)
    flag = "--" + field.name.replace("_", "-")
    annotation: Any
    if field.metadata.get("positional"):
        annotation = Annotated[
            list[str] | None if several else str | None, typer.Argument(help=help_text, metavar=field.name.upper())
        ]
    elif inner is bool:
        annotation = Annotated[bool | None, typer.Option(f"{flag}/--no-{flag[2:]}", help=help_text, show_default=False)]
    else:
        option = typer.Option(flag, help=help_text, metavar=_metavar(inner), show_default=False)
        annotation = Annotated[list[str] | None if several else str | None, option]
    return inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _without_none(hint: Any) -> Any:
    if get_origin(hint) in (Union, types.UnionType):
        left = [part for part in get_args(hint) if part is not type(None)]
        return left[0]
    return hint


def _default_text(one: Option) -> str:
    default = one.field.default
    if one.required:
        return " (required)"
    if default in (None, (), "", False, dataclasses.MISSING):
        return ""
    return f" (default: {default:g})" if isinstance(default, float) else f" (default: {default})"


def _metavar(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return "|".join(str(choice) for choice in get_args(hint))
    if get_origin(hint) is tuple:
        return _metavar(get_args(hint)[0])
    return {int: "INT", float: "FLOAT", Path: "PATH"}.get(hint, "TEXT")


def _values(value: Any) -> Any:
    """`--layers 3,7` and `--layers 3 --layers 7` agree; `key=a,b` keeps its comma."""
    if not isinstance(value, list | tuple):
        return value
    return [part for word in value for part in ([word] if "=" in word else word.split(","))]


def _pairs(value: Any) -> Any:
    """A YAML mapping `{lr: [1e-3, 3e-4]}` as the words of the command line: `["lr=0.001,0.0003"]`."""
    if not isinstance(value, dict):
        return value
    listed = {key: choice if isinstance(choice, list) else [choice] for key, choice in value.items()}
    return [f"{key}={','.join(str(one) for one in choices)}" for key, choices in listed.items()]
