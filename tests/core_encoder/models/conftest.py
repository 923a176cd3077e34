"""An encoder of somebody else, by the fixture `family` that a module of tests declares."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from core_encoder.encoder import Encoder, load_encoder
from tests.core_encoder.foreign_models import BUILDERS, foreign_folder


@pytest.fixture
def model(family: str) -> Any:
    return BUILDERS[family]()


@pytest.fixture
def encoder(family: str, model: Any, tmp_path: Path) -> Encoder:
    return load_encoder(foreign_folder(family, tmp_path / family, model))
