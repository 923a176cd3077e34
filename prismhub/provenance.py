"""What a record keeps of a command: its line and its settings, without what is secret in the addresses."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

from core_encoder.config import config_to_dict
from core_encoder.files.urls import as_location, without_secrets


def settings_record(settings: Any) -> dict[str, Any]:
    """The settings, ready for JSON."""
    return {name: _recorded(value) for name, value in config_to_dict(settings).items()}


def _recorded(value: Any) -> Any:
    """A value as a record holds it: paths as text, addresses without their secrets."""
    if isinstance(value, list):
        return [_recorded(one) for one in value]
    if isinstance(value, Path):
        return str(as_location(value))
    return without_secrets(value) if isinstance(value, str) else value


def run_command() -> str | None:
    """The command line of this process, where it is one of ours."""
    program = Path(sys.argv[0])
    ours = program.stem == "prismhub" or program.parts[-2:] == ("prismhub", "__main__.py")
    return shlex.join(["prismhub", *map(without_secrets, sys.argv[1:])]) if ours else None
