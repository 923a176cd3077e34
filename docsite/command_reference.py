"""Every command and option, from the same fields that make the command line."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer

from prismhub.cli import app


def command_reference() -> str:
    """A page in Markdown: a section a command, with its options in a table."""
    parts = ["# Commands", "Values in brackets are defaults. A YAML file given with `--config` has the same keys."]
    for name, command in _commands(typer.main.get_command(app), "prismhub"):
        parts += [f"## `{name}`", command.help or ""]
        rows = [_row(one) for one in command.params if one.name != "help"]
        if rows:
            parts.append("\n".join(["| option | what it says |", "| --- | --- |", *rows]))
    return "\n\n".join(parts) + "\n"


def _commands(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    if not hasattr(command, "commands"):
        yield name, command
    for word, one in getattr(command, "commands", {}).items():
        yield from _commands(one, f"{name} {word}")


def _row(parameter: Any) -> str:
    names = [*parameter.opts, *parameter.secondary_opts] if parameter.opts[0].startswith("-") else [parameter.name]
    said = " ".join((getattr(parameter, "help", None) or "").split()).replace("|", "\\|").replace("<", "&lt;")
    default = getattr(parameter, "show_default", None)
    shown = f" [{default}]" if isinstance(default, str) else ""
    return f"| {', '.join(f'`{one}`' for one in names)} | {said}{shown} |"
