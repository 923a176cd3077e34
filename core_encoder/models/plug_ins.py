"""Encoders of third parties, found by the entry point `prismhub.encoders` and imported when one is asked for. No torch.

    [project.entry-points."prismhub.encoders"]
    my-encoder = "my_package:load"

`load(folder)` returns an `Encoder`. It is given None where the encoder is asked for by its name, `my-encoder`, and the
folder where one is whose `config.json` has that name as its `model_type`.
"""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import TYPE_CHECKING

from core_encoder.errors import InputError, one_line

if TYPE_CHECKING:
    from core_encoder.encoder import Encoder

ENTRY_POINTS = "prismhub.encoders"


def plugged_encoders() -> dict[str, str]:
    """The names of plugged-in encoders, each with the package it comes from; nothing is imported."""
    return {point.name: owner_of(point) for point in importlib.metadata.entry_points(group=ENTRY_POINTS)}


def load_plugged(name: str, folder: Path | None) -> Encoder:
    """The encoder of a plug-in, by its name or of a folder.

    Raises:
        InputError: no such plug-in, it cannot be imported, fails, or returns no encoder.
    """
    from core_encoder.encoder import Encoder

    for point in importlib.metadata.entry_points(group=ENTRY_POINTS, name=name):
        try:
            found = point.load()(folder)
        except InputError:
            raise
        except Exception as error:  # a plug-in may fail in any way
            reason = one_line(str(error)) or type(error).__name__
            raise InputError(f"encoder {name!r} of {owner_of(point)} cannot be loaded: {reason}") from error
        if not isinstance(found, Encoder):
            raise InputError(f"encoder {name!r} of {owner_of(point)}: it returned a {type(found).__name__}, no Encoder")
        return found
    raise InputError(f"no package that is installed has an encoder called {name!r}")


def owner_of(point: importlib.metadata.EntryPoint) -> str:
    """The package that an entry point comes from."""
    return f"package {point.dist.name!r}" if point.dist else repr(point.value)
