"""What the tests of decoding share: files that are written once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.core_encoder.video.numbered_videos import FILES, numbered, write


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The file of `FILES` under a name, written once."""
    folder = tmp_path_factory.mktemp("vidéos with spaces")

    def make(name: str) -> Path:
        path = folder / name
        return path if path.exists() else write(path, numbered(), **FILES[name])

    return make
