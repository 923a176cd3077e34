"""The encoder that an adapter was tuned with, whole: a folder of its own beside the head."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from adapters.card import OWN_ENCODER_FOLDER
from core_encoder.encoder import Encoder, save_encoder


@dataclass(frozen=True, eq=False)
class OwnEncoder:
    """An encoder in memory, or the folder in which one lies."""

    source: Encoder | Path

    def write(self, folder: Path, base: str) -> None:
        """Write it into its folder below that of an adapter, as `load_encoder` and `transformers` read it."""
        target = folder / OWN_ENCODER_FOLDER
        if isinstance(self.source, Path):
            shutil.copytree(self.source, target)
        else:
            save_encoder(self.source, target)
